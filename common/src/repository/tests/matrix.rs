//! Every object that a backup reaches, spoilt in every way at a dozen places: verification and
//! restore both notice and name it, and no restore ends well with anything but what was backed up.
//! A sample by a fixed seed; all of it in a soak.

use std::fs;

use super::{
    super::{
        layout,
        list::{Record, Records},
        seal::TAG_BYTES,
    },
    line::Line,
    *,
};

/// Places in an object at which it is spoilt.
const PLACES: usize = 12;
/// Of the cases, when this is no soak.
const ONE_OF: usize = 9;

#[derive(Clone, Debug)]
enum Wrong {
    Flip(usize),
    CutAt(usize),
    Missing,
    /// The bytes of another object are under its key.
    Duplicate(PathBuf),
    /// Another object is under its key, and it under the other's.
    Exchanged(PathBuf),
    Kind(u8),
}

impl Wrong {
    fn make(&self, object: &Path) {
        let whole = fs::read(object).unwrap();
        match self {
            Wrong::Flip(at) => alter(object, *at),
            Wrong::CutAt(at) => fs::write(object, &whole[..*at]).unwrap(),
            Wrong::Missing => fs::remove_file(object).unwrap(),
            Wrong::Duplicate(other) => drop(fs::copy(other, object).unwrap()),
            Wrong::Exchanged(other) => {
                fs::copy(other, object).unwrap();
                fs::write(other, &whole).unwrap();
            }
            Wrong::Kind(kind) => {
                let mut bytes = whole;
                bytes[9] = *kind;
                fs::write(object, bytes).unwrap();
            }
        }
    }
}

fn alter(object: &Path, at: usize) {
    let mut bytes = fs::read(object).unwrap();
    bytes[at] ^= 1 << (at % 8);
    fs::write(object, bytes).unwrap();
}

/// Two backups, the second of which needs packs of the first.
async fn two_backups(ground: Ground) -> Line {
    let write = |name: &str, bytes: &[u8]| fs::write(ground.data().join(name), bytes).unwrap();
    fs::create_dir(ground.data().join("d")).unwrap();
    write("d/kept.ibd", &noise((1 << 20) + 90_000));
    write("rows.ibd", "row ".repeat(40_000).as_bytes());
    write("changed.ibd", &noise(120_000));
    let mut line = Line::new(ground);
    line.back_up("agent").await;
    let write = |name: &str, bytes: &[u8]| fs::write(line.ground.data().join(name), bytes).unwrap();
    write("changed.ibd", &noise(120_001));
    write("new.ibd", &noise(70_000));
    let second = line.back_up("agent").await;
    assert_eq!(second.header().refers_to.len(), 1);
    line
}

struct Matrix {
    line: Line,
    name: BackupName,
    hash: String,
    /// Of what the second backup reaches.
    objects: Vec<PathBuf>,
    /// Of each pack, where the chunks lie that the backup is made of.
    needed: BTreeMap<PathBuf, Vec<std::ops::Range<usize>>>,
    expected: BTreeMap<PathBuf, Vec<u8>>,
}

impl Matrix {
    async fn new(ground: Ground) -> Self {
        let line = two_backups(ground).await;
        let newest = line.complete.last().unwrap().clone();
        let hash = newest.manifest_hash.unwrap();
        let repository = &line.ground.repository;
        let manifest = read_manifest(repository, &shard(), &newest.name, Some(&hash))
            .await
            .unwrap();
        let at = |key: object_store::path::Path| line.ground.path("repository").join(key.as_ref());
        let own = at(layout::backup(&shard(), &newest.name));
        let mut objects = vec![own.join("manifest")];
        objects.extend(files_in(&own.join("parts")));
        let pack_path =
            |pack: &PackRecord| at(layout::pack(&shard(), &pack.origin.backup, pack.id));
        let mut needed: BTreeMap<PathBuf, Vec<_>> = BTreeMap::new();
        for pack in &manifest.packs {
            objects.push(pack_path(pack));
            needed.insert(pack_path(pack), Vec::new());
            if pack.origin.encrypted {
                objects.extend(files_in(&at(layout::keys(&shard(), &pack.origin.backup))));
            }
        }
        for part in &manifest.header.lists {
            let payload = manifest.get_list(repository, part).await.unwrap();
            for record in Records::new(&payload) {
                let Ok(Record::Chunks(chunks)) = record else {
                    continue;
                };
                for chunk in chunks {
                    let pack = pack_path(&manifest.packs[chunk.pack as usize]);
                    let (from, bytes) = (chunk.offset as usize, chunk.stored_bytes as usize);
                    let ranges = needed.entry(pack).or_default();
                    ranges.push(from..from + bytes + TAG_BYTES);
                }
            }
        }
        assert!(needed.values().all(|ranges| !ranges.is_empty()));
        objects.sort();
        objects.dedup();
        let expected = contents(&line.ground.data());
        Self {
            line,
            name: newest.name,
            hash,
            objects,
            needed,
            expected,
        }
    }

    /// Every way to spoil an object.
    fn wrongs(&self, object: &Path) -> Vec<Wrong> {
        let bytes = fs::metadata(object).unwrap().len() as usize;
        // The beginning, where each byte has a meaning, and then evenly to the end.
        let early = [0, 8, 9, 10, 16, 40, 64];
        let later = (1..=PLACES - early.len()).map(|n| (bytes - 1) * n / (PLACES - early.len()));
        let places: Vec<usize> = early
            .into_iter()
            .chain(later)
            .filter(|at| *at < bytes)
            .collect();
        let others = self.objects.iter().filter(|other| *other != object);
        let mut wrongs = vec![Wrong::Missing];
        wrongs.extend(places.iter().map(|at| Wrong::Flip(*at)));
        wrongs.extend(places.iter().map(|at| Wrong::CutAt(*at)));
        for other in others {
            wrongs.push(Wrong::Duplicate(other.clone()));
            wrongs.push(Wrong::Exchanged(other.clone()));
        }
        let is_key = object.extension().is_some_and(|e| e == "age");
        let own_kind = fs::read(object).unwrap()[9];
        wrongs.extend(
            (0..=5)
                .filter(|kind| !is_key && *kind != own_kind)
                .map(Wrong::Kind),
        );
        wrongs
    }

    /// Spoils, looks, and mends.
    async fn try_out(&self, object: &Path, wrong: &Wrong) {
        let other = match wrong {
            Wrong::Duplicate(other) | Wrong::Exchanged(other) => Some(other),
            _ => None,
        };
        let touched: Vec<PathBuf> = [object]
            .into_iter()
            .chain(other.map(PathBuf::as_path))
            .map(Path::to_owned)
            .collect();
        let whole: Vec<Vec<u8>> = touched.iter().map(|path| fs::read(path).unwrap()).collect();
        if whole.len() == 2 && whole[0] == whole[1] {
            return;
        }
        wrong.make(object);
        let case = format!("{wrong:?} of {}", self.key(object));
        let named: Vec<String> = touched.iter().map(|path| self.key(path)).collect();
        self.is_found_by_verify(&case, &named).await;
        self.is_found_by_restore(&case, &named, object, wrong).await;
        for (path, bytes) in touched.iter().zip(whole) {
            fs::write(path, bytes).unwrap();
        }
    }

    async fn is_found_by_verify(&self, case: &str, named: &[String]) {
        let verified = verify(
            &self.line.ground.repository,
            &shard(),
            &self.name,
            Some(&self.hash),
            &VerifyOptions::full(1),
            &Progress::new(),
            &CancellationToken::new(),
        )
        .await;
        let said = match verified {
            Ok(report) => {
                assert!(!report.passed(), "{case}: verification passed");
                format!("{:?}", report.damage)
            }
            Err(error) => self.only_of_keys(case, named, error),
        };
        assert!(is_named(&said, named, &self.name), "{case}: {said}");
    }

    async fn is_found_by_restore(
        &self,
        case: &str,
        named: &[String],
        object: &Path,
        wrong: &Wrong,
    ) {
        let target = self.line.ground.path("restored");
        let targets = BTreeMap::from([("data".to_owned(), target.clone())]);
        let repository = &self.line.ground.repository;
        let restored = async {
            let hash = Some(self.hash.as_str());
            let manifest = read_manifest(repository, &shard(), &self.name, hash).await?;
            let (progress, never) = (Progress::new(), CancellationToken::new());
            download(repository, &manifest, &targets, 2, &progress, &never).await
        };
        match restored.await {
            Ok(()) => {
                // What a restore has no need of may be spoilt, and never goes unseen by verify.
                assert!(self.is_unneeded(object, wrong), "{case}: restored");
                assert!(
                    contents(&target) == self.expected,
                    "{case}: restored otherwise"
                );
            }
            Err(error) => {
                let said = error.to_string();
                let lost = matches!(wrong, Wrong::Missing) && error.kind() == ErrorKind::NotFound;
                if error.kind() != ErrorKind::Corrupt && !lost {
                    self.only_of_keys(case, named, error);
                }
                assert!(is_named(&said, named, &self.name), "{case}: {said}");
            }
        }
        if target.exists() {
            fs::remove_dir_all(&target).unwrap();
        }
    }

    /// What lies outside the chunks of a pack, manifest and lists say too; and not every chunk of
    /// another backup's pack is one of this backup.
    fn is_unneeded(&self, object: &Path, wrong: &Wrong) -> bool {
        match (self.needed.get(object), wrong) {
            (Some(ranges), Wrong::Flip(at)) => !ranges.iter().any(|range| range.contains(at)),
            (Some(_), Wrong::Kind(_)) => true,
            _ => false,
        }
    }

    /// A key file that is spoilt may look like one for somebody else: that is no damage, and nothing
    /// is restored either.
    fn only_of_keys(&self, case: &str, named: &[String], error: crate::Error) -> String {
        let of_keys = named.iter().any(|key| key.ends_with(".age"));
        assert!(
            of_keys && error.kind() == ErrorKind::Refused,
            "{case}: {:?} {error}",
            error.kind()
        );
        error.to_string()
    }

    fn key(&self, object: &Path) -> String {
        let root = self.line.ground.path("repository");
        object
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    }

    async fn run(&self) {
        let soak = std::env::var_os("SEAWALL_SOAK").is_some();
        let (mut number, mut tried) = (0_usize, 0);
        for object in &self.objects {
            for wrong in self.wrongs(object) {
                number += 1;
                // Not every so many: that would be the same places of every object.
                let chosen = number.wrapping_mul(2_654_435_761) >> 7;
                if soak || chosen.is_multiple_of(ONE_OF) {
                    self.try_out(object, &wrong).await;
                    tried += 1;
                }
            }
        }
        println!(
            "{tried} of {number} cases of {} objects",
            self.objects.len()
        );
        assert!(tried * ONE_OF * 2 > number, "{tried} of {number}");
        self.line.comes_back(&self.name).await;
    }
}

/// By its key; of keys, whose files may be several, by their folder or their backup.
fn is_named(said: &str, named: &[String], backup: &BackupName) -> bool {
    named.iter().any(|key| {
        let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
        let is_key = key.ends_with(".age");
        let by_folder = is_key
            && (said.contains(folder)
                || said.contains(backup.as_str())
                || said.contains("the identity in"));
        let by_name = key.ends_with("/manifest") && said.contains(backup.as_str());
        said.contains(key) || by_folder || by_name
    })
}

fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let below = path.strip_prefix(root).unwrap().to_owned();
                found.insert(below, fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_whatever_is_done_to_any_object_of_an_encrypted_backup_is_noticed_and_named() {
    Matrix::new(Ground::encrypted().await).await.run().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_whatever_is_done_to_any_object_of_a_plain_backup_is_noticed_and_named() {
    Matrix::new(Ground::new().await).await.run().await;
}
