//! `seawall-coordinator restore`: a new group of one member from a backup of an older group.
//!
//! The order is what makes it right. The repository is taken over first: from then on the older group,
//! should it still be there, can write no bound that counts. Then it is read up to where timestamps
//! and epochs may have come. Only then the data directory is made, and its identity last: one that is
//! cut off before leaves nothing that starts.

use std::{collections::BTreeMap, path::PathBuf};

use seawall_common::{
    Error, Result,
    clock::{now_unix_ms, written},
    ids::OperationId,
    repository::{GroupBackup, Repository, RepositoryConfig},
};

use crate::{
    data_dir::DataDir,
    raft::{Beginning, make_restored},
    state::{
        State,
        restored::{Changes, Restoration},
    },
};

/// What is to be made.
#[derive(Debug)]
pub struct Request {
    pub data_dir: PathBuf,
    pub repository: RepositoryConfig,
    /// None: the newest that can be read.
    pub backup: Option<String>,
    /// No timestamp at or below this one is given.
    pub above: Option<u64>,
    pub member: u64,
    pub address: String,
}

pub async fn restore(request: Request) -> Result<()> {
    let data_dir = DataDir::open(&request.data_dir)?;
    data_dir.check_nobodys()?;
    let repository = Repository::open(&request.repository).await?;
    let (backup, state) = choose(&repository, request.backup.as_deref()).await?;
    check_repository(&state, &repository)?;
    // What will be refused takes nothing over.
    timestamps_above(&repository, &state, request.above).await?;
    let group_id = uuid::Uuid::new_v4().to_string();
    let owner = repository.claim(&group_id, true).await?;
    let timestamps_above = timestamps_above(&repository, &state, request.above).await?;
    let restoration = Restoration {
        group_id: group_id.clone(),
        repository_id: repository.id().to_owned(),
        member: request.member,
        now_unix_ms: now_unix_ms(),
        timestamps_above,
        epochs: epochs(&repository).await?,
        operation: OperationId::generate(),
    };
    let (state, changes) = state.restored(&restoration);
    let beginning = Beginning {
        member: request.member,
        address: request.address.clone(),
        term: backup.term,
        last_index: backup.last_index,
    };
    make_restored(data_dir.path(), beginning, &state).await?;
    tell(&request, &backup, &restoration, &changes, owner.number);
    Ok(())
}

/// The named one, or the newest that can be read: which are passed over, is said.
async fn choose(repository: &Repository, named: Option<&str>) -> Result<(GroupBackup, State)> {
    if let Some(name) = named {
        return read(repository, name).await;
    }
    let names = repository.group_backups().await?.complete;
    for name in names.iter().rev() {
        match read(repository, name).await {
            Ok(read) => return Ok(read),
            Err(e) if e.is_retryable() => return Err(e),
            Err(e) => eprintln!("seawall-coordinator: passed over: {e}"),
        }
    }
    Err(Error::not_found(format!(
        "repository {} has no coordinator backup that can be read",
        repository.url()
    ))
    .hint("Begin with an empty group and --take-over-repository: see docs/coordinators.md."))
}

async fn read(repository: &Repository, name: &str) -> Result<(GroupBackup, State)> {
    let (backup, state) = repository.get_group_state(name).await?;
    let state = serde_json::from_slice(&state).map_err(|e| {
        Error::corrupt(format!(
            "the state in coordinator backup {name} cannot be understood: {e}"
        ))
        .hint(format!(
            "It was written by version {}; this is {}.",
            backup.written_by,
            env!("CARGO_PKG_VERSION")
        ))
    })?;
    Ok((backup, state))
}

fn check_repository(state: &State, repository: &Repository) -> Result<()> {
    match &state.repository_id {
        Some(theirs) if theirs != repository.id() => Err(Error::refused(format!(
            "the backup is of a group with the repository {theirs}, this is {}",
            repository.id()
        ))),
        _ => Ok(()),
    }
}

async fn timestamps_above(
    repository: &Repository,
    state: &State,
    above: Option<u64>,
) -> Result<u64> {
    let recorded = repository.highest_bound().await?;
    if recorded == 0 && above.is_none() {
        return Err(Error::refused(
            "the repository has no bound of timestamps: nobody knows how many were given",
        )
        .hint("Give --above N, greater than any timestamp that was ever given out."));
    }
    let greatest = recorded
        .max(above.unwrap_or(0))
        .max(state.timestamps.bound());
    if greatest > u64::MAX / 4 * 3 {
        return Err(Error::refused(format!(
            "timestamps above {greatest} would be all that is left: too few"
        ))
        .hint("No group can have come so far: look at --above, and at coordinator/bounds/ in the repository."));
    }
    Ok(greatest)
}

async fn epochs(
    repository: &Repository,
) -> Result<BTreeMap<seawall_common::ids::ShardId, Vec<seawall_common::repository::EpochRecord>>> {
    let mut epochs = BTreeMap::new();
    for shard in repository.shards().await? {
        let records = repository.epoch_records(&shard).await?;
        epochs.insert(shard, records);
    }
    Ok(epochs)
}

fn tell(
    request: &Request,
    backup: &GroupBackup,
    with: &Restoration,
    changes: &Changes,
    owner: u64,
) {
    println!(
        "{} is member {} of the new group {}",
        request.data_dir.display(),
        with.member,
        with.group_id
    );
    println!(
        "restored from backup {} of group {}, taken {}",
        backup.name,
        backup.group_id,
        written(backup.taken_unix_ms).unwrap_or_default()
    );
    println!("the repository is this group's, by owner record {owner}");
    println!("timestamps begin above {}", with.timestamps_above);
    println!(
        "operations lost: {}; holds dropped: {}; reigns learned from the repository: {}",
        changes.operations_lost, changes.holds_dropped, changes.epochs_learned
    );
    println!(
        "retention stands still until seawallctl SetRetention --resume; schedules paused: {}",
        changes.schedules_paused
    );
}
