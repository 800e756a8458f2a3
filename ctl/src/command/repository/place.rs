//! Where a restore writes: beside the place that it is for, and renamed there when every byte of it
//! is verified and synced (I6). What was cut off never looks like a data directory.

use std::{
    fs,
    io::ErrorKind as Io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use seawall_common::{
    Error, Result,
    repository::{
        Destination, Destinations,
        partial::{Locked, Marker, directory as partial_directory, sync_parent},
    },
};

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
                    let partial = partial_directory(&path);
                    places.renames.insert(0, (partial.clone(), path.clone()));
                    (path, partial)
                }
                (None, Some(target)) => {
                    let target = absolute(target)?;
                    (target.join(name), partial_directory(&target).join(name))
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
            places.renames.push((partial_directory(&target), target));
        }
        Ok(places)
    }

    /// Each root and where it will be.
    pub fn roots(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.roots
            .iter()
            .map(|(name, path, _)| (name.as_str(), path.as_path()))
    }

    /// Refuses what could not be ended: places that hold something, or cannot be renamed to; and
    /// what is left of a restore of another backup than `marker` names.
    pub fn check(&self, marker: &Marker) -> Result<()> {
        for (number, (_, place)) in self.renames.iter().enumerate() {
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
            marker.check(place)?;
        }
        Ok(())
    }

    /// Makes everything ready: markers first, then the directories in which roots are written that
    /// have no place of their own. What is left of a restore of this very backup is gone on with.
    pub fn begin(&self, marker: &Marker) -> Result<(Destinations, Vec<Locked>)> {
        let mut locked = Vec::new();
        for (partial, place) in &self.renames {
            let lock = marker.lock(place)?;
            check_is_fresh(place)?;
            if !self.roots.iter().any(|(.., written)| written == partial) && !partial.is_dir() {
                fs::create_dir(partial).map_err(|e| Error::io("create directory", partial, &e))?;
            }
            locked.push(lock);
        }
        let destination = |(name, _, written): &(String, PathBuf, PathBuf)| {
            let destination = Destination {
                resume: written.is_dir(),
                ..Destination::fresh(written.clone())
            };
            (name.clone(), destination)
        };
        Ok((self.roots.iter().map(destination).collect(), locked))
    }

    /// The error that ended a restore, and where what it wrote lies.
    pub fn kept(&self, error: Error) -> Error {
        let partials = self.renames.iter().map(|(partial, _)| partial.display());
        let partials: Vec<String> = partials.map(|partial| partial.to_string()).collect();
        let hint = error
            .hint_text()
            .map(|hint| format!("{hint} "))
            .unwrap_or_default();
        error.hint(format!(
            "{hint}What was restored so far lies in {}: the same command goes on with it.",
            partials.join(" and ")
        ))
    }

    /// Puts what was written into its places. When that fails in the middle, some have theirs already.
    pub fn put_into_place(&self) -> Result<()> {
        let mut done: Vec<String> = Vec::new();
        for (partial, place) in &self.renames {
            match put(partial, place) {
                Ok(()) => done.push(place.display().to_string()),
                Err(error) if done.is_empty() => return Err(self.kept(error)),
                Err(error) => {
                    return Err(error.hint(format!(
                        "All of it is restored and verified. {} has its place already; rename {} to {} by hand.",
                        done.join(" and "),
                        partial.display(),
                        place.display()
                    )));
                }
            }
        }
        Ok(())
    }
}

fn put(partial: &Path, place: &Path) -> Result<()> {
    fs::File::open(partial)
        .and_then(|directory| directory.sync_all())
        .map_err(|e| Error::io("sync", partial, &e))?;
    fs::rename(partial, place).map_err(|e| Error::io("rename to", place, &e))?;
    sync_parent(place).map_err(|e| Error::io("sync the directory of", place, &e))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::io("find", path, &e))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
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
        places.check(&marker())?;
        Ok(places)
    }

    fn marker() -> Marker {
        let backup = "2026-11-25.120000.zone1-102".parse().unwrap();
        Marker::new(backup, "aa".to_owned())
    }

    #[test]
    fn i6_nothing_is_in_its_place_before_all_of_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let (target, redo) = (directory.path().join("t"), directory.path().join("redo"));
        let own = [format!("redo={}", redo.display())];
        let places = places(Some(&target), &own).unwrap();
        let (destinations, locked) = places.begin(&marker()).unwrap();
        for (name, destination) in destinations {
            assert!(!destination.resume);
            fs::create_dir(&destination.directory).unwrap();
            fs::write(destination.directory.join("file"), name).unwrap();
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
        locked.iter().for_each(|locked| locked.remove().unwrap());
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
            ("cut", "nothing beside it says what it is"),
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
    fn what_was_cut_off_is_gone_on_with_and_given_up_without_a_trace() {
        let directory = tempfile::tempdir().unwrap();
        let places = places(Some(&directory.path().join("t")), &[]).unwrap();
        let (destinations, locked) = places.begin(&marker()).unwrap();
        fs::create_dir(&destinations["data"].directory).unwrap();
        drop(locked);
        places.check(&marker()).unwrap();
        let (destinations, locked) = places.begin(&marker()).unwrap();
        assert!(destinations["data"].resume && !destinations["redo"].resume);
        locked.iter().for_each(|locked| locked.give_up().unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
