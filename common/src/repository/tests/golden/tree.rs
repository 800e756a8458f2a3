//! What is in the golden backups: the same tree whenever it is planted.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::{ffi::OsStrExt, fs::symlink},
    time::{Duration, UNIX_EPOCH},
};

use super::{
    super::trees::{Kept, kept},
    *,
};

const ODD_NAME: &[u8] = b" \xff\xfe new\nline #";

/// The two roots as they were at the first, the second, or the third backup.
pub fn plant(directory: &Path, backup: u32) {
    let (data, redo) = (directory.join("data"), directory.join("redo"));
    fs::create_dir_all(data.join("a/b")).unwrap();
    fs::create_dir(data.join("a.empty")).unwrap();
    fs::create_dir(data.join(long_name('d'))).unwrap();
    fs::create_dir(&redo).unwrap();
    let write = |path: PathBuf, bytes: &[u8]| fs::write(path, bytes).unwrap();
    write(data.join("empty"), b"");
    write(data.join("rows.ibd"), "row ".repeat(20_000).as_bytes());
    write(data.join("exactly.ibd"), "page".repeat(1 << 18).as_bytes());
    write(data.join("many.ibd"), numbers(40_000).as_bytes());
    write(data.join("noise.ibd"), &noise(9_000 + backup as usize));
    write(data.join("a/b/kept.ibd"), &noise(5_000));
    write(long_path(&data), b"a name as long as any");
    write(odd_path(&data), b"a name that is no text");
    let log = format!("redo {backup}");
    write(redo.join("ib_logfile0"), log.as_bytes());
    if backup > 1 {
        write(data.join("a/b/later.frm"), &noise(7_000));
    }
    write(data.join("zeros"), &[0; 70_000]);
    let sparse = File::create(data.join("sparse")).unwrap();
    sparse.set_len((5 << 20) + 5).unwrap();
    sparse
        .write_all_at(b"in the middle", (3 << 20) + 100)
        .unwrap();
    symlink("../rows.ibd", data.join("a/link")).unwrap();
    put_attributes_on(&data, &redo);
}

/// Text of several chunks, no two the same.
fn numbers(up_to: u32) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for number in 0..up_to {
        writeln!(text, "{number:>64}").unwrap();
    }
    text
}

fn long_name(letter: char) -> String {
    letter.to_string().repeat(255)
}

fn long_path(data: &Path) -> PathBuf {
    data.join(long_name('d')).join(long_name('f'))
}

fn odd_path(data: &Path) -> PathBuf {
    data.join("a").join(OsStr::from_bytes(ODD_NAME))
}

/// Directories after what is in them.
fn put_attributes_on(data: &Path, redo: &Path) {
    for (path, mode, seconds) in [
        (data.join("empty"), 0o600, -3_000_000),
        (data.join("rows.ibd"), 0o640, -1),
        (data.join("exactly.ibd"), 0o644, 0),
        (data.join("many.ibd"), 0o640, 1),
        (data.join("noise.ibd"), 0o660, 1_700_000_000),
        (data.join("zeros"), 0o4755, 1_700_000_001),
        (data.join("sparse"), 0o400, 1_700_000_002),
        (data.join("a/b/kept.ibd"), 0o604, 1_700_000_003),
        (data.join("a/b/later.frm"), 0o640, 1_700_000_004),
        (long_path(data), 0o640, 4_300_000_000),
        (odd_path(data), 0o640, 7),
        (redo.join("ib_logfile0"), 0o660, 9),
        (data.join(long_name('d')), 0o700, 5),
        (data.join("a/b"), 0o2770, 6),
        (data.join("a.empty"), 0o1777, 7),
        (data.join("a"), 0o500, 8),
        (data.to_owned(), 0o750, 9),
        (redo.to_owned(), 0o700, 10),
    ] {
        set(&path, mode, seconds);
    }
}

/// Of a path that this backup has.
fn set(path: &Path, mode: u32, seconds: i64) {
    let Ok(file) = File::open(path) else { return };
    let since = Duration::new(seconds.unsigned_abs(), 123_456_789);
    let at = match seconds < 0 {
        true => UNIX_EPOCH - since,
        false => UNIX_EPOCH + since,
    };
    file.set_times(fs::FileTimes::new().set_modified(at))
        .unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What a restore of this backup has to bring back.
pub fn expected(backup: u32) -> BTreeMap<Vec<u8>, Kept> {
    let directory = tempfile::tempdir().unwrap();
    plant(directory.path(), backup);
    everything(directory.path())
}

/// Whoever runs the tests owns it.
pub fn everything(directory: &Path) -> BTreeMap<Vec<u8>, Kept> {
    kept(directory)
        .into_iter()
        .map(|(path, kept)| (path, kept.without_owner()))
        .collect()
}
