use std::path::Path;

use super::*;
use crate::platform::{Missing, open_medium};

fn open(directory: &Path) -> Result<DurableLog> {
    let medium = open_medium(directory, Missing::Make)?;
    DurableLog::open(medium, |payload| Ok(Some(u64::from(payload[0]))))
}

fn record(index: u64) -> Record {
    (index, format!("record {index}").into_bytes())
}

fn records(range: RangeInclusive<u64>) -> Vec<Record> {
    range.map(record).collect()
}

fn append(log: &DurableLog, records: Vec<Record>) {
    log.write(&[Write::Append(records)]).unwrap();
}

#[test]
fn what_was_appended_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
    append(&log, records(0..=300));
    log.write(&[Write::Mark(Mark::Vote, b"vote".to_vec())])
        .unwrap();
    drop(log);
    let log = open(directory.path()).unwrap();
    assert_eq!(log.read(0..=300, usize::MAX).unwrap(), records(0..=300));
    assert_eq!(log.last().unwrap(), Some(record(300)));
    assert_eq!(log.mark(Mark::Vote).unwrap().as_deref(), Some(&b"vote"[..]));
    assert_eq!(log.mark(Mark::Committed).unwrap(), None);
}

#[test]
fn a_log_can_be_reopened_at_once_however_often() {
    let directory = tempfile::tempdir().unwrap();
    for index in 0..30 {
        let log = open(directory.path()).unwrap();
        append(&log, vec![record(index)]);
        assert_eq!(log.last().unwrap(), Some(record(index)));
    }
}

#[test]
fn i9_a_thousand_of_the_largest_records_are_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
    let largest = |index| (index, vec![index as u8; PAYLOAD_BYTES_MAX]);
    for first in (0..1000).step_by(10) {
        append(&log, (first..first + 10).map(largest).collect());
    }
    drop(log);
    let log = open(directory.path()).unwrap();
    assert_eq!(log.last().unwrap(), Some(largest(999)));
    assert_eq!(log.read(500..=500, 0).unwrap(), [largest(500)]);
}

#[test]
fn a_log_that_another_has_open_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _log = open(directory.path()).unwrap();
    let error = open(directory.path()).err().unwrap().to_string();
    assert!(error.contains("in use by another process"), "{error}");
}

#[test]
fn truncating_and_purging_leave_what_lies_between() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
    append(&log, records(0..=4000));
    let purge = Write::Purge {
        upto: 99,
        mark: vec![99],
    };
    log.write(&[Write::Truncate { from: 200 }, purge]).unwrap();
    assert_eq!(
        log.read(0..=u64::MAX, usize::MAX).unwrap(),
        records(100..=199)
    );
    drop(log);
    let log = open(directory.path()).unwrap();
    assert_eq!(
        log.read(0..=u64::MAX, usize::MAX).unwrap(),
        records(100..=199)
    );
}

#[test]
fn a_purge_that_was_cut_off_is_finished_at_opening() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
    append(&log, records(0..=9));
    log.write(&[Write::Mark(Mark::Purged, vec![4])]).unwrap();
    drop(log);
    let log = open(directory.path()).unwrap();
    assert_eq!(log.read(0..=u64::MAX, usize::MAX).unwrap(), records(5..=9));
}

#[test]
fn a_log_with_a_hole_is_refused() {
    for missing in [0_u64, 5] {
        let directory = tempfile::tempdir().unwrap();
        let log = open(directory.path()).unwrap();
        append(&log, records(0..=9));
        log.apply(Tree::Records, vec![Change::Delete(missing)]);
        log.commit();
        drop(log);
        let error = open(directory.path()).err().unwrap();
        assert!(
            error
                .message()
                .contains(&format!("entry {missing} is missing")),
            "{error}"
        );
    }
}

#[test]
fn a_damaged_or_exchanged_value_is_noticed() {
    for damage in 0..3 {
        let directory = tempfile::tempdir().unwrap();
        let log = open(directory.path()).unwrap();
        append(&log, records(0..=3));
        let stored = |index| log.medium.get(Tree::Records, index).unwrap().unwrap();
        let mut value = stored(2);
        match damage {
            0 => value[FRAME_BYTES] ^= 1,
            1 => value.truncate(10),
            _ => value = stored(3),
        }
        log.apply(Tree::Records, vec![Change::Put(2, value)]);
        log.commit();
        assert!(log.read(0..=3, usize::MAX).is_err(), "damage {damage}");
        drop(log);
        assert!(open(directory.path()).is_err(), "damage {damage}");
    }
}

#[test]
fn a_read_stops_at_its_limit_but_answers_something() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
    append(&log, records(0..=9));
    assert_eq!(log.read(3..=9, 0).unwrap(), records(3..=3));
    assert_eq!(log.read(3..=9, 18).unwrap(), records(3..=5));
    assert!(log.read(10..=20, 1).unwrap().is_empty());
}

#[test]
fn a_record_above_the_limit_is_refused_and_one_at_it_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
    let record = |bytes| (0, vec![7; bytes]);
    let too_large = Write::Append(vec![record(PAYLOAD_BYTES_MAX + 1)]);
    assert!(log.write(&[too_large]).is_err());
    let large = record(PAYLOAD_BYTES_MAX);
    append(&log, vec![large.clone()]);
    assert_eq!(log.last().unwrap(), Some(large));
}
