//! Files with secrets that others on the machine can read: taken all the same, and told of.

use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

/// For the group, and for everybody.
const OTHERS_READ: u32 = 0o044;

/// What to say when others than its owner can read a file. Of a pipe there is nothing to say, nor
/// of what cannot be examined: whoever reads it says why.
pub fn warning(whence: &str, path: &Path) -> Option<String> {
    let meta = std::fs::metadata(path).ok()?;
    let mode = meta.permissions().mode() & 0o7777;
    if !meta.is_file() || mode & OTHERS_READ == 0 {
        return None;
    }
    Some(format!(
        "{whence} can be read by others than its owner, user {} (mode {mode:04o}): change that with \"chmod 0600 {}\"",
        meta.uid(),
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};

    use super::*;

    #[test]
    fn only_a_file_that_others_can_read_is_told_of() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("identity");
        write(&file, "x").unwrap();
        for (mode, is_told) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
            set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let told = warning("identity file x", &file);
            assert_eq!(told.is_some(), is_told, "{mode:o}: {told:?}");
            if let Some(told) = told {
                assert!(told.contains(&format!("mode 0{mode:o}")), "{told}");
                assert!(told.contains("chmod 0600"), "{told}");
            }
        }
        assert_eq!(warning("x", Path::new("/dev/null")), None);
        assert_eq!(warning("x", &directory.path().join("none")), None);
    }
}
