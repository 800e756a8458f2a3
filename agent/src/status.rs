//! Whether the tablet serves, and what an operator reads about it in `ListTablets`.

use std::{
    sync::Once,
    time::{Duration, Instant},
};

use seawall_common::error::shortened;
use seawall_proto::v1::{self, TabletType};

use crate::{
    journal::{Contents, OperationKind, OperationState},
    live::Observation,
    shard::Shard,
    tablet::Tablet,
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A database that takes longer to answer counts as not answering.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
/// Bytes of a position that is told: whoever says more than fits into a heartbeat is not heard at all.
const POSITION_BYTES_MAX: usize = 32 * 1024;
/// A look older than this proves nothing.
const LOOK_AGE_MAX: Duration = Duration::from_secs(8);

/// Looks at the database each second, for ever.
pub async fn watch(tablet: &Tablet) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        look(tablet).await;
    }
}

/// Looks at the database once.
pub async fn look(tablet: &Tablet) {
    let answer = tokio::time::timeout(LOOK_LIMIT, async {
        let running = tablet.engine.is_running().await?;
        let health = match running {
            true => Some(tablet.engine.health().await),
            false => None,
        };
        Ok::<_, seawall_common::Error>((running, health))
    })
    .await;
    let (running, health, error) = match answer {
        Ok(Ok((running, None))) => (running, None, None),
        Ok(Ok((running, Some(Ok(health))))) => (running, Some(health), None),
        Ok(Ok((running, Some(Err(error))))) => (running, None, Some(error.to_string())),
        Ok(Err(error)) => (false, None, Some(error.to_string())),
        Err(_) => (true, None, Some("the database does not answer".to_owned())),
    };
    let version = match &health {
        Some(health) => health.version.clone(),
        None => tablet.engine.program_version().await.unwrap_or_default(),
    };
    tablet.live.observe(Observation {
        at: Instant::now(),
        running,
        version,
        health,
        error,
    });
}

/// Whether traffic may be sent to this tablet; otherwise why not.
pub fn serving(tablet: &Tablet) -> Result<(), String> {
    is_fit(tablet)?;
    judge_type(&tablet.journal.read())
}

/// Whether the tablet could serve if its type allows it.
fn is_fit(tablet: &Tablet) -> Result<(), String> {
    let contents = tablet.journal.read();
    if let Some(work) = work(&contents) {
        return Err(work);
    }
    tablet.check_recovered().map_err(|e| e.to_string())?;
    let observed = tablet
        .live
        .observed()
        .filter(|observation| observation.at.elapsed() < LOOK_AGE_MAX)
        .ok_or("the database has not been looked at yet")?;
    judge(tablet, &observed)
}

fn judge(tablet: &Tablet, observed: &Observation) -> Result<(), String> {
    let trouble = tablet.live.trouble();
    let or_trouble = |why: &str| match trouble.is_empty() {
        true => Err(why.to_owned()),
        false => Err(trouble.clone()),
    };
    if !observed.running {
        return or_trouble("the database is not running");
    }
    let Some(health) = &observed.health else {
        return Err(observed
            .error
            .clone()
            .unwrap_or_else(|| "the database does not answer".to_owned()));
    };
    if tablet.engine.replicates() {
        let shard = tablet.shard.now();
        if shard.is_led_by(&tablet.alias) {
            judge_primary(&shard, health.read_only)?;
        } else {
            judge_replica(tablet, &shard, &health.replication).or_else(|why| or_trouble(&why))?;
        }
    }
    Ok(())
}

/// Whether this tablet's type is one that serves; otherwise why not.
fn judge_type(contents: &Contents) -> Result<(), String> {
    match TabletType::try_from(contents.shard.tablet_type).unwrap_or(TabletType::Unspecified) {
        TabletType::Primary | TabletType::Replica | TabletType::Rdonly => Ok(()),
        TabletType::Unspecified => Err("no coordinator has told this tablet's type yet".to_owned()),
        other => Err(format!("its type is {}", type_name(other))),
    }
}

fn judge_primary(shard: &Shard, read_only: bool) -> Result<(), String> {
    if !shard.confirmed {
        return Err(format!(
            "primary of epoch {}, which no coordinator has confirmed since the agent started",
            shard.epoch
        ));
    }
    match read_only {
        true => Err(format!("primary of epoch {}, still read-only", shard.epoch)),
        false => Ok(()),
    }
}

fn judge_replica(
    tablet: &Tablet,
    shard: &Shard,
    replication: &crate::engine::Replication,
) -> Result<(), String> {
    if !replication.configured && shard.epoch == 0 {
        return Err("the shard has no primary yet".to_owned());
    }
    if let Some(error) = &replication.error {
        return Err(format!("replication has failed: {error}"));
    }
    if !replication.wanted {
        return Err("replication is stopped".to_owned());
    }
    if !replication.running {
        return Err("replication cannot reach its primary".to_owned());
    }
    if !tablet.live.has_caught_up() {
        return Err(match replication.lag {
            Some(lag) => format!("catching up: {} s behind", lag.as_secs()),
            None => "catching up".to_owned(),
        });
    }
    let limit = tablet.settings.lag_limit;
    match replication.lag {
        Some(lag) if !limit.is_zero() && lag > limit => {
            Err(format!("{} s behind its primary", lag.as_secs()))
        }
        _ => Ok(()),
    }
}

/// What an open operation is doing, if there is one that keeps the tablet from serving.
fn work(contents: &Contents) -> Option<String> {
    let operation = contents.owner()?;
    let kind = match operation.kind {
        OperationKind::Backup => "backup",
        OperationKind::Restore => "restore",
        OperationKind::Reparent => "change of primary",
        OperationKind::Aside => "verification",
    };
    Some(match &operation.state {
        OperationState::GivingUp { reason, .. } => {
            format!("putting the database back after a {kind}: {reason}")
        }
        _ => format!(
            "{kind}: {}",
            operation
                .last_step()
                .map_or("begins", |record| record.step.name())
        ),
    })
}

/// Said once: it is asked each second.
fn is_told(position: &str) -> bool {
    static TOO_LONG: Once = Once::new();
    let is_told = position.len() <= POSITION_BYTES_MAX;
    if !is_told {
        TOO_LONG.call_once(|| {
            tracing::warn!(
                "the database's position has {} bytes, more than {POSITION_BYTES_MAX}: \
                 the coordinator is not told it",
                position.len()
            );
        });
    }
    is_told
}

/// The tablet as its heartbeat tells it.
pub fn status(tablet: &Tablet) -> v1::TabletStatus {
    let contents = tablet.journal.read();
    let observed = tablet.live.observed();
    let health = observed.as_ref().and_then(|o| o.health.as_ref());
    let serves = serving(tablet);
    let replication = health.map(|health| &health.replication);
    v1::TabletStatus {
        database_running: observed.as_ref().is_some_and(|o| o.running),
        position: health
            .map(|health| health.position.to_string())
            .filter(|position| is_told(position))
            .unwrap_or_default(),
        read_only: health.is_some_and(|health| health.read_only),
        replicating: replication.is_some_and(|replication| replication.running),
        lag_ms: replication
            .and_then(|replication| replication.lag)
            .map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
        serving: serves.is_ok(),
        message: shortened(match &serves {
            Ok(()) => tablet.live.trouble(),
            Err(why) => why.clone(),
        }),
        engine_version: observed
            .as_ref()
            .map_or_else(String::new, |observed| shortened(observed.version.clone())),
        operation_id: contents
            .owner()
            .map_or_else(String::new, |operation| operation.id.to_string()),
        step: contents
            .owner()
            .and_then(|operation| operation.last_step())
            .map_or_else(String::new, |record| record.step.name().to_owned()),
        caught_up: is_fit(tablet).is_ok(),
        can_read_repository: tablet.settings.repository.has_identity(),
        can_test_restore: tablet.settings.scratch_dir.is_some()
            && !tablet.live.has_scratch_trouble()
            && tablet.engine.can_start_scratch(),
        log_kept_ms: health
            .and_then(|health| health.log_kept)
            .map(|kept| u64::try_from(kept.as_millis()).unwrap_or(u64::MAX)),
    }
}

fn type_name(tablet_type: TabletType) -> String {
    tablet_type
        .as_str_name()
        .trim_start_matches("TABLET_TYPE_")
        .to_lowercase()
}
