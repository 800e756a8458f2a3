//! Schedules as people read them.

use seawall_common::clock::now_unix_ms;
use seawall_proto::v1;

use super::{
    human::{age, dash, or_dash, span_ms, time_short},
    json::word,
    table::{fields, render, shard},
};

/// Whether it takes the group's backup, and backs up no shard.
fn is_of_group(schedule: &v1::Schedule) -> bool {
    let job = schedule.spec.as_ref().and_then(|spec| spec.job.as_ref());
    matches!(job, Some(v1::schedule_spec::Job::GroupBackup(_)))
}

fn scope(schedule: &v1::Schedule) -> String {
    if is_of_group(schedule) {
        return "the group".to_owned();
    }
    let spec = schedule.spec.clone().unwrap_or_default();
    match (spec.keyspace.as_str(), spec.shard.as_str()) {
        ("", _) => "the cluster".to_owned(),
        (keyspace, "") => keyspace.to_owned(),
        (keyspace, shard) => format!("{keyspace}/{shard}"),
    }
}

/// As the clocks of its zone show it.
fn slot(slot: &v1::ScheduleSlot) -> String {
    if slot.local.is_empty() {
        return time_short(slot.at_unix_ms);
    }
    slot.local.clone()
}

pub fn next(schedule: &v1::Schedule) -> String {
    schedule.next.first().map_or_else(dash, slot)
}

fn outcome(run: &v1::ScheduleRun) -> String {
    match run.outcome() {
        v1::ScheduleOutcome::Unspecified => "at work".to_owned(),
        outcome => word(outcome),
    }
}

/// `failed, 2 of 3 shards backed up`, `succeeded`.
fn result(run: &v1::ScheduleRun, is_of_group: bool) -> String {
    if run.succeeded == run.shards || is_of_group {
        return outcome(run);
    }
    format!(
        "{}, {} of {} shards backed up",
        outcome(run),
        run.succeeded,
        run.shards
    )
}

/// What somebody should look at: why it does not run, what it failed of, logs that are too short.
fn note(schedule: &v1::Schedule) -> String {
    if !schedule.message.is_empty() {
        return schedule.message.clone();
    }
    let run = schedule.run.as_ref();
    let waits = run.iter().flat_map(|run| &run.parts);
    let waits = waits.filter(|part| !part.waits_for.is_empty());
    let waits = waits.map(|part| format!("waits: {}", part.waits_for));
    let of_run = |run: &v1::ScheduleRun| run.errors.first().cloned();
    let error = run
        .and_then(of_run)
        .or_else(|| schedule.last.as_ref().and_then(of_run));
    waits.into_iter().next().or(error).unwrap_or_default()
}

/// One line for each server whose log is too short, whichever schedules it is of.
fn warnings<'a>(schedules: impl IntoIterator<Item = &'a v1::Schedule>) -> Vec<String> {
    let mut lines: Vec<String> = schedules
        .into_iter()
        .flat_map(|schedule| &schedule.short_logs)
        .map(|short| {
            format!(
                "WARNING: {} keeps its binary log for {}, and up to {} lie between two backups of {}: a tablet restored from the older one cannot catch up. Raise binlog_expire_logs_seconds, or back up more often",
                short.alias,
                span_ms(short.kept_ms),
                span_ms(short.gap_ms),
                shard(short.shard.as_ref()),
            )
        })
        .collect();
    lines.sort();
    lines.dedup();
    lines
}

pub fn list(schedules: &[v1::Schedule]) -> String {
    let now = now_unix_ms();
    let rows = schedules.iter().map(|schedule| {
        let spec = schedule.spec.clone().unwrap_or_default();
        let last = schedule.last.as_ref();
        vec![
            schedule.name.clone(),
            scope(schedule),
            spec.cron,
            spec.zone,
            word(schedule.state()),
            next(schedule),
            last.map_or_else(dash, |run| result(run, is_of_group(schedule))),
            age(last.map(|run| run.ended_unix_ms), now),
            or_dash(&note(schedule)),
        ]
    });
    let heads = [
        "NAME", "SCOPE", "CRON", "ZONE", "STATE", "NEXT", "LAST", "AGE>", "NOTE",
    ];
    let mut lines = vec![render(&heads, rows)];
    lines.extend(warnings(schedules));
    lines.join("\n")
}

pub fn in_full(schedule: &v1::Schedule) -> String {
    let spec = schedule.spec.clone().unwrap_or_default();
    let next: Vec<String> = schedule.next.iter().map(slot).collect();
    let mut pairs = vec![
        ("schedule", schedule.name.clone()),
        ("scope", scope(schedule)),
        ("cron", format!("{} ({})", spec.cron, spec.zone)),
        ("state", word(schedule.state())),
        ("note", or_dash(&note(schedule))),
        ("next", or_dash(&next.join(", "))),
        ("missed", schedule.missed.to_string()),
        ("failures", schedule.failures_in_a_row.to_string()),
        ("succeeded", time_short(schedule.last_success_unix_ms)),
    ];
    match &spec.job {
        Some(v1::schedule_spec::Job::GroupBackup(backup)) => {
            pairs.push(("keep", backup.keep.to_string()));
        }
        _ => pairs.push(("at once", spec.at_once.to_string())),
    }
    if spec.spread_ms > 0 {
        pairs.push(("spread", span_ms(spec.spread_ms)));
    }
    let tries = format!(
        "{}, the first again after {}",
        spec.tries,
        span_ms(spec.retry_ms)
    );
    pairs.push(("tries", tries));
    let mut blocks = vec![fields(&pairs)];
    if let Some(run) = &schedule.run {
        blocks.push(parts(run));
    }
    if !schedule.history.is_empty() {
        blocks.push(history(&schedule.history, is_of_group(schedule)));
    }
    let warnings = warnings([schedule]);
    if !warnings.is_empty() {
        blocks.push(warnings.join("\n"));
    }
    blocks.join("\n\n")
}

/// The run that is at work.
fn parts(run: &v1::ScheduleRun) -> String {
    let now = now_unix_ms();
    let rows = run.parts.iter().map(|part| {
        let because = match (part.waits_for.as_str(), part.error.as_str()) {
            ("", "") => dash(),
            ("", error) => error.to_owned(),
            (waits_for, _) => format!("waits: {waits_for}"),
        };
        let waits_ms = part.not_before_unix_ms.saturating_sub(now);
        vec![
            match &part.shard {
                Some(of) => shard(Some(of)),
                None => "the group".to_owned(),
            },
            word(part.state()),
            part.tries.to_string(),
            match waits_ms {
                0 => dash(),
                ms => span_ms(ms),
            },
            or_dash(&part.operation_id),
            because,
        ]
    });
    let heads = ["SHARD", "STATE", "TRIES>", "IN>", "OPERATION", "BECAUSE"];
    render(&heads, rows)
}

/// Newest first: that is what is looked for.
fn history(runs: &[v1::ScheduleRun], is_of_group: bool) -> String {
    let rows = runs.iter().rev().map(|run| {
        vec![
            run.slot.as_ref().map_or_else(dash, slot),
            span_ms(run.ended_unix_ms.saturating_sub(run.begun_unix_ms)),
            result(run, is_of_group),
            or_dash(&run.errors.join("; ")),
        ]
    });
    render(&["SLOT", "TOOK>", "RESULT", "ERRORS"], rows)
}

/// What `SetSchedule` says.
pub fn set(answer: &v1::SetScheduleResponse, schedule: &v1::Schedule, dry_run: bool) -> String {
    let what = match (dry_run, answer.replaced, schedule.paused) {
        (true, false, _) => "nothing is set; it would run",
        (true, true, false) => "nothing is set; it would replace the one that there is, and run",
        (true, true, true) => {
            "nothing is set; it would replace the one that there is, which is paused,"
        }
        (false, false, _) => "it runs",
        (false, true, false) => "it replaces the one that there was, and runs",
        (false, true, true) => "it replaces the one that there was, and stays paused,",
    };
    let shards = match answer.shards.len() {
        _ if is_of_group(schedule) => "the coordinator group".to_owned(),
        1 => "1 shard".to_owned(),
        count => format!("{count} shards"),
    };
    let head = format!("schedule {}: {what} for {shards}", schedule.name);
    let slots: Vec<String> = schedule
        .next
        .iter()
        .map(|of| format!("  {}", slot(of)))
        .collect();
    let mut lines = match slots.is_empty() {
        true => vec![head],
        false => [vec![format!("{head}, next at:")], slots].concat(),
    };
    if !schedule.message.is_empty() {
        lines.push(schedule.message.clone());
    }
    if schedule.paused {
        let name = &schedule.name;
        lines.push(format!(
            "seawallctl ResumeSchedule {name} lets it run from now on"
        ));
    }
    lines.extend(warnings([schedule]));
    lines.join("\n")
}
