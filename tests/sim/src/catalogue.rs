//! I2: what the catalogue says of a backup is one place in one order of events: it is there with the
//! manifest that was announced, and what clients pin, unpin, mark as broken and see of it is
//! linearizable.

use std::{collections::BTreeMap, time::Duration};

use seawall_common::{Error, ErrorKind};
use seawall_proto::v1::{
    Backup, BackupSpec, BackupState, GetBackupRequest, InitShardPrimarySpec,
    MarkBackupBrokenRequest, PinBackupRequest, UnpinBackupRequest,
    catalogue_client::CatalogueClient, operation_spec::Spec,
};
use seawall_tests::proof::{
    group::{Answer, Group},
    history::{Call, History, Shared},
    search::{self, CALLS_MAX, SequentialSpec},
    verdict::{self, Verdict},
};

use crate::{
    agents,
    operations::{Ended, carry_out},
};

#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// By the agent, before it puts the manifest with this hash.
    Announce {
        hash: String,
    },
    Pin,
    Unpin,
    Mark {
        reason: u64,
    },
    Unmark,
    Look,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Ret {
    Done,
    Refused,
    /// The catalogue does not know it: never right for one that was complete.
    Missing,
    Is(Seen),
}

/// What somebody sees of a complete backup.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    hash: String,
    is_pinned: bool,
    /// The number of the reason for which it is marked as broken.
    mark: Option<u64>,
}

/// A call and the name of the backup that it is about.
pub type Named = (String, Op);

/// Makes backups, one after the other.
pub async fn make(group: Group, names: Shared<String>) {
    let mut has_primary = false;
    while !has_primary {
        pause(500).await;
        let spec = Spec::InitShardPrimary(InitShardPrimarySpec {
            shard: Some(agents::backed_up_shard()),
            alias: agents::ITS_PRIMARY.to_owned(),
        });
        has_primary = matches!(carry_out(&group, spec).await, Some(Ended::Done { .. }));
    }
    loop {
        pause(1500).await;
        let spec = Spec::Backup(BackupSpec {
            alias: agents::BACKED_UP.to_owned(),
            ..BackupSpec::default()
        });
        if let Some(Ended::Done { backup }) = carry_out(&group, spec).await {
            names.push(backup);
        }
    }
}

/// Does this and that to the newest backup.
pub async fn client(
    client: u64,
    group: Group,
    names: Shared<String>,
    history: History<Named, Ret>,
) {
    loop {
        pause(400).await;
        let Some(name) = names.all().pop() else {
            continue;
        };
        let is_of_it = |call: &Call<Named, Ret>| call.op.0 == name;
        let calls = history.calls().into_iter().filter(is_of_it).count();
        if calls as u64 >= CALLS_MAX {
            continue;
        }
        let op = match rand::random_range(0..6) {
            0 => Op::Pin,
            1 => Op::Unpin,
            2 => Op::Mark {
                reason: rand::random_range(0..1000),
            },
            3 => Op::Unmark,
            _ => Op::Look,
        };
        let call = history.invoke(client, (name.clone(), op.clone()));
        if let Some(ret) = ask(&group, &name, &op).await {
            history.returned(call, ret);
        }
    }
}

async fn pause(most_ms: u64) {
    tokio::time::sleep(Duration::from_millis(rand::random_range(1..most_ms))).await;
}

async fn ask(group: &Group, name: &str, op: &Op) -> Option<Ret> {
    let shard = Some(agents::backed_up_shard());
    let name = name.to_owned();
    match op {
        Op::Pin => {
            let request = PinBackupRequest {
                shard,
                name,
                until_unix_ms: 0,
            };
            let call = |channel| {
                let request = request.clone();
                async move { CatalogueClient::new(channel).pin_backup(request).await }
            };
            shown(group.call(call).await)
        }
        Op::Unpin => {
            let request = UnpinBackupRequest { shard, name };
            let call = |channel| {
                let request = request.clone();
                async move { CatalogueClient::new(channel).unpin_backup(request).await }
            };
            shown(group.call(call).await)
        }
        Op::Mark { .. } | Op::Unmark => {
            let reason = match op {
                Op::Mark { reason } => reason.to_string(),
                _ => String::new(),
            };
            let request = MarkBackupBrokenRequest {
                shard,
                name,
                undo: reason.is_empty(),
                reason,
            };
            let call = |channel| {
                let request = request.clone();
                async move {
                    CatalogueClient::new(channel)
                        .mark_backup_broken(request)
                        .await
                }
            };
            // What it shows was looked at after the mark: others may have been there in between.
            match group.call(call).await {
                Answer::Done(_) => Some(Ret::Done),
                Answer::Refused(e) => refused(&e),
                Answer::Unknown => None,
            }
        }
        Op::Look => {
            let request = GetBackupRequest { shard, name };
            let call = |channel| {
                let request = request.clone();
                async move { CatalogueClient::new(channel).get_backup(request).await }
            };
            match group.call(call).await {
                Answer::Done(answer) => seen(&answer.backup?),
                Answer::Refused(e) => refused(&e),
                Answer::Unknown => None,
            }
        }
        // Agents do that.
        Op::Announce { .. } => None,
    }
}

fn shown(answer: Answer<Backup>) -> Option<Ret> {
    match answer {
        Answer::Done(backup) => seen(&backup),
        Answer::Refused(e) => refused(&e),
        Answer::Unknown => None,
    }
}

/// By the state machine.
fn refused(error: &Error) -> Option<Ret> {
    match error.kind() {
        ErrorKind::Refused => Some(Ret::Refused),
        ErrorKind::NotFound => Some(Ret::Missing),
        _ => None,
    }
}

fn seen(backup: &Backup) -> Option<Ret> {
    let mark = match backup.state() {
        BackupState::Complete => None,
        // One that is broken for another reason has a mark that nobody has made.
        _ => Some(backup.note.parse().unwrap_or(u64::MAX)),
    };
    Some(Ret::Is(Seen {
        hash: backup.manifest_hash.clone(),
        is_pinned: backup.pinned,
        mark,
    }))
}

impl SequentialSpec for Seen {
    type Op = Op;
    type Ret = Ret;

    fn invoke(&mut self, op: &Op) -> Ret {
        match op {
            Op::Announce { hash } => self.hash.clone_from(hash),
            Op::Pin => self.is_pinned = true,
            Op::Unpin => self.is_pinned = false,
            Op::Mark { reason } => self.mark = Some(*reason),
            Op::Unmark if self.mark.is_none() => return Ret::Refused,
            Op::Unmark => self.mark = None,
            Op::Look => {}
        }
        match op {
            Op::Pin | Op::Unpin | Op::Look => Ret::Is(self.clone()),
            _ => Ret::Done,
        }
    }

    fn is_valid_step(&mut self, op: &Op, ret: &Ret) -> bool {
        match (op, ret) {
            // A later one of the same backup, whose operation has ended.
            (Op::Announce { .. }, Ret::Refused) => true,
            _ => self.invoke(op) == *ret,
        }
    }
}

/// Of each backup.
pub fn check(calls: &[Call<Named, Ret>]) -> Verdict {
    let mut backups: BTreeMap<&str, Vec<Call<Op, Ret>>> = BTreeMap::new();
    for call in calls {
        let (name, op) = &call.op;
        // A look that had no answer says nothing and does nothing.
        if call.returned.is_some() || *op != Op::Look {
            backups.entry(name).or_default().push(Call {
                client: call.client,
                op: op.clone(),
                invoked: call.invoked,
                returned: call.returned.clone(),
            });
        }
    }
    verdict::all(backups.into_iter().map(|(name, calls)| {
        let calls: Vec<&Call<Op, Ret>> = calls.iter().collect();
        search::explain(Seen::default(), &format!("backup {name} (I2)"), &calls)
    }))
}
