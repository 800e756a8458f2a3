//! Relative paths as they stand in a backup: bytes, as the file system has them, normal, and
//! never leaving their root. Nothing that was read becomes a path on a disk without coming
//! through here.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

pub(super) const PATH_BYTES_MAX: usize = 4096;
const NAME_BYTES_MAX: usize = 255;
const DEPTH_MAX: usize = 64;

/// Whether `path` may be joined to a root: not empty, not absolute, without `.` and `..`, each
/// name of a length that file systems take.
pub(super) fn is_normal(path: &[u8]) -> bool {
    path.len() <= PATH_BYTES_MAX
        && !path.contains(&0)
        && path.split(|b| *b == b'/').count() <= DEPTH_MAX
        && path.split(|b| *b == b'/').all(|name| {
            !name.is_empty() && name.len() <= NAME_BYTES_MAX && name != b"." && name != b".."
        })
}

/// Whether a symbolic link at `link` that points to `target` stays in the link's root: `..` only
/// at the target's beginning, where it goes up from real directories. Behind a name it would go up
/// from wherever that name, which may be a link, leads to.
pub(super) fn link_stays_inside(link: &[u8], target: &[u8]) -> bool {
    if target.is_empty()
        || target.len() > PATH_BYTES_MAX
        || target.contains(&0)
        || target[0] == b'/'
        || !is_normal(link)
    {
        return false;
    }
    let depth = link.split(|b| *b == b'/').count() - 1;
    let ups = target.split(|b| *b == b'/').filter(|n| *n == b"..").count();
    ups <= depth && !goes_up_behind_a_name(target)
}

/// Whether a link's target has a `..` behind a name.
pub(super) fn goes_up_behind_a_name(target: &[u8]) -> bool {
    target
        .split(|b| *b == b'/')
        .filter(|name| !matches!(*name, b"" | b"."))
        .skip_while(|name| *name == b"..")
        .any(|name| name == b"..")
}

/// The path without its last name; `None`: it lies directly in the root.
pub(super) fn parent(path: &[u8]) -> Option<&[u8]> {
    path.iter().rposition(|b| *b == b'/').map(|at| &path[..at])
}

/// The order in which a backup lists paths: name by name, so that what lies in a directory comes
/// directly behind it.
pub(super) fn order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    a.split(|b| *b == b'/').cmp(b.split(|b| *b == b'/'))
}

pub(super) fn join(root: &Path, path: &[u8]) -> PathBuf {
    root.join(OsStr::from_bytes(path))
}

pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Whether `path` matches one of the patterns, or lies below what one matches. A `*` at a
/// pattern's end stands for any rest of that name.
pub(super) fn is_excluded(path: &[u8], patterns: &[String]) -> bool {
    patterns.iter().any(|pattern| {
        let pattern = pattern.trim_end_matches('/').as_bytes();
        match pattern.strip_suffix(b"*") {
            Some(start) => path.starts_with(start),
            None => path
                .strip_prefix(pattern)
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/'),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    #[test]
    fn i8_a_path_that_leaves_its_root_is_not_normal() {
        let long = "a".repeat(256);
        let deep = vec!["a"; 65].join("/");
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../a",
            "a/../b",
            "a/..",
            ".",
            "./a",
            "a/./b",
            "a//b",
            "a/",
            "a\0b",
            &long,
            &deep,
        ] {
            assert!(!is_normal(bad.as_bytes()), "{bad:?} was taken");
        }
        for good in [
            "a",
            "a/b",
            "a/...",
            "..a/b..",
            "a b/@0041.ibd",
            "#innodb_redo/x",
        ] {
            assert!(is_normal(good.as_bytes()), "{good:?} was refused");
        }
    }

    #[test]
    fn i8_a_link_must_stay_inside_its_root() {
        for (link, target, inside) in [
            ("a", "b", true),
            ("d/a", "../b", true),
            ("d/a", "../../b", false),
            ("a", "../b", false),
            ("a", "/etc", false),
            ("a", "x/../..", false),
            ("a", "", false),
            ("d/e/a", "../../x/./y", true),
            ("d/e/a", "./..//../x", true),
            ("d/e/a", "../../..", false),
            ("d/e/a", "x/..", false),
            ("d/e/a", "../x/../y", false),
            ("../a", "b", false),
        ] {
            assert_eq!(
                link_stays_inside(link.as_bytes(), target.as_bytes()),
                inside,
                "{link} -> {target}"
            );
        }
    }

    #[test]
    fn a_directory_comes_right_before_what_lies_in_it() {
        assert_eq!(order(b"a", b"a/b"), Ordering::Less);
        // As plain bytes "a.x" would come before "a/b".
        assert_eq!(order(b"a/b", b"a.x"), Ordering::Less);
        assert_eq!(order(b"a/b", b"a/b"), Ordering::Equal);
        assert_eq!(parent(b"a/b/c"), Some(&b"a/b"[..]));
        assert_eq!(parent(b"a"), None);
    }

    #[test]
    fn a_star_stands_for_the_rest_of_a_name_and_a_directory_for_all_below() {
        let patterns = ["ib_buffer_pool".into(), "mysql-bin.*".into(), "tmp/".into()];
        for (path, excluded) in [
            ("ib_buffer_pool", true),
            ("ib_buffer_pool2", false),
            ("mysql-bin.000001", true),
            ("mysql-bin", false),
            ("tmp", true),
            ("tmp/x", true),
            ("tmpx", false),
            ("d/tmp", false),
        ] {
            assert_eq!(is_excluded(path.as_bytes(), &patterns), excluded, "{path}");
        }
    }
}
