//! What a repository's URL says: a directory, or a prefix in a cloud's bucket.

use std::path::PathBuf;

use object_store::path::Path;
use url::Url;

use crate::error::{Error, Result};

/// A kind of object store that is reached over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cloud {
    S3,
    Google,
    Azure,
}

impl Cloud {
    fn from_scheme(scheme: &str) -> Option<Self> {
        match scheme {
            "s3" => Some(Self::S3),
            "gs" => Some(Self::Google),
            "az" => Some(Self::Azure),
            _ => None,
        }
    }

    /// What the cloud itself calls a bucket.
    pub fn bucket_word(self) -> &'static str {
        match self {
            Self::S3 | Self::Google => "bucket",
            Self::Azure => "container",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    Directory(PathBuf),
    Bucket {
        cloud: Cloud,
        bucket: String,
        /// Empty: the whole bucket.
        prefix: Path,
    },
    /// One that lives and ends with the process: of a simulation.
    #[cfg(feature = "fault-injection")]
    Memory(String),
}

const HINT: &str = "A repository is written file:///path/to/directory, s3://bucket/prefix, \
                    gs://bucket/prefix or az://container/prefix.";

impl Location {
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::invalid("no repository is configured")
                .hint("Set repository.url (--repository)."));
        }
        let malformed =
            |why: &str| Error::invalid(format!("malformed repository {text:?}: {why}")).hint(HINT);
        let url = Url::parse(text).map_err(|e| malformed(&e.to_string()))?;
        // Before anything repeats the URL: there may be a secret in it.
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::invalid(
                "malformed repository: no user and no password can stand in its URL",
            )
            .hint("Credentials come from the environment, as the cloud's own tools take them."));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(malformed("no '?' or '#' can stand in it"));
        }
        if url.scheme() == "file" {
            return url
                .to_file_path()
                .ok()
                .filter(|path| path.parent().is_some())
                .map(Self::Directory)
                .ok_or_else(|| malformed("it names no local directory"));
        }
        #[cfg(feature = "fault-injection")]
        if url.scheme() == "memory" {
            return Ok(Self::Memory(url.path().to_owned()));
        }
        let Some(cloud) = Cloud::from_scheme(url.scheme()) else {
            return Err(Error::invalid(format!(
                "unknown repository scheme {:?} in {text:?}",
                url.scheme()
            ))
            .hint(HINT));
        };
        let bucket = url.host_str().unwrap_or_default();
        if bucket.is_empty() || url.port().is_some() {
            return Err(malformed(&format!("it names no {}", cloud.bucket_word()))
                .hint("The address of a store of one's own is set as repository.endpoint."));
        }
        let prefix = Path::from_url_path(url.path()).map_err(|e| malformed(&e.to_string()))?;
        Ok(Self::Bucket {
            cloud,
            bucket: bucket.to_owned(),
            prefix,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_directory_or_a_prefix_in_a_bucket() {
        assert_eq!(
            Location::parse("file:///backups/a").unwrap(),
            Location::Directory(PathBuf::from("/backups/a"))
        );
        for (url, cloud, bucket, prefix) in [
            ("s3://bucket/a/b", Cloud::S3, "bucket", "a/b"),
            ("s3://my.bucket-1/a/", Cloud::S3, "my.bucket-1", "a"),
            ("gs://under_score", Cloud::Google, "under_score", ""),
            ("az://container/a%20b", Cloud::Azure, "container", "a b"),
        ] {
            let expected = Location::Bucket {
                cloud,
                bucket: bucket.to_owned(),
                prefix: Path::from(prefix),
            };
            assert_eq!(Location::parse(url).unwrap(), expected, "{url}");
        }
    }

    #[test]
    fn a_url_that_names_no_place_is_refused_and_says_why() {
        for (url, says) in [
            ("ftp://host/x", "unknown repository scheme \"ftp\""),
            ("", "no repository is configured"),
            ("/backups", "malformed repository"),
            ("file://host/backups", "no local directory"),
            ("file:///", "no local directory"),
            ("file:///a?b", "malformed repository"),
            ("s3:///prefix", "names no bucket"),
            ("s3://host:9000/bucket", "names no bucket"),
            ("az:container", "names no container"),
            ("s3://bucket/a?versionId=1", "malformed repository"),
        ] {
            let error = Location::parse(url).unwrap_err();
            assert!(error.message().contains(says), "{url}: {error}");
        }
    }

    #[test]
    fn a_secret_in_a_url_is_refused_and_not_repeated() {
        for url in ["s3://key:geheim@bucket/a", "az://geheim@container"] {
            let error = Location::parse(url).unwrap_err();
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
    }
}
