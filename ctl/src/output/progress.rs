//! How far operations are, on standard error: a bar for each on a terminal, otherwise a line at
//! each new step and now and then in between, once it has taken a moment.

use std::{
    collections::HashMap,
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use seawall_common::{error::one_line, repository::ProgressSnapshot};
use seawall_proto::v1::Operation;

use super::{
    human::{pace, percent, size},
    json::{kind_and_alias, word},
    table::{current_step, shard},
};
use crate::operation::is_final;

/// What is over sooner is told by its result alone.
pub const FIRST_LINE_AFTER: Duration = Duration::from_secs(2);
pub const LINE_EVERY: Duration = Duration::from_secs(10);
pub const TICK: Duration = Duration::from_millis(120);
const BAR: &str = "{prefix} {msg} [{bar:30}] {percent}% {binary_bytes} of {binary_total_bytes} \
                   {binary_bytes_per_sec} {eta} left";
/// The agent says how fast it goes: a watch that begins in the middle could not know.
const OPERATION_BAR: &str =
    "{prefix} [{bar:30}] {percent}% {binary_bytes} of {binary_total_bytes} {msg}";

pub struct Progress {
    began: Instant,
    shown: Shown,
}

enum Shown {
    Bars {
        all: MultiProgress,
        bars: HashMap<String, ProgressBar>,
    },
    /// For each operation what was said last.
    Lines(HashMap<String, Said>),
}

/// A line, without its figures, and when it was said.
struct Said {
    stage: String,
    message: String,
    at: Instant,
}

impl Said {
    fn new(operation: &Operation) -> Self {
        let progress = operation.progress.as_ref();
        let message = progress.map_or("", |progress| progress.message.as_str());
        Self {
            stage: stage(operation),
            message: message.replace(|c: char| c.is_ascii_digit(), ""),
            at: Instant::now(),
        }
    }

    /// Whether `next` is worth a line: another step, or another word in it, or it was long ago.
    fn is_followed_by(&self, next: &Said) -> bool {
        let waited = next.at - self.at;
        let is_news = !next.message.is_empty() && next.message != self.message;
        self.stage != next.stage || (is_news && waited >= FIRST_LINE_AFTER) || waited >= LINE_EVERY
    }
}

impl Progress {
    pub fn new() -> Self {
        let shown = if std::io::stderr().is_terminal() {
            Shown::Bars {
                all: MultiProgress::new(),
                bars: HashMap::new(),
            }
        } else {
            Shown::Lines(HashMap::new())
        };
        Self {
            began: Instant::now(),
            shown,
        }
    }

    pub fn update(&mut self, operation: &Operation) {
        match &mut self.shown {
            Shown::Bars { all, bars } => {
                let bar = bars
                    .entry(operation.id.clone())
                    .or_insert_with(|| new_bar(all, operation));
                show(bar, operation);
                if is_final(operation) {
                    bar.finish_and_clear();
                    bars.remove(&operation.id);
                }
            }
            Shown::Lines(last) => {
                let now = Said::new(operation);
                let said = last.get(&operation.id);
                let is_due = said.is_none_or(|said| said.is_followed_by(&now));
                if is_due && self.began.elapsed() >= FIRST_LINE_AFTER {
                    let (subject, figures) = (subject(operation), figures(operation));
                    eprintln!("{subject}: {}{figures}", now.stage);
                    last.insert(operation.id.clone(), now);
                }
            }
        }
    }

    /// A line of its own among the bars.
    pub fn note(&self, text: &str) {
        let text = format!("seawallctl: {}", one_line(text));
        match &self.shown {
            // Only fails when the terminal does; there is nobody left to tell then.
            Shown::Bars { all, .. } => drop(all.println(text)),
            Shown::Lines(_) => eprintln!("{text}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shown::Bars { bars, .. } = &self.shown {
            bars.values().for_each(ProgressBar::finish_and_clear);
        }
    }
}

/// The same for a transfer of this program's own.
pub struct TransferProgress {
    subject: String,
    bar: Option<ProgressBar>,
    said: Instant,
}

impl TransferProgress {
    pub fn new(subject: String) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::no_length().with_prefix(subject.clone());
            if let Ok(style) = ProgressStyle::with_template("{prefix} {spinner}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        Self {
            subject,
            bar,
            said: Instant::now(),
        }
    }

    pub fn update(&mut self, now: ProgressSnapshot) {
        if now.bytes_total == 0 {
            return;
        }
        match &self.bar {
            Some(bar) => {
                if let Ok(style) = ProgressStyle::with_template(BAR) {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_length(now.bytes_total);
                bar.set_position(now.bytes_done);
            }
            None if self.said.elapsed() >= LINE_EVERY => {
                let figures = part_of(now.bytes_done, now.bytes_total);
                eprintln!("{}:{figures}", self.subject);
                self.said = Instant::now();
            }
            None => {}
        }
    }
}

impl Drop for TransferProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(all: &MultiProgress, operation: &Operation) -> ProgressBar {
    let bar = all.add(ProgressBar::no_length());
    bar.set_prefix(subject(operation));
    bar.enable_steady_tick(TICK);
    bar
}

fn show(bar: &ProgressBar, operation: &Operation) {
    let total = operation.progress.as_ref().map_or(0, |p| p.bytes_total);
    let template = if total > 0 {
        OPERATION_BAR
    } else {
        "{prefix} {spinner} {msg} ({elapsed})"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    if total > 0 {
        bar.set_length(total);
        bar.set_position(operation.progress.as_ref().map_or(0, |p| p.bytes_done));
    }
    let rest = match operation.progress.as_ref() {
        Some(progress) if total > 0 => pace(progress),
        _ => figures(operation),
    };
    bar.set_message(format!("{}{rest}", stage(operation)));
}

/// What the operation is about: `backup commerce/0 zone1-102`.
fn subject(operation: &Operation) -> String {
    let (kind, alias) = kind_and_alias(operation);
    let mut text = format!(
        "{} {}",
        kind.replace('_', " "),
        shard(operation.shard.as_ref())
    );
    if let Some(alias) = alias {
        text.push(' ');
        text.push_str(&alias);
    }
    one_line(&text)
}

/// The step under way, or how it ended.
fn stage(operation: &Operation) -> String {
    use seawall_proto::v1::OperationState as State;
    let step = current_step(operation).map_or("begun", |step| step.name.as_str());
    one_line(&match operation.state() {
        State::Running => step.to_owned(),
        State::Undoing => format!("undoing ({step})"),
        state => word(state),
    })
}

fn figures(operation: &Operation) -> String {
    match operation.progress.as_ref() {
        Some(progress) if progress.bytes_total > 0 => {
            let part = part_of(progress.bytes_done, progress.bytes_total);
            format!("{part}{}", pace(progress))
        }
        Some(progress) if !progress.message.is_empty() => {
            format!(" ({})", one_line(&progress.message))
        }
        _ => String::new(),
    }
}

fn part_of(bytes_done: u64, bytes_total: u64) -> String {
    format!(
        " {}%, {} of {}",
        percent(bytes_done, bytes_total),
        size(bytes_done),
        size(bytes_total)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use seawall_proto::v1;

    #[test]
    fn a_line_says_what_which_step_and_how_far() {
        let operation = Operation {
            spec: Some(v1::OperationSpec {
                spec: Some(v1::operation_spec::Spec::Backup(v1::BackupSpec {
                    alias: "zone1-102".into(),
                    ..Default::default()
                })),
            }),
            shard: Some(v1::ShardRef {
                keyspace: "commerce".into(),
                shard: "0".into(),
            }),
            state: v1::OperationState::Running.into(),
            steps: vec![v1::OperationStep {
                name: "copy".into(),
                started_unix_ms: 1,
                ..Default::default()
            }],
            progress: Some(v1::Progress {
                bytes_done: 512 << 20,
                bytes_total: 1 << 30,
                bytes_per_second: 10 << 20,
                left_ms: Some(51_200),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(
            format!(
                "{}: {}{}",
                subject(&operation),
                stage(&operation),
                figures(&operation)
            ),
            "backup commerce/0 zone1-102: copy 50%, 512.0 MiB of 1.0 GiB, 10.0 MiB/s, 51s left"
        );
    }
}
