//! Where a restore writes: beside the place that it is for, and renamed there when every byte of it
//! is verified and synced (I6). What was cut off never looks like a data directory.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind as Io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use seawall_common::{Error, Result};

/// Behind the name of a directory: what is being restored for it.
const PARTIAL: &str = ".seawall-restore";

/// `--root NAME=DIRECTORY`.
#[derive(Clone, Debug)]
pub struct RootPlace {
    name: String,
    path: PathBuf,
}

impl FromStr for RootPlace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok(Self {
                name: name.to_owned(),
                path: path.into(),
            }),
            _ => Err(Error::invalid(format!("malformed root {text:?}"))
                .hint("It is written NAME=DIRECTORY: data=/var/lib/mysql.")),
        }
    }
}

/// The directories of a restore.
#[derive(Clone, Debug)]
pub struct Places {
    /// In the order of the backup's roots: the name, where it goes, where it is written first.
    roots: Vec<(String, PathBuf, PathBuf)>,
    /// What is renamed at the end, from and to: the roots that were given a place of their own,
    /// then the target. The first root, without which no server starts, is in place last.
    renames: Vec<(PathBuf, PathBuf)>,
}

impl Places {
    /// Each root goes to its own place, or below `target` under its name.
    pub fn new(roots: &[&str], target: Option<&Path>, own: &[RootPlace]) -> Result<Self> {
        if let Some(unknown) = own.iter().find(|own| !roots.contains(&own.name.as_str())) {
            return Err(
                Error::invalid(format!("the backup has no root {:?}", unknown.name))
                    .hint(format!("Its roots are {}.", roots.join(", "))),
            );
        }
        let mut places = Self {
            roots: Vec::new(),
            renames: Vec::new(),
        };
        for name in roots {
            let mut own = own.iter().filter(|own| own.name == *name);
            let (path, written) = match (own.next(), target) {
                (Some(own), _) => {
                    let path = absolute(&own.path)?;
                    let partial = beside(&path);
                    places.renames.insert(0, (partial.clone(), path.clone()));
                    (path, partial)
                }
                (None, Some(target)) => {
                    let target = absolute(target)?;
                    (target.join(name), beside(&target).join(name))
                }
                (None, None) => {
                    return Err(
                        Error::invalid(format!("nothing says where root {name:?} goes"))
                            .hint(format!("Give --target, or --root {name}=DIRECTORY.")),
                    );
                }
            };
            if own.next().is_some() {
                return Err(Error::invalid(format!("root {name:?} is given two places")));
            }
            places.roots.push(((*name).to_owned(), path, written));
        }
        if let Some(target) = target
            && places.renames.len() < roots.len()
        {
            let target = absolute(target)?;
            places.renames.push((beside(&target), target));
        }
        Ok(places)
    }

    /// Each root and where it will be.
    pub fn roots(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.roots
            .iter()
            .map(|(name, path, _)| (name.as_str(), path.as_path()))
    }

    /// Where each root is written first.
    pub fn written(&self) -> BTreeMap<String, PathBuf> {
        self.roots
            .iter()
            .map(|(name, _, written)| (name.clone(), written.clone()))
            .collect()
    }

    /// Refuses what could not be ended: places that hold something, or cannot be renamed to.
    pub fn check(&self) -> Result<()> {
        for (number, (partial, place)) in self.renames.iter().enumerate() {
            let (_, others) = self.renames.split_at(number + 1);
            if let Some((_, other)) = others
                .iter()
                .find(|(_, other)| other.starts_with(place) || place.starts_with(other))
            {
                return Err(Error::invalid(format!(
                    "{} and {} lie in each other",
                    place.display(),
                    other.display()
                )));
            }
            check_is_fresh(place)?;
            if partial.symlink_metadata().is_ok() {
                return Err(Error::refused(format!(
                    "{} is there: a restore that was cut off, or one under way",
                    partial.display()
                ))
                .hint("Remove it when nobody writes to it."));
            }
        }
        Ok(())
    }

    /// Makes the directories in which roots are written that have no place of their own.
    pub fn begin(&self) -> Result<()> {
        for (partial, _) in &self.renames {
            if !self.roots.iter().any(|(.., written)| written == partial) {
                fs::create_dir(partial).map_err(|e| Error::io("create directory", partial, &e))?;
            }
        }
        Ok(())
    }

    /// Puts what was written into its places.
    pub fn put_into_place(&self) -> Result<()> {
        for (partial, place) in &self.renames {
            fs::File::open(partial)
                .and_then(|directory| directory.sync_all())
                .map_err(|e| Error::io("sync", partial, &e))?;
            fs::rename(partial, place).map_err(|e| Error::io("rename to", place, &e))?;
            let parent = parent(place);
            fs::File::open(parent)
                .and_then(|directory| directory.sync_all())
                .map_err(|e| Error::io("sync", parent, &e))?;
        }
        Ok(())
    }

    /// Deletes what was written and not put into place.
    pub fn give_up(&self) -> Result<()> {
        for (partial, _) in &self.renames {
            match fs::remove_dir_all(partial) {
                Err(e) if e.kind() != Io::NotFound => {
                    return Err(Error::io("remove directory", partial, &e));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::io("find", path, &e))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(PARTIAL);
    PathBuf::from(name)
}

/// An empty directory is as good as none, if it can be renamed over.
fn check_is_fresh(place: &Path) -> Result<()> {
    let above = parent(place);
    let above_meta = fs::metadata(above).map_err(|e| {
        Error::io("examine", above, &e).hint("Make the directory above the target first.")
    })?;
    let meta = match fs::symlink_metadata(place) {
        Err(e) if e.kind() == Io::NotFound => return Ok(()),
        other => other.map_err(|e| Error::io("examine", place, &e))?,
    };
    if !meta.is_dir() {
        return Err(Error::refused(format!(
            "{} is there and is no directory",
            place.display()
        )));
    }
    let mut entries = fs::read_dir(place).map_err(|e| Error::io("read directory", place, &e))?;
    if entries.next().is_some() {
        return Err(Error::refused(format!(
            "{} is not empty: nothing is restored over it",
            place.display()
        ))
        .hint("Name a directory that is not there yet."));
    }
    if meta.dev() != above_meta.dev() {
        return Err(Error::refused(format!(
            "{} is a file system of its own: it cannot be renamed to",
            place.display()
        ))
        .hint("Name a directory below the mount point."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(target: Option<&Path>, own: &[String]) -> Result<Places> {
        let own: Vec<RootPlace> = own.iter().map(|text| text.parse().unwrap()).collect();
        let places = Places::new(&["data", "redo"], target, &own)?;
        places.check()?;
        Ok(places)
    }

    #[test]
    fn i6_nothing_is_in_its_place_before_all_of_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let (target, redo) = (directory.path().join("t"), directory.path().join("redo"));
        let own = [format!("redo={}", redo.display())];
        let places = places(Some(&target), &own).unwrap();
        places.begin().unwrap();
        for (name, written) in places.written() {
            fs::create_dir(&written).unwrap();
            fs::write(written.join("file"), name).unwrap();
        }
        assert!(!target.exists() && !redo.exists());
        let finals: Vec<_> = places.roots().map(|(_, path)| path.to_owned()).collect();
        assert_eq!(finals, [target.join("data"), redo.clone()]);
        // The data comes last: without it no server starts on the rest.
        let (_, last) = places.renames.last().unwrap();
        assert_eq!(*last, target);
        places.put_into_place().unwrap();
        assert_eq!(fs::read(target.join("data/file")).unwrap(), b"data");
        assert_eq!(fs::read(redo.join("file")).unwrap(), b"redo");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn the_first_root_is_in_place_last_wherever_it_goes() {
        let directory = tempfile::tempdir().unwrap();
        let own =
            ["data", "redo"].map(|root| format!("{root}={}/{root}", directory.path().display()));
        let places = places(None, &own).unwrap();
        let (_, last) = places.renames.last().unwrap();
        assert!(last.ends_with("data"), "{places:?}");
    }

    #[test]
    fn a_restore_goes_only_to_fresh_places() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir_all(path("full/x")).unwrap();
        fs::create_dir(path("empty")).unwrap();
        fs::write(path("file"), b"").unwrap();
        fs::create_dir(path("cut.seawall-restore")).unwrap();
        for (target, says) in [
            ("full", "is not empty"),
            ("file", "is no directory"),
            ("cut", "was cut off"),
            ("nowhere/x", "examine"),
        ] {
            let error = places(Some(&path(target)), &[]).unwrap_err();
            assert!(error.message().contains(says), "{target}: {error}");
        }
        places(Some(&path("empty")), &[]).unwrap();
        for (own, says) in [
            (vec![], "nothing says where root \"data\""),
            (vec!["logs=/x".to_owned()], "no root \"logs\""),
            (
                vec![format!("data={}", path("d").display()); 2],
                "two places",
            ),
        ] {
            let error = places(None, &own).unwrap_err();
            assert!(error.message().contains(says), "{error}");
        }
        let inside = [format!("redo={}", path("t/redo").display())];
        let error = places(Some(&path("t")), &inside).unwrap_err();
        assert!(error.message().contains("in each other"), "{error}");
        for bad in ["data", "=x", "data="] {
            assert!(bad.parse::<RootPlace>().is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn i6_what_was_given_up_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let places = places(Some(&directory.path().join("t")), &[]).unwrap();
        places.begin().unwrap();
        fs::create_dir(&places.written()["data"]).unwrap();
        places.give_up().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        places.give_up().unwrap();
    }
}
