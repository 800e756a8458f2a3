use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
};

use proptest::prelude::*;

use super::*;

/// So that there are many.
const SEGMENT_BYTES: u64 = 1024 * 1024;

fn open(directory: &Path) -> Result<Journal> {
    Journal::open_with(directory, Missing::Make, SEGMENT_BYTES)
}

fn put(journal: &Journal, number: u64, value: &[u8]) {
    let put = Change::Put(number, value.to_vec());
    journal.apply(Tree::Records, vec![put]).unwrap();
    journal.sync().unwrap();
}

fn delete(journal: &Journal, number: u64) {
    let delete = Change::Delete(number);
    journal.apply(Tree::Records, vec![delete]).unwrap();
    journal.sync().unwrap();
}

fn all(journal: &Journal) -> Vec<u64> {
    let max = usize::MAX;
    journal.keys(0..=u64::MAX, Order::Forwards, max).unwrap()
}

/// Ten records, each synced by itself, in one file.
fn closed(directory: &Path) -> PathBuf {
    let journal = open(directory).unwrap();
    (0..10).for_each(|number| put(&journal, number, &[number as u8 + 1; 1000]));
    drop(journal);
    let mut files = Segment::paths(directory).unwrap();
    assert_eq!(files.len(), 1);
    files.remove(0)
}

/// Where the value of the record of this byte stands.
fn position(file: &Path, byte: u8) -> usize {
    let bytes = fs::read(file).unwrap();
    let found = bytes
        .windows(1000)
        .position(|window| window == [byte; 1000]);
    found.unwrap()
}

fn damage(file: &Path, at: usize) {
    let bytes = fs::read(file).unwrap();
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
}

fn refused(directory: &Path, why: &str) {
    let error = open(directory).err().expect("it is opened").to_string();
    assert!(error.contains(why), "{error}");
    assert!(error.contains("under a new id"), "{error}");
}

/// Larger than a segment has room for three of.
fn large(byte: u8) -> Vec<u8> {
    vec![byte; SEGMENT_BYTES as usize / 3]
}

#[test]
fn i9_wherever_the_last_write_was_cut_off_all_before_it_is_there_and_it_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let file = closed(directory.path());
    let whole = fs::read(&file).unwrap();
    let end = position(&file, 10) + 1000;
    let begin = position(&file, 9) + 1000;
    let next = begin.next_multiple_of(frame::ALIGNED);
    for cut in (next..end).step_by(7) {
        // What follows was set aside, and is not written; or was, but not what lies before.
        for (from, to) in [(cut, whole.len()), (next, cut)] {
            let mut torn = whole.clone();
            torn[from..to].fill(0);
            fs::write(&file, &torn).unwrap();
            let journal = open(directory.path()).unwrap();
            let was_cut = from != to && torn != whole;
            let expected = if was_cut { 9 } else { 10 };
            assert_eq!(all(&journal), Vec::from_iter(0..expected), "{from}..{to}");
            put(&journal, expected, b"next");
            drop(journal);
            let journal = open(directory.path()).unwrap();
            assert_eq!(
                journal.get(Tree::Records, expected).unwrap(),
                Some(b"next".to_vec())
            );
            assert_eq!(journal.get(Tree::Records, 8).unwrap(), Some(vec![9; 1000]));
        }
    }
}

#[test]
fn i9_damage_before_a_frame_that_is_whole_is_refused_wherever_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = closed(directory.path());
    let whole = fs::read(&file).unwrap();
    let last = position(&file, 9) + 1000;
    for at in (0..last).step_by(5) {
        fs::write(&file, &whole).unwrap();
        damage(&file, at);
        let padding = |at: usize| open(directory.path()).is_ok() && whole[at] == 0;
        if !padding(at) {
            refused(directory.path(), "damaged");
        }
    }
}

#[test]
fn i9_a_file_that_is_gone_or_cut_is_refused_and_the_oldest_goes_when_it_is_empty() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    let mark = Change::Put(1, b"mark".to_vec());
    journal.apply(Tree::Marks, vec![mark]).unwrap();
    for number in 0..12 {
        put(&journal, number, &large(number as u8));
    }
    let files = || Segment::paths(directory.path()).unwrap();
    assert_eq!(files().len(), 4);
    drop(journal);
    for gone in 1..3 {
        let file = &files()[gone];
        let bytes = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        refused(directory.path(), "is missing");
        // Its last frame is.
        let cut = bytes.len() - 2000;
        fs::write(file, &bytes[..cut]).unwrap();
        refused(directory.path(), "is missing");
        fs::write(file, vec![0; 100]).unwrap();
        refused(directory.path(), "all of it is damaged");
        fs::write(file, &bytes).unwrap();
    }
    let journal = open(directory.path()).unwrap();
    (3..6).for_each(|number| delete(&journal, number));
    assert_eq!(files().len(), 5, "the oldest has records");
    (0..3).for_each(|number| delete(&journal, number));
    assert_eq!(files().len(), 3, "two have none");
    drop(journal);
    let journal = open(directory.path()).unwrap();
    assert_eq!(all(&journal), Vec::from_iter(6..12));
    assert_eq!(journal.get(Tree::Marks, 1).unwrap(), Some(b"mark".to_vec()));
    assert_eq!(journal.get(Tree::Records, 7).unwrap(), Some(large(7)));
}

#[test]
fn i9_a_file_that_was_being_made_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    (0..3).for_each(|number| put(&journal, number, &large(number as u8)));
    drop(journal);
    let next = directory.path().join(format!("{:020}.journal", 4));
    fs::write(&next, vec![0; 5000]).unwrap();
    let journal = open(directory.path()).unwrap();
    assert_eq!(all(&journal), [0, 1, 2]);
    put(&journal, 3, b"goes on");
    drop(journal);
    let journal = open(directory.path()).unwrap();
    assert_eq!(
        journal.get(Tree::Records, 3).unwrap(),
        Some(b"goes on".to_vec())
    );
}

#[test]
fn i9_marks_outlive_the_files_before_one_that_was_made_when_the_power_went() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    let mark = Change::Put(1, b"vote".to_vec());
    journal.apply(Tree::Marks, vec![mark]).unwrap();
    (0..3).for_each(|number| put(&journal, number, &large(number as u8)));
    drop(journal);
    Segment::create(directory.path(), 4, SEGMENT_BYTES).unwrap();
    let journal = open(directory.path()).unwrap();
    put(&journal, 3, b"in the next");
    (0..3).for_each(|number| delete(&journal, number));
    assert_eq!(Segment::paths(directory.path()).unwrap().len(), 1);
    drop(journal);
    let journal = open(directory.path()).unwrap();
    assert_eq!(journal.get(Tree::Marks, 1).unwrap(), Some(b"vote".to_vec()));
    assert_eq!(all(&journal), [3]);
}

#[test]
fn i9_a_log_that_is_gone_or_is_another_kind_of_is_not_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let file = closed(directory.path());
    fs::remove_file(file).unwrap();
    let gone = Journal::open(directory.path(), Missing::Refuse)
        .err()
        .unwrap();
    assert!(gone.to_string().contains("it is gone"), "{gone}");
    fs::write(
        directory.path().join(format!("{:020}.journal", 1)),
        [0; 4096],
    )
    .unwrap();
    let zeros = Journal::open(directory.path(), Missing::Refuse)
        .err()
        .unwrap();
    assert!(zeros.to_string().contains("it is gone"), "{zeros}");
    fs::write(directory.path().join("db"), "of an earlier version").unwrap();
    refused(directory.path(), "no log of this version");
    let other = Journal::open(directory.path(), Missing::Refuse)
        .err()
        .unwrap();
    assert!(
        other.to_string().contains("no log of this version"),
        "{other}"
    );
}

#[test]
fn a_log_of_a_later_version_is_left_to_the_program_that_wrote_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = closed(directory.path());
    OpenOptions::new()
        .write(true)
        .open(file)
        .unwrap()
        .write_all_at(&[0, 2], 6)
        .unwrap();
    let error = open(directory.path()).err().unwrap().to_string();
    assert!(error.contains("version 2 of the log"), "{error}");
    assert!(!error.contains("new id"), "{error}");
}

#[test]
fn i9_the_last_frame_is_refused_when_something_was_written_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = closed(directory.path());
    // Two frames damaged at the end: the first of them was acknowledged.
    damage(&file, position(&file, 9) + 500);
    damage(&file, position(&file, 10) + 500);
    refused(directory.path(), "before what was written after it");
}

#[test]
fn what_is_applied_can_be_read_before_it_is_synced_and_while_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(directory.path()).unwrap();
    put(&journal, 1, b"synced");
    let changes = vec![
        Change::Put(2, b"pending".to_vec()),
        Change::Put(3, Vec::new()),
    ];
    journal.apply(Tree::Records, changes).unwrap();
    journal
        .apply(Tree::Records, vec![Change::Delete(1)])
        .unwrap();
    assert_eq!(all(&journal), [2, 3]);
    let mut seen = Vec::new();
    let mut show = |number, value: &[u8]| {
        seen.push((number, value.to_vec()));
        Ok(true)
    };
    journal.scan(0..=u64::MAX, &mut show).unwrap();
    assert_eq!(seen, [(2, b"pending".to_vec()), (3, Vec::new())]);
    drop(journal);
    let journal = open(directory.path()).unwrap();
    assert_eq!(all(&journal), [1], "nobody has synced it");
}

#[test]
fn what_looks_like_a_frame_in_a_value_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let file = closed(directory.path());
    let bytes = fs::read(&file).unwrap();
    // All frames of another segment, as a value, and then a write that is cut off.
    let other = tempfile::tempdir().unwrap();
    let journal = open(other.path()).unwrap();
    put(&journal, 0, &bytes[..12_000]);
    put(&journal, 1, &[77; 1000]);
    drop(journal);
    let file = Segment::paths(other.path()).unwrap().remove(0);
    damage(&file, position(&file, 77) + 500);
    let journal = open(other.path()).unwrap();
    assert_eq!(all(&journal), [0]);
    drop(journal);
    // Damage before it: nothing after it is a frame of this segment.
    damage(&file, 60);
    let journal = open(other.path()).unwrap();
    assert_eq!(all(&journal), Vec::<u64>::new());
}

/// What is done to a journal and to a map beside it.
#[derive(Clone, Debug)]
enum Step {
    Put(Tree, u64, usize),
    Delete(Tree, u64),
    Sync,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let tree = prop_oneof![Just(Tree::Records), Just(Tree::Marks)];
    prop_oneof![
        6 => (tree.clone(), 0..20_u64, 0..300_000_usize)
            .prop_map(|(tree, number, length)| Step::Put(tree, number, length)),
        3 => (tree, 0..20_u64).prop_map(|(tree, number)| Step::Delete(tree, number)),
        3 => Just(Step::Sync),
        1 => Just(Step::Reopen),
    ]
}

type Model = BTreeMap<(Tree, u64), Vec<u8>>;

fn is_model(journal: &Journal, model: &Model) {
    for tree in [Tree::Records, Tree::Marks] {
        for number in 0..20 {
            let expected = model.get(&(tree, number)).cloned();
            assert!(
                journal.get(tree, number).unwrap() == expected,
                "{tree:?} {number}"
            );
        }
    }
    let records = model.keys().filter(|(tree, _)| *tree == Tree::Records);
    assert_eq!(
        all(journal),
        Vec::from_iter(records.map(|(_, number)| *number))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn i9_it_is_a_map_of_what_was_synced_whatever_is_done(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path()).unwrap();
        let (mut now, mut synced) = (Model::new(), Model::new());
        for (byte, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put(tree, number, length) => {
                    let value = vec![byte as u8; length];
                    now.insert((tree, number), value.clone());
                    journal.apply(tree, vec![Change::Put(number, value)]).unwrap();
                }
                Step::Delete(tree, number) => {
                    now.remove(&(tree, number));
                    journal.apply(tree, vec![Change::Delete(number)]).unwrap();
                }
                Step::Sync => {
                    journal.sync().unwrap();
                    synced = now.clone();
                }
                Step::Reopen => {
                    drop(journal);
                    journal = open(directory.path()).unwrap();
                    now = synced.clone();
                }
            }
            is_model(&journal, &now);
        }
        drop(journal);
        is_model(&open(directory.path()).unwrap(), &synced);
    }
}
