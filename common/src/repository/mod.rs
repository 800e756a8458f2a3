//! The repository: one prefix in object storage that alone is enough to restore everything.
//!
//! `FORMAT.md` beside this file describes every byte of it. What always holds: nothing is ever
//! overwritten, a manifest is written last, `removed` beats it, and nothing that was read is
//! believed before it was checked. Coordinator, agent and `seawallctl` all call this module;
//! it calls none of them.

mod bounds;
mod check;
mod chunk;
mod cloud;
mod collection;
mod compress;
mod config;
#[cfg(feature = "fault-injection")]
mod conformance;
mod download;
mod epochs;
mod failure;
#[cfg(feature = "fault-injection")]
mod faults;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod group_state;
mod header;
mod inspect;
mod keys;
mod known;
mod layout;
mod list;
mod local;
mod location;
mod manifest;
#[cfg(feature = "fault-injection")]
mod memory;
mod object;
mod owner;
mod pack;
mod page_check;
pub mod partial;
mod path;
mod pool;
mod probe;
mod progress;
mod remove;
mod retry;
mod scan;
mod seal;
mod stages;
mod store;
#[cfg(test)]
mod tests;
mod throttle;
mod upload;
mod verify;

pub use collection::{BatchLimits, Collected, CollectionRequest, LeftOf};
pub use config::{REPOSITORY_SETTINGS, RepositoryConfig};
#[cfg(feature = "fault-injection")]
pub use conformance::{conformance, put_and_read_back};
pub use download::{
    Destination, Destinations, FetchPlan, Fetched, Space, check_room_aside, download, plan_restore,
    restore,
};
pub use epochs::EpochRecord;
pub use group_state::{
    GroupBackup, GroupBackups, STATE_BYTES_MAX, check_group_backup_name, is_group_backup_older,
};
pub use header::Repository;
pub use inspect::{Finding, InspectOptions, InspectedBackup, Inspection, Objects, inspect};
pub use keys::{
    AddedRecipient, GeneratedIdentity, KeyFiles, NobodyToAsk, PASSPHRASE_VARIABLE, Passphrase,
    Prompt, RecipientUse, RecipientUses, RemovedKeys, StoredIdentity, WAYS_TO_AN_IDENTITY,
    WriterKey, WriterPublicKey, check_fingerprint, check_identity_name, check_recipient,
    configured_passphrase, fingerprint_of, generate_identity, lock_identity,
    take_passphrase_descriptor,
};
pub use known::Reference;
pub use manifest::{
    DamagedPage, Manifest, ManifestHeader, PackRecord, PartRecord, RootRecord, read_manifest,
};
pub use owner::Owner;
pub use page_check::{FIRST_BYTES, FilePages, PageCheck, PageFile, PagesSeen};
pub use progress::{Progress, ProgressSnapshot};
pub use scan::{StoredBackup, StoredState};
pub use throttle::{Throttle, Transferred};
pub use upload::{
    BackupSource, MayReferTo, PreparedManifest, SourceRoot, Uploaded, Writer, upload,
};
pub use verify::{Damage, Depth, VerifyOptions, VerifyReport, pack_name, packs_named_in, verify};
