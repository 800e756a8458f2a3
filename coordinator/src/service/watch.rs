//! Streams that tell a client of changes: bounded, ended when the client is gone. When another member
//! leads they end as all streams do ([`crate::ending`]).

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use seawall_common::Error;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::operation::Coordination;

pub type Updates<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Messages that wait for a slow client; then the watcher waits with it.
const WAITING_MAX: usize = 4;
/// What is not announced by a change (progress, silence) is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a look came to.
pub struct Look<T> {
    pub message: T,
    /// Nothing follows.
    pub is_last: bool,
}

/// Sends what `look` sees: at once, at each change, and at least every `repeat_after`.
pub fn changes<T, F>(
    context: Arc<Coordination>,
    repeat_after: Option<Duration>,
    look: F,
) -> Updates<T>
where
    T: Clone + PartialEq + Send + 'static,
    F: Fn(&Coordination) -> Result<Look<T>, Error> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        if let Err(e) = follow(&context, repeat_after, look, &sender).await {
            let _ = sender.send(Err(e.into())).await;
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

async fn follow<T, F>(
    context: &Coordination,
    repeat_after: Option<Duration>,
    look: F,
    sender: &mpsc::Sender<Result<T, Status>>,
) -> Result<(), Error>
where
    T: Clone + PartialEq,
    F: Fn(&Coordination) -> Result<Look<T>, Error>,
{
    let mut applied = context.group.applied();
    let mut sent: Option<(T, tokio::time::Instant)> = None;
    loop {
        applied.mark_unchanged();
        let seen = look(context)?;
        let is_due = sent.as_ref().is_none_or(|(before, at)| {
            *before != seen.message || repeat_after.is_some_and(|after| at.elapsed() >= after)
        });
        if is_due {
            if sender.send(Ok(seen.message.clone())).await.is_err() {
                return Ok(());
            }
            sent = Some((seen.message, tokio::time::Instant::now()));
        }
        if seen.is_last {
            return Ok(());
        }
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return Ok(()) },
            () = sender.closed() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}
