//! Notes now and then which timestamp was the last, so that a time can be told from a timestamp.

use std::{sync::Arc, time::Duration};

use seawall_common::Result;

use super::Allocator;
use crate::{
    operation::{Coordination, Wall, clock},
    state::{
        Command,
        timestamps::{self, NOTE_SPACING_MS, Note},
    },
};

/// For as long as it runs: while this member leads, gives timestamps, and its clock can be believed.
pub async fn note_times(allocator: Arc<Allocator>, coordination: Arc<Coordination>) {
    let mut last = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(NOTE_SPACING_MS)).await;
        if !allocator.node.leadership().borrow().is_ours || clock::doubt(&coordination).is_some() {
            continue;
        }
        match allocator.note(last, &coordination.wall_unix_ms).await {
            Ok(noted) => last = noted,
            // The next one is as good.
            Err(e) => tracing::debug!("the time of a timestamp was not noted: {e}"),
        }
    }
}

impl Allocator {
    /// Notes the greatest timestamp of now, unless it still is `last`; answers it.
    async fn note(&self, last: u64, wall: &Wall) -> Result<u64> {
        let Some((note, term)) = self.greatest(wall) else {
            return Ok(last);
        };
        // Another leader may have given greater ones before now, if this is none any more.
        if note.timestamp == last || self.node.prove_leadership().await? != term {
            return Ok(last);
        }
        let command = Command::Timestamps(timestamps::Command::Note(note));
        self.node.propose(command).await?;
        Ok(note.timestamp)
    }

    /// The greatest that was taken, and the time at which nobody can take another one.
    fn greatest(&self, wall: &Wall) -> Option<(Note, u64)> {
        let block = self.block();
        let unix_ms = wall();
        block.as_ref().map(|block| {
            let timestamp = block.next - 1;
            (Note { timestamp, unix_ms }, block.term)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timestamps::{
        BLOCK,
        bounds_tests::{allocator, group_of_one},
    };

    fn at(unix_ms: u64) -> Wall {
        Box::new(move || unix_ms)
    }

    #[tokio::test]
    async fn what_was_given_before_a_note_is_not_above_it_and_what_comes_later_is() {
        let directory = tempfile::tempdir().unwrap();
        let node = group_of_one(directory.path()).await;
        let allocator = allocator(&node);
        let noted = |unix_ms| node.look(|state| state.timestamps.notes_at(unix_ms).0);
        // Nothing was given: nothing is said.
        assert_eq!(allocator.note(0, &at(1_000)).await.unwrap(), 0);
        assert_eq!(noted(u64::MAX), None);

        let mut given = allocator.fetch(3).await.unwrap() + 2;
        let mut last = 0;
        for minute in 1..=3 {
            let unix_ms = minute * NOTE_SPACING_MS;
            last = allocator.note(last, &at(unix_ms)).await.unwrap();
            let timestamp = last;
            assert_eq!(noted(unix_ms), Some(Note { timestamp, unix_ms }));
            assert_eq!(timestamp, given);
            // The second time to the very end of the block.
            let count = if minute == 1 {
                BLOCK - given % BLOCK
            } else {
                5
            };
            let first = allocator
                .fetch(u32::try_from(count).unwrap())
                .await
                .unwrap();
            assert!(first > timestamp);
            given = first + count - 1;
        }
        let unchanged = allocator
            .note(given, &at(9 * NOTE_SPACING_MS))
            .await
            .unwrap();
        assert_eq!(
            (unchanged, noted(u64::MAX).unwrap().timestamp),
            (given, last)
        );
        node.stop().await;
    }
}
