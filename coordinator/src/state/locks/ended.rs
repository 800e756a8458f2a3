//! The ids of holds that have ended, of programs and by hand: an id is used once.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

/// Ids that are remembered.
pub const ENDED_MAX: usize = 4096;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "VecDeque<String>", into = "VecDeque<String>")]
pub struct Ended {
    /// Oldest first.
    ids: VecDeque<String>,
    /// The same, to be found: each hold that is asked for is looked up.
    known: BTreeSet<String>,
}

impl Ended {
    pub fn contains(&self, id: &str) -> bool {
        self.known.contains(id)
    }

    pub fn push(&mut self, id: &str) {
        if !self.known.insert(id.to_owned()) {
            return;
        }
        self.ids.push_back(id.to_owned());
        if self.ids.len() > ENDED_MAX
            && let Some(oldest) = self.ids.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl From<VecDeque<String>> for Ended {
    fn from(ids: VecDeque<String>) -> Self {
        let known = ids.iter().cloned().collect();
        Self { ids, known }
    }
}

impl From<Ended> for VecDeque<String> {
    fn from(ended: Ended) -> Self {
        ended.ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i9_the_oldest_are_forgotten_and_a_copy_knows_the_same() {
        let mut ended = Ended::default();
        for number in 0..=ENDED_MAX {
            ended.push(&number.to_string());
            ended.push(&number.to_string());
        }
        assert!(!ended.contains("0") && ended.contains("1"));
        assert_eq!((ended.ids.len(), ended.known.len()), (ENDED_MAX, ENDED_MAX));
        let text = serde_json::to_string(&ended).unwrap();
        assert!(text.starts_with(r#"["1","2","#), "{}", &text[..40]);
        let mut copy: Ended = serde_json::from_str(&text).unwrap();
        assert_eq!(copy, ended);
        copy.push("new");
        assert!(!copy.contains("1") && copy.contains("2") && copy.contains("new"));
    }
}
