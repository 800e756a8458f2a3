//! Any tree of files comes back as it was, encrypted or not; or the backup fails and says why.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, chown, symlink},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proptest::prelude::*;

use super::{super::path::link_stays_inside, *};

/// Paths in a tree stay shorter, so that any directory can take it.
const PATH_MAX: usize = 3000;
const CHUNK: u64 = 1 << 20;

#[derive(Clone, Debug)]
enum Content {
    Zeros,
    Noise,
    Text,
    /// Holes, with a few bytes at some places.
    Sparse(Vec<u64>),
}

#[derive(Clone, Debug)]
enum Kind {
    Directory,
    File(u64, Content),
    /// Where to is made of names in the tree, by their numbers; `None` is `..`.
    Link(Vec<Option<u8>>, LinkForm),
    /// A socket: left out.
    Special,
}

#[derive(Clone, Copy, Debug)]
enum LinkForm {
    Plain,
    /// With `.` and doubled slashes.
    Roundabout,
    /// From `/`, into the root.
    Absolute,
}

#[derive(Clone, Debug)]
struct Node {
    /// Which of the directories before it it lies in.
    parent: u8,
    name: Vec<u8>,
    kind: Kind,
    mode: u32,
    owner: u32,
    modified: (i64, u32),
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => proptest::char::range('a', 'c').prop_map(|c| c as u8),
        1 => any::<u8>(),
        1 => Just(b'.'),
    ];
    let length = prop_oneof![6 => 1..6_usize, 1 => 250..256_usize];
    length
        .prop_flat_map(move |length| proptest::collection::vec(byte.clone(), length))
        .prop_map(|mut name| {
            name.iter_mut()
                .filter(|b| matches!(**b, 0 | b'/'))
                .for_each(|b| *b = b'#');
            if matches!(&name[..], b"." | b"..") {
                name.push(b'x');
            }
            name
        })
}

fn kinds() -> impl Strategy<Value = Kind> {
    let bytes = prop_oneof![
        Just(0),
        1..5000_u64,
        (0..3_u64, -1..2_i64).prop_map(|(n, by)| (n * CHUNK).saturating_add_signed(by)),
        0..3 * CHUNK,
    ];
    let content = prop_oneof![
        Just(Content::Zeros),
        Just(Content::Noise),
        Just(Content::Text),
        proptest::collection::vec(0..3 * CHUNK, 0..3).prop_map(Content::Sparse),
    ];
    let form = prop_oneof![
        3 => Just(LinkForm::Plain),
        1 => Just(LinkForm::Roundabout),
        1 => Just(LinkForm::Absolute),
    ];
    let target = proptest::collection::vec(proptest::option::weighted(0.7, any::<u8>()), 1..4);
    prop_oneof![
        4 => Just(Kind::Directory),
        8 => (bytes, content).prop_map(|(bytes, content)| Kind::File(bytes, content)),
        1 => (target, form).prop_map(|(target, form)| Kind::Link(target, form)),
        1 => Just(Kind::Special),
    ]
}

fn trees() -> impl Strategy<Value = Vec<Node>> {
    let owner = prop_oneof![Just(0_u32), Just(1), Just(54_321)];
    let modified = (-(1_i64 << 33)..1_i64 << 33, 0..1_000_000_000_u32);
    let node = (
        any::<u8>(),
        names(),
        kinds(),
        0..0o10000_u32,
        owner,
        modified,
    )
        .prop_map(|(parent, name, kind, mode, owner, modified)| Node {
            parent,
            name,
            kind,
            mode,
            owner,
            modified,
        });
    proptest::collection::vec(node, 0..40)
}

/// Makes a tree below `root`; of two nodes with one path the first counts.
fn plant(root: &Path, nodes: &[Node]) {
    let mut directories: Vec<Vec<u8>> = vec![vec![]];
    let mut made: Vec<(PathBuf, &Node)> = Vec::new();
    for node in nodes {
        let parent = &directories[usize::from(node.parent) % directories.len()];
        let mut path = parent.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&node.name);
        let full = root.join(OsStr::from_bytes(&path));
        let deep = path.split(|b| *b == b'/').count() > 64;
        if path.len() > PATH_MAX || deep || full.symlink_metadata().is_ok() {
            continue;
        }
        match &node.kind {
            Kind::Directory => {
                fs::create_dir(&full).unwrap();
                directories.push(path);
            }
            Kind::File(bytes, content) => write(&full, *bytes, content),
            Kind::Link(target, form) => {
                symlink(link_target(root, nodes, target, *form), &full).unwrap();
            }
            // A socket's path may not be long.
            Kind::Special => drop(std::os::unix::net::UnixListener::bind(&full)),
        }
        made.push((full, node));
    }
    // Innermost first: a directory may forbid everything from then on.
    for (path, node) in made.iter().rev() {
        let meta = path.symlink_metadata();
        let Some(meta) = meta.ok().filter(|m| m.is_file() || m.is_dir()) else {
            continue;
        };
        if nix::unistd::geteuid().is_root() {
            chown(path, Some(node.owner), Some(node.owner)).unwrap();
        }
        let file = File::open(path).unwrap();
        file.set_times(fs::FileTimes::new().set_modified(moment(node.modified)))
            .unwrap();
        // Who is not root must be able to read what it backs up.
        let needed = if meta.is_dir() { 0o700 } else { 0o400 };
        let needed = if nix::unistd::geteuid().is_root() {
            0
        } else {
            needed
        };
        fs::set_permissions(path, fs::Permissions::from_mode(node.mode | needed)).unwrap();
    }
}

fn moment((seconds, nanos): (i64, u32)) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let at = if seconds < 0 {
        UNIX_EPOCH - whole
    } else {
        UNIX_EPOCH + whole
    };
    at + Duration::from_nanos(u64::from(nanos))
}

fn write(path: &Path, bytes: u64, content: &Content) {
    let file = File::create(path).unwrap();
    let length = bytes as usize;
    match content {
        Content::Zeros => file.write_all_at(&vec![0; length], 0).unwrap(),
        Content::Noise => file.write_all_at(&noise(length), 0).unwrap(),
        Content::Text => {
            let text: Vec<u8> = b"commerce ".iter().copied().cycle().take(length).collect();
            file.write_all_at(&text, 0).unwrap();
        }
        Content::Sparse(islands) => {
            file.set_len(bytes).unwrap();
            for at in islands.iter().filter(|at| **at + 5 < bytes) {
                file.write_all_at(b"rows", *at).unwrap();
            }
        }
    }
}

fn link_target(root: &Path, nodes: &[Node], parts: &[Option<u8>], form: LinkForm) -> PathBuf {
    let names: Vec<&[u8]> = parts
        .iter()
        .map(|part| match part {
            Some(number) => &nodes[usize::from(*number) % nodes.len()].name[..],
            None => b"..",
        })
        .collect();
    let (start, between): (&[u8], &[u8]) = match form {
        LinkForm::Plain => (b"", b"/"),
        LinkForm::Roundabout => (b"./", b"/.//"),
        LinkForm::Absolute => {
            let inner = OsStr::from_bytes(&names.join(&b"/"[..])).to_owned();
            return root.join(inner);
        }
    };
    OsStr::from_bytes(&[start, &names.join(between)].concat())
        .to_owned()
        .into()
}

/// What a restore has to bring back of one path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Directory(u32, (u32, u32), (i64, i64)),
    File(u32, (u32, u32), (i64, i64), Vec<u8>),
    Link((u32, u32), Vec<u8>),
}

impl Kept {
    /// For comparisons with a tree that somebody else made.
    pub fn without_owner(mut self) -> Self {
        match &mut self {
            Self::Directory(_, owner, _) | Self::File(_, owner, ..) | Self::Link(owner, _) => {
                *owner = (0, 0);
            }
        }
        self
    }
}

/// As `FORMAT.md` promises: without sockets, without set-id bits of files.
pub(super) fn kept(root: &Path) -> BTreeMap<Vec<u8>, Kept> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let (owner, time) = ((meta.uid(), meta.gid()), (meta.mtime(), meta.mtime_nsec()));
            let relative = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
            let kept = if meta.is_dir() {
                open.push(path.clone());
                Kept::Directory(meta.mode() & 0o3777, owner, time)
            } else if meta.is_file() {
                Kept::File(meta.mode() & 0o1777, owner, time, fs::read(&path).unwrap())
            } else if meta.is_symlink() {
                let target = path.read_link().unwrap();
                let depth = relative.iter().filter(|b| **b == b'/').count();
                let target = match target.strip_prefix(root) {
                    Ok(below) if target.is_absolute() => {
                        PathBuf::from("../".repeat(depth)).join(below)
                    }
                    _ => target,
                };
                Kept::Link(owner, target.into_os_string().into_encoded_bytes())
            } else {
                continue;
            };
            found.insert(relative.to_vec(), kept);
        }
    }
    found
}

/// The links that no restore could bring back: by their text, or by where they lead now.
fn bad_links(root: &Path, kept: &BTreeMap<Vec<u8>, Kept>) -> BTreeSet<Vec<u8>> {
    let root = root.canonicalize().unwrap();
    kept.iter()
        .filter_map(|(path, kept)| match kept {
            Kept::Link(_, target) => {
                let leads = root.join(OsStr::from_bytes(path)).canonicalize();
                let leads_out = leads.is_ok_and(|to| !to.starts_with(&root));
                (leads_out || !link_stays_inside(path, target)).then(|| path.clone())
            }
            _ => None,
        })
        .collect()
}

pub(super) fn assert_equal(restored: &BTreeMap<Vec<u8>, Kept>, expected: &BTreeMap<Vec<u8>, Kept>) {
    let names = |tree: &BTreeMap<Vec<u8>, Kept>| {
        tree.keys()
            .map(|path| String::from_utf8_lossy(path).into_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(restored), names(expected));
    for (path, kept) in expected {
        let shown = String::from_utf8_lossy(path);
        match (kept, &restored[path]) {
            (Kept::File(mode, owner, time, bytes), Kept::File(mode2, owner2, time2, bytes2)) => {
                assert_eq!((mode, owner, time), (mode2, owner2, time2), "{shown}");
                assert!(bytes == bytes2, "{shown} has another content");
            }
            (one, other) => assert_eq!(one, other, "{shown}"),
        }
    }
}

async fn comes_back(encrypted: bool, nodes: &[Node]) {
    let ground = match encrypted {
        true => Ground::encrypted().await,
        false => Ground::new().await,
    };
    plant(&ground.data(), nodes);
    let expected = kept(&ground.data());
    let bad = bad_links(&ground.data(), &expected);
    let mut source = ground.source();
    source.roots[0].exclude.clear();
    match ground.upload(&source).await {
        Ok(prepared) => {
            assert!(bad.is_empty(), "kept bad links: {bad:?}");
            prepared.put(&ground.repository).await.unwrap();
            let restored = kept(&ground.restore().await.unwrap());
            assert_equal(&restored, &expected);
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            assert!(error.message().contains("link"), "{error}");
            assert!(!bad.is_empty(), "refused without a bad link: {error}");
        }
    }
}

/// How many cases; far more in a soak.
fn cases(few: u32) -> ProptestConfig {
    let soak = std::env::var_os("SEAWALL_SOAK").is_some();
    ProptestConfig {
        cases: if soak { few * 50 } else { few },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work);
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn i6_any_tree_of_files_comes_back_as_it_was(encrypted: bool, nodes in trees()) {
        run(comes_back(encrypted, &nodes));
    }
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Shrink(u64),
    Grow(u64),
    Overwrite(u64),
    Replace,
    Delete,
    Add,
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..3 * CHUNK).prop_map(Change::Shrink),
        (1..3 * CHUNK).prop_map(Change::Grow),
        (0..3 * CHUNK).prop_map(Change::Overwrite),
        Just(Change::Replace),
        Just(Change::Delete),
        Just(Change::Add),
    ]
}

impl Change {
    fn make(self, directory: &Path) {
        let path = directory.join("m");
        let open = || File::options().write(true).open(&path).unwrap();
        match self {
            Change::Shrink(to) => open().set_len(to).unwrap(),
            Change::Grow(by) => open().set_len(3 * CHUNK + by).unwrap(),
            Change::Overwrite(at) => open().write_all_at(b"x", at).unwrap(),
            Change::Replace => {
                fs::write(directory.join("new"), noise(3 * CHUNK as usize)).unwrap();
                fs::rename(directory.join("new"), &path).unwrap();
            }
            Change::Delete => fs::remove_file(&path).unwrap(),
            Change::Add => fs::write(directory.join("z"), b"late").unwrap(),
        }
    }
}

fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files_in(directory)
        .into_iter()
        .map(|path| {
            let bytes = fs::read(&path).unwrap();
            (path.file_name().unwrap().into(), bytes)
        })
        .collect()
}

/// The files are of one moment, before the change or after it, or there is no backup.
async fn is_of_one_moment(encrypted: bool, change: Change, after_bytes: u64) {
    let ground = match encrypted {
        true => Ground::encrypted().await,
        false => Ground::new().await,
    };
    for name in ["a", "m", "y"] {
        fs::write(ground.data().join(name), noise(3 * CHUNK as usize)).unwrap();
    }
    let before = contents(&ground.data());
    let (progress, never) = (Progress::new(), CancellationToken::new());
    let source = ground.source();
    let transfer = upload(&ground.repository, &source, 2, &progress, &never);
    let changer = async {
        while progress.snapshot().bytes_total == 0 || progress.snapshot().bytes_done < after_bytes {
            tokio::task::yield_now().await;
        }
        change.make(&ground.data());
    };
    // What is over before the change has waited for its moment is not waited for.
    let ended = {
        tokio::pin!(transfer, changer);
        tokio::select! {
            ended = &mut transfer => ended,
            () = &mut changer => transfer.await,
        }
    };
    match ended {
        Ok(prepared) => {
            prepared.put(&ground.repository).await.unwrap();
            let restored = contents(&ground.restore().await.unwrap());
            let now = contents(&ground.data());
            assert!(
                restored == before || restored == now,
                "{change:?}: a mixture"
            );
        }
        Err(error) => {
            let names_it =
                error.message().contains("/data/m") || error.message().contains("changed while");
            assert!(names_it, "{change:?}: {:?} {error}", error.kind());
        }
    }
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn i6_files_that_change_under_the_copy_come_back_as_of_one_moment_or_not_at_all(
        encrypted: bool, change in changes(), after_bytes in 0..9 * CHUNK,
    ) {
        run(is_of_one_moment(encrypted, change, after_bytes));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_file_of_16_gib_that_is_nearly_all_hole_comes_back_and_stays_one() {
    let ground = Ground::encrypted().await;
    let bytes = 16 << 30;
    let (near, far) = (5 * CHUNK + 7, bytes - 9);
    let file = File::create(ground.data().join("huge")).unwrap();
    file.set_len(bytes).unwrap();
    for at in [near, far] {
        file.write_all_at(b"rows", at).unwrap();
    }
    ground.back_up().await;
    let restored = File::open(ground.restore().await.unwrap().join("huge")).unwrap();
    let meta = restored.metadata().unwrap();
    assert_eq!(meta.len(), bytes);
    assert!(meta.blocks() * 512 <= 4 * CHUNK, "{} blocks", meta.blocks());
    for at in [near, far] {
        let mut found = [0; 4];
        restored.read_exact_at(&mut found, at).unwrap();
        assert_eq!(&found, b"rows");
    }
}
