//! The first thing done on a server that was started on restored files.

use seawall_common::{Result, position::Position};

use super::{
    MariaDb,
    replication::set_applied_position,
    status::{later, reached},
};

impl MariaDb {
    /// The files are those of another server at `position`. Whom that one replicated from is
    /// forgotten, and this server's history goes on from `position`:
    ///
    /// - a copy of a replica brings `gtid_slave_pos` along in a table;
    /// - a copy of a primary has none, and would begin to count at 1 again;
    /// - binary logs of an earlier life of this server, in a directory of their own that a restore
    ///   does not touch, may reach further than the copy: they are no part of its history.
    ///
    /// Called again it finds all done and does nothing. The server's own id is not looked at.
    pub(super) async fn adopt_history(&self, position: &Position) -> Result<()> {
        let mut session = self.session().await?;
        self.stop_replication_threads(&mut session).await?;
        session.run("RESET SLAVE ALL").await?;
        let reached = reached(&mut session).await?;
        let goal = later(&reached.applied, position)?;
        if !goal.covers(&reached.with_log) {
            tracing::warn!(
                logged = %reached.with_log, restored = %position,
                "removing binary logs of an earlier life of this server"
            );
            session.run("RESET MASTER").await?;
        }
        if reached.applied != goal {
            set_applied_position(&mut session, &goal).await?;
        }
        Ok(())
    }
}
