//! One run of a step, as any number of callers watch it.

use std::sync::{Arc, Mutex, PoisonError};

use seawall_common::{Error, repository::Progress};
use seawall_proto::v1;
use tokio::{sync::watch, time::Instant};

use super::pace::Pace;
use crate::journal::Outcome;

/// What a run came to.
#[derive(Clone, Debug)]
pub enum Answer {
    Done(Outcome),
    Failed(Error),
    /// The attempt is given up here; no step of it will be run any more.
    Undone(Error),
}

impl Answer {
    pub fn result_name(&self) -> &'static str {
        match self {
            Answer::Done(_) => "done",
            Answer::Failed(_) => "failed",
            Answer::Undone(_) => "undone",
        }
    }
}

/// How far a step has come.
#[derive(Clone, Debug, Default)]
pub struct StepProgress {
    pub transfer: Progress,
    message: Arc<Mutex<String>>,
    pace: Arc<Mutex<Pace>>,
}

impl StepProgress {
    /// One short line: what is being done now.
    pub fn say(&self, message: impl Into<String>) {
        *self.message.lock().unwrap_or_else(PoisonError::into_inner) = message.into();
    }

    pub fn to_proto(&self) -> v1::Progress {
        let transfer = self.transfer.snapshot();
        let bytes_per_second = self
            .pace
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .look(Instant::now(), transfer.bytes_done);
        let left = transfer.bytes_total.saturating_sub(transfer.bytes_done);
        v1::Progress {
            bytes_done: transfer.bytes_done,
            bytes_total: transfer.bytes_total,
            files_done: transfer.files_done,
            files_total: transfer.files_total,
            message: self
                .message
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            bytes_per_second,
            left_ms: match transfer.bytes_total {
                0 => None,
                _ => left.saturating_mul(1000).checked_div(bytes_per_second),
            },
        }
    }
}

#[derive(Clone, Debug)]
pub struct Run {
    pub progress: StepProgress,
    ended: watch::Receiver<Option<Answer>>,
}

impl Run {
    pub(super) fn begin() -> (Self, watch::Sender<Option<Answer>>) {
        let (ending, ended) = watch::channel(None);
        let run = Self {
            progress: StepProgress::default(),
            ended,
        };
        (run, ending)
    }

    pub(super) fn over(answer: Answer) -> Self {
        Self {
            progress: StepProgress::default(),
            ended: watch::channel(Some(answer)).1,
        }
    }

    /// One that is done when `before` has ended, however that ends, with the damage that it found.
    pub(super) fn after(before: Run) -> Self {
        let (run, ending) = Self::begin();
        tokio::spawn(async move {
            let damage = match before.end().await {
                Answer::Done(outcome) => outcome.damage(),
                Answer::Failed(_) | Answer::Undone(_) => Outcome::default(),
            };
            ending.send_replace(Some(Answer::Done(damage)));
        });
        run
    }

    /// Waits for the end.
    pub async fn end(&self) -> Answer {
        let mut ended = self.ended.clone();
        let answer = ended
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|answer| answer.clone());
        answer.unwrap_or_else(|| Answer::Failed(Error::internal("the step ended without a result")))
    }
}
