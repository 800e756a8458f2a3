//! What may have been meant by a name that there is not.

/// A name is taken for a slip of another when they are more alike than this.
const LIKENESS_MIN: f64 = 0.5;

/// From 0, nothing in common, to 1, the same. A name cut short (`repo`) is much like the whole.
pub fn likeness(written: &str, right: &str) -> f64 {
    let likeness = strsim::normalized_damerau_levenshtein(written, right);
    match !written.is_empty() && right.starts_with(written) {
        true => (1.0 + likeness) / 2.0,
        false => likeness,
    }
}

/// The right name that is most like a wrong one, if any is.
pub fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    names
        .into_iter()
        .map(|name| (likeness(written, name), name))
        .filter(|(likeness, _)| *likeness > LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_and_a_name_cut_short_are_known_and_what_is_far_off_is_not() {
        let names = ["commerce", "customers", "repository"];
        for (written, meant) in [
            ("comerce", Some("commerce")),
            ("cutsomers", Some("customers")),
            ("repo", Some("repository")),
            ("xyz", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, names), meant, "{written}");
        }
        assert_eq!(nearest("commerce", []), None);
    }
}
