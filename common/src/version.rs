//! Versions of database servers, as far as they decide which files fit which server.

/// The series of a server version: `10.11` of `10.11.19-MariaDB-0+deb12u1-log`.
fn series(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether files of a server of version `theirs` can be opened by one of version `ours`: only within
/// one series. An older server cannot read a newer one's files, and a newer one wants an upgrade that a
/// restore does not do. A version that is not known is no obstacle.
pub fn opens_files_of(ours: &str, theirs: &str) -> bool {
    match (series(ours), series(theirs)) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_fit_within_one_series_only() {
        let ours = "10.11.19-MariaDB-0+deb12u1-log";
        for (theirs, fits) in [
            ("10.11.6-MariaDB", true),
            ("10.11.19-MariaDB-0+deb12u1-log", true),
            ("10.6.19-MariaDB", false),
            ("11.4.2-MariaDB", false),
            ("10.1.19", false),
            ("", true),
            ("unknown", true),
        ] {
            assert_eq!(opens_files_of(ours, theirs), fits, "{theirs}");
        }
        assert!(opens_files_of("", "11.4.2-MariaDB"));
    }
}
