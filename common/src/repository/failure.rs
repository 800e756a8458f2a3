//! What a store's errors mean to us: which are worth another try, and what a person can do.

use object_store::path::Path;

use crate::error::{Error, chain, one_line};

/// The store's threads all hang: see [`super::local`].
#[derive(Debug)]
pub(super) struct NotAnswering(pub String);

impl std::fmt::Display for NotAnswering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotAnswering {}

/// A store's error with the kind that its cause deserves.
pub(super) fn convert(what: &str, key: &Path, error: &object_store::Error) -> Error {
    use object_store::Error as Store;
    if let Some(own) = find::<Error>(error) {
        return own.clone();
    }
    let text = chain_without_markup(error);
    let message = format!("cannot {what} object {key}: {text}");
    if let Some(known) = told_by_code(&message, &text) {
        return known;
    }
    match error {
        Store::NotFound { .. } => Error::not_found(format!("there is no object {key}")),
        Store::AlreadyExists { .. } => Error::conflict(format!("object {key} exists already")),
        // A directory's errors have their cause with them, a cloud's only what it answered.
        Store::PermissionDenied { .. } | Store::Unauthenticated { .. }
            if find::<std::io::Error>(error).is_none() =>
        {
            Error::refused(message).hint(permission_hint(what))
        }
        Store::InvalidPath { .. } | Store::NotSupported { .. } | Store::NotImplemented { .. } => {
            Error::internal(message)
        }
        _ => convert_cause(message, error),
    }
}

fn convert_cause(message: String, error: &object_store::Error) -> Error {
    if find::<NotAnswering>(error).is_some() {
        return Error::unavailable(message).hint("Is its file system still there?");
    }
    if let Some(io) = find::<std::io::Error>(error) {
        return match io.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Error::exhausted(message).hint("Make room in the repository.")
            }
            std::io::ErrorKind::PermissionDenied => Error::refused(message).hint(format!(
                "This process runs as user {}: docs/storage.md says which rights it needs in the repository's directory.",
                nix::unistd::geteuid()
            )),
            std::io::ErrorKind::ReadOnlyFilesystem => Error::refused(message)
                .hint("The repository's file system is read-only here: look at its mount."),
            _ => Error::unavailable(message),
        };
    }
    // What the store refuses it will refuse again; what it cannot do now, it may do later.
    // A range that it cannot satisfy (416) says something of the object: whoever asked looks at it.
    match status(&message) {
        Some(408 | 416 | 425 | 429) | None => Error::unavailable(message),
        Some(501) => {
            Error::internal(message).hint("Seawall needs a store that knows this request.")
        }
        Some(400..=499) => Error::refused(message)
            .hint("Check region, endpoint and credentials of the repository."),
        Some(_) => Error::unavailable(message),
    }
}

/// Codes that say more than the status they come with.
fn told_by_code(message: &str, text: &str) -> Option<Error> {
    let has = |codes: &[&str]| codes.iter().any(|code| text.contains(code));
    if has(&[
        "NoSuchBucket",
        "ContainerNotFound",
        "The specified bucket does not exist",
    ]) {
        // Not to be taken for "no such object": nothing lies in it because it is not there.
        return Some(
            Error::refused(message)
                .hint("Create the bucket or container first, or mend repository.url."),
        );
    }
    if has(&[
        "SignatureDoesNotMatch",
        "InvalidAccessKeyId",
        "AuthenticationFailed",
        "InvalidAuthenticationInfo",
        "ExpiredToken",
        "InvalidToken",
        "AuthorizationHeaderMalformed",
    ]) {
        return Some(Error::refused(message).hint(
            "The store does not accept the credentials: check key, secret, region and the clock of this machine.",
        ));
    }
    // These come with 400, and are about the way that the request took.
    if has(&["RequestTimeout", "IncompleteBody"]) {
        return Some(Error::unavailable(message));
    }
    if has(&["QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"]) {
        return Some(Error::exhausted(message).hint("Make room in the repository."));
    }
    if has(&["invalid peer certificate"]) {
        // It is the same one at the next try.
        return Some(Error::refused(message).hint(
            "The store's certificate is not trusted: repository.ca_file names the certificates of an authority of one's own; for another name than it is for, mend repository.endpoint.",
        ));
    }
    if text.contains("169.254.169.254") || text.contains("metadata.google.internal") {
        return Some(Error::unavailable(message).hint(
            "No credentials are in the environment, and this machine's metadata service gives none: docs/storage.md says which are looked for.",
        ));
    }
    None
}

fn permission_hint(what: &str) -> String {
    let needed = match what {
        "put" => "create objects",
        "list" => "list objects",
        "delete" => "delete objects",
        _ => "read objects, and list them (otherwise the store does not say that one is missing)",
    };
    format!("The credentials need the permission to {needed}: docs/storage.md has the policies.")
}

/// The status of the answer: the store's library keeps it in its message only.
fn status(text: &str) -> Option<u16> {
    const BEFORE: &str = "status code: ";
    let at = text.find(BEFORE)? + BEFORE.len();
    text.get(at..at + 3)?.parse().ok()
}

fn find<'a, T: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The error and its causes in one line, with the code and the message of an XML answer instead of
/// the whole of it.
pub(super) fn chain_without_markup(error: &(dyn std::error::Error + 'static)) -> String {
    const CHARS_MAX: usize = 600;
    let text = chain(error);
    let text = match text.split_once('<') {
        Some((before, markup)) => {
            let parts: Vec<&str> = ["Code", "Message"]
                .into_iter()
                .filter_map(|name| element(markup, name))
                .filter(|text| !text.is_empty())
                .collect();
            format!("{} {}", before.trim_end(), parts.join(": "))
        }
        None => text,
    };
    one_line(&text).chars().take(CHARS_MAX).collect()
}

fn element<'a>(markup: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = markup.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn answered(status: &str, code: &str) -> Error {
        let text = format!(
            "Server returned non-2xx status code: {status}: \
             <Error><Code>{code}</Code><Message>so it is</Message></Error>"
        );
        let error = object_store::Error::Generic {
            store: "S3",
            source: text.into(),
        };
        convert("put", &Path::from("a"), &error)
    }

    #[test]
    fn what_went_wrong_on_the_way_may_be_tried_again() {
        for code in ["RequestTimeout", "IncompleteBody"] {
            let error = answered("400 Bad Request", code);
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
        for (status, code) in [
            ("400 Bad Request", "InvalidRequest"),
            ("400 Bad Request", "ExpiredToken"),
            ("403 Forbidden", "RequestTimeTooSkewed"),
        ] {
            let error = answered(status, code);
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        }
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_not_so_at_the_next_try_either() {
        let error = object_store::Error::Generic {
            store: "S3",
            source: "client error (Connect): invalid peer certificate: UnknownIssuer".into(),
        };
        let error = convert("get", &Path::from("a"), &error);
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.to_string().contains("repository.ca_file"), "{error}");
    }

    #[test]
    fn a_directory_that_may_not_be_entered_is_not_a_matter_of_a_clouds_policies() {
        let denied = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let cloud = object_store::Error::PermissionDenied {
            path: "a".into(),
            source: "403".into(),
        };
        let directory = object_store::Error::PermissionDenied {
            path: "a".into(),
            source: Box::new(denied()),
        };
        let generic = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(denied()),
        };
        for (error, says) in [
            (cloud, "has the policies"),
            (directory, "runs as user"),
            (generic, "runs as user"),
        ] {
            let error = convert("put", &Path::from("a"), &error);
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            assert!(error.hint_text().unwrap().contains(says), "{error}");
        }
    }

    #[test]
    fn a_mount_that_hangs_is_not_a_full_disk() {
        let error = object_store::Error::Generic {
            store: "file",
            source: Box::new(NotAnswering("the store does not answer".to_owned())),
        };
        let error = convert("get", &Path::from("a"), &error);
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}
