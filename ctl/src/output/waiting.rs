//! What is told, on standard error, while an answer is waited for: nothing of what is there in a
//! moment; then a spinner on a terminal, otherwise a line now and then.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, sleep};

use super::{
    human::span,
    progress::{FIRST_LINE_AFTER, LINE_EVERY, TICK},
};

/// Waits for an answer, and says for what as long as there is none.
pub async fn tell<T>(what: &str, answer: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        answer = answer => answer,
        never = say(what) => match never {},
    }
}

async fn say(what: &str) -> std::convert::Infallible {
    let began = Instant::now();
    sleep(FIRST_LINE_AFTER).await;
    // Cleared when this is dropped, which is when the answer has come.
    let spinner = std::io::stderr().is_terminal().then(|| Spinner::new(what));
    loop {
        if spinner.is_none() {
            eprintln!("no answer for {} yet: {what}", span(began.elapsed()));
        }
        sleep(LINE_EVERY).await;
    }
}

struct Spinner(ProgressBar);

impl Spinner {
    fn new(what: &str) -> Self {
        let bar = ProgressBar::no_length().with_message(format!("no answer yet: {what}"));
        if let Ok(style) = ProgressStyle::with_template("{msg} {spinner} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self(bar)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
