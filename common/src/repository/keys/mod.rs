//! Keys: data keys of sessions, wrapped by `age` for each recipient in a small file; identities that
//! open them, also those that a passphrase locks; the Ed25519 keys with which writers sign.
//!
//! A node that only writes needs no secret, and recipients come and go without touching any data.
//! What always holds: a wrong passphrase ([`ErrorKind::Invalid`]), an identity that fits nothing
//! ([`ErrorKind::Refused`]) and damage ([`ErrorKind::Corrupt`]) are told apart.
//!
//! [`ErrorKind::Invalid`]: crate::ErrorKind::Invalid
//! [`ErrorKind::Refused`]: crate::ErrorKind::Refused
//! [`ErrorKind::Corrupt`]: crate::ErrorKind::Corrupt

/// For hints: all the ways to an identity.
pub const WAYS_TO_AN_IDENTITY: &str = "repository.identity_file (a file of GenerateIdentity, or an SSH private key) or repository.identity (the name of one in the repository); its passphrase, if it has one, comes from repository.passphrase_file, repository.passphrase_fd or SEAWALL_PASSPHRASE";

mod configured;
mod data_key;
mod form;
mod generate;
mod identity;
mod passphrase;
mod recipient;
mod sessions;
mod stored;
mod unlock;
mod writer;

#[cfg(test)]
mod tests;

pub(super) use configured::Keys;
pub(super) use data_key::{DataKey, KEY_FILE_BYTES_MAX};
pub(super) use form::check_form;
pub(super) use identity::{Identities, Unwrapped};
pub(super) use recipient::{Recipients, note_recipient};
pub(super) use writer::TrustedWriters;

pub use generate::{GeneratedIdentity, generate_identity, lock_identity};
pub use passphrase::{
    NobodyToAsk, Passphrase, Prompt, VARIABLE as PASSPHRASE_VARIABLE, configured_passphrase,
    take_passphrase_descriptor,
};
pub use recipient::check_recipient;
pub use sessions::{
    AddedRecipient, KeyFiles, RecipientUse, RecipientUses, RemovedKeys, check_fingerprint,
    fingerprint_of,
};
pub use stored::{StoredIdentity, check_identity_name};
pub use writer::{WriterKey, WriterPublicKey};
