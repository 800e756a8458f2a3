//! Bytes per second, as people write them.

use bytesize::ByteSize;

use crate::error::{Error, Result};

/// What stands for no limit at all.
pub const UNLIMITED: &str = "unlimited";

/// `50MB`, `1.5GiB`, `800kB/s`, plain bytes; `0`: nothing may pass; `unlimited`: none.
pub fn parse(text: &str) -> Result<Option<u64>> {
    if text == UNLIMITED {
        return Ok(None);
    }
    let size = text.strip_suffix("/s").unwrap_or(text);
    // A limit that was rounded to nothing would pause what was to be slow.
    let is_nothing = |bytes: u64| bytes == 0 && size.trim() != "0";
    match size.parse::<ByteSize>() {
        Ok(ByteSize(bytes)) if !is_nothing(bytes) => Ok(Some(bytes)),
        _ => Err(Error::invalid(format!("malformed rate {text:?}")).hint(
            "It is written in bytes per second, like 50MB or 1.5GiB; 0 pauses, unlimited lifts.",
        )),
    }
}

/// As [`parse`] takes it, but for `paused`.
pub fn show(limit: Option<u64>) -> String {
    const UNITS: [(u64, &str); 8] = [
        (1 << 40, "TiB"),
        (1_000_000_000_000, "TB"),
        (1 << 30, "GiB"),
        (1_000_000_000, "GB"),
        (1 << 20, "MiB"),
        (1_000_000, "MB"),
        (1 << 10, "KiB"),
        (1_000, "kB"),
    ];
    match limit {
        None => UNLIMITED.to_owned(),
        Some(0) => "paused".to_owned(),
        Some(bytes) => {
            // Exactly, in the largest unit that allows it.
            let unit = UNITS.iter().find(|(unit, _)| bytes % unit == 0);
            let (unit, name) = unit.unwrap_or(&(1, "B"));
            format!("{} {name}/s", bytes / unit)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        for (text, rate) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("50MB", Some(50_000_000)),
            ("50MB/s", Some(50_000_000)),
            ("50 mb", Some(50_000_000)),
            ("1.5GiB", Some(3 << 29)),
            ("800kB/s", Some(800_000)),
            ("2M", Some(2_000_000)),
            ("unlimited", None),
        ] {
            assert_eq!(parse(text).unwrap(), rate, "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_with_a_word_on_how_to_write_one() {
        for text in [
            "",
            "-1",
            "fast",
            "50 MB per second",
            "1e400",
            "NaN",
            "inf",
            "50%",
            "Unlimited ",
            "0.2",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
            assert!(error.contains("50MB") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_limit_is_shown_as_it_was_given() {
        for text in [
            "1 MB/s",
            "50 MB/s",
            "3 GiB/s",
            "1536 MiB/s",
            "7 B/s",
            "unlimited",
        ] {
            assert_eq!(show(parse(text).unwrap()), text);
        }
        assert_eq!(show(Some(0)), "paused");
    }
}
