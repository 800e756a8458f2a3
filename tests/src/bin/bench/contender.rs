//! What is measured of each contender.

use super::stages::Stages;

/// What is timed, in the order in which it happens in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    FirstBackup,
    /// Nothing was written since.
    UnchangedBackup,
    /// After writes to one page in a hundred.
    ChangedBackup,
    FullRestore,
    /// Over the files of before those writes.
    DeltaRestore,
}

pub const TASKS: [(Task, &str); 5] = [
    (Task::FirstBackup, "first backup"),
    (Task::UnchangedBackup, "unchanged"),
    (Task::ChangedBackup, "1 % of pages changed"),
    (Task::FullRestore, "full restore"),
    (Task::DeltaRestore, "delta restore"),
];

/// One contender's times and sizes.
#[derive(Default)]
pub struct Contender {
    pub name: String,
    /// Seconds of each round, in the order of [`TASKS`].
    seconds: [Vec<f64>; TASKS.len()],
    /// Bytes that the last run of each task added to the store, or fetched from it.
    bytes: [Option<u64>; TASKS.len()],
    /// Of all rounds together, where it is known.
    stages: [Stages; TASKS.len()],
}

impl Contender {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    pub fn note(&mut self, task: Task, seconds: f64, bytes: Option<u64>) {
        self.seconds[task as usize].push(seconds);
        if bytes.is_some() {
            self.bytes[task as usize] = bytes;
        }
    }

    pub fn note_stages(&mut self, task: Task, stages: Stages) {
        for (stage, seconds) in stages {
            *self.stages[task as usize].entry(stage).or_default() += seconds;
        }
    }

    /// Seconds of one round on average, by stage.
    pub fn stages(&self, task: Task) -> Stages {
        let rounds = self.seconds[task as usize].len().max(1) as f64;
        let all = self.stages[task as usize].iter();
        all.map(|(stage, seconds)| (stage.clone(), seconds / rounds))
            .collect()
    }

    /// Seconds of one round on average.
    pub fn mean(&self, task: Task) -> f64 {
        let all = &self.seconds[task as usize];
        all.iter().sum::<f64>() / all.len().max(1) as f64
    }

    /// The median of the rounds, in seconds; nothing when the task was not run.
    pub fn median(&self, task: Task) -> Option<f64> {
        let mut sorted = self.seconds[task as usize].clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }

    pub fn rounds(&self) -> usize {
        self.seconds[Task::FirstBackup as usize].len()
    }

    pub fn bytes(&self, task: Task) -> Option<u64> {
        self.bytes[task as usize]
    }
}
