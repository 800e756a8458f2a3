//! What a store's errors mean to us: which are worth another try, and what a person can do.

use object_store::path::Path;

use crate::error::{Error, chain};

/// A store's error with the kind that its cause deserves.
pub(super) fn convert(what: &str, key: &Path, error: &object_store::Error) -> Error {
    use object_store::Error as Store;
    let message = format!("cannot {what} object {key}: {}", chain(error));
    let refused = |message| {
        Error::refused(message).hint("Check the permissions on the repository.".to_owned())
    };
    match error {
        Store::NotFound { .. } => Error::not_found(format!("there is no object {key}")),
        Store::AlreadyExists { .. } => Error::conflict(format!("object {key} exists already")),
        Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => refused(message),
        Store::InvalidPath { .. } | Store::NotSupported { .. } | Store::NotImplemented { .. } => {
            Error::internal(message)
        }
        _ => match io_kind(error) {
            Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) => {
                Error::exhausted(message).hint("Make room in the repository.")
            }
            Some(std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem) => {
                refused(message)
            }
            _ => Error::unavailable(message),
        },
    }
}

fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<std::io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        next = error.source();
    }
    None
}
