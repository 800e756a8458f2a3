//! Points in time, as a command names them.

use jiff::Timestamp;
use seawall_common::Error;

/// RFC 3339, or seconds since the epoch; as milliseconds since the epoch.
pub fn moment(text: &str) -> Result<u64, Error> {
    let malformed = || {
        Error::invalid(format!("malformed time {text:?}"))
            .hint("It is written like 2027-01-31T12:00:00Z, or as whole seconds since the epoch.")
    };
    let is_seconds = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let at: Timestamp = if is_seconds {
        let seconds = text.parse().map_err(|_| malformed())?;
        Timestamp::from_second(seconds).map_err(|_| malformed())?
    } else {
        text.parse().map_err(|_| malformed())?
    };
    u64::try_from(at.as_millisecond()).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rfc_3339_or_seconds_and_nothing_else() {
        for (text, expected) in [
            ("2026-11-21T03:15:00Z", 1_795_230_900_000),
            ("2026-11-21T04:15:00+01:00", 1_795_230_900_000),
            ("1795230900", 1_795_230_900_000),
        ] {
            assert_eq!(moment(text).unwrap(), expected, "{text}");
        }
        for bad in [
            "",
            "tomorrow",
            "2026-11-21",
            "2026-11-21T03:15:00",
            "-5",
            "1.5",
            "99999999999999999999",
        ] {
            assert!(moment(bad).is_err(), "{bad:?} was taken");
        }
    }
}
