//! Reading a cron expression, and saying what is wrong with one.

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use seawall_common::{Error, Result};

/// Characters of an expression.
const CHARS_MAX: usize = 200;

/// What a field is, and what it takes besides `*`.
struct Field {
    name: &'static str,
    takes: &'static str,
}

const SECOND: Field = Field {
    name: "second",
    takes: "0-59",
};

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        takes: "0-59",
    },
    Field {
        name: "hour",
        takes: "0-23",
    },
    Field {
        name: "day of the month",
        takes: "1-31, or L for the last",
    },
    Field {
        name: "month",
        takes: "1-12, or JAN-DEC",
    },
    Field {
        name: "day of the week",
        takes: "0-7 (Sunday is 0 and 7), or SUN-SAT; MON#1 is the first Monday of a month",
    },
];

pub fn parse(cron: &str) -> Result<Cron> {
    if cron.chars().count() > CHARS_MAX {
        let named: String = cron.chars().take(20).collect();
        let named = format!("{named}...");
        return Err(malformed(
            &named,
            &format!("it is longer than {CHARS_MAX} characters"),
        ));
    }
    read(cron).ok_or_else(|| malformed(cron, &what_is_wrong(cron)))
}

fn read(cron: &str) -> Option<Cron> {
    let parser = CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed)
        .build();
    parser.parse(cron).ok()
}

fn malformed(cron: &str, why: &str) -> Error {
    Error::invalid(format!("malformed cron expression {cron:?}: {why}")).hint(
        "It is minute, hour, day of the month, month, day of the week: \"0 3 * * *\" is every day at \
         03:00; with a field for seconds before them if need be; or @hourly, @daily, @weekly, @monthly.",
    )
}

/// The field that cannot be read, and what it takes.
fn what_is_wrong(cron: &str) -> String {
    let written: Vec<&str> = cron.split_whitespace().collect();
    if written.first().is_some_and(|first| first.starts_with('@')) {
        return format!("there is no {}", written.join(" "));
    }
    let fields: Vec<&Field> = match written.len() {
        0 => return "it is empty".to_owned(),
        5 => FIELDS.iter().collect(),
        6 => [&SECOND].into_iter().chain(&FIELDS).collect(),
        1 => return "it has one field, and not 5".to_owned(),
        count => return format!("it has {count} fields, and not 5, or 6 with seconds"),
    };
    let mut wrong = (0..fields.len()).filter(|at| read(&alone(&written, *at)).is_none());
    match wrong.next() {
        Some(at) => format!(
            "{:?} is no {}: that is {}; *, or a list (1,15), a range (1-5) or steps (*/5) of those",
            written[at], fields[at].name, fields[at].takes
        ),
        None => "its fields do not go together".to_owned(),
    }
}

/// An expression in which nothing but one field can be wrong.
fn alone(written: &[&str], at: usize) -> String {
    let all = (0..written.len()).map(|n| if n == at { written[n] } else { "*" });
    all.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_that_is_wrong_is_named_with_what_it_takes() {
        for (cron, said) in [
            ("61 3 * * *", "\"61\" is no minute: that is 0-59"),
            ("0 25 * * *", "\"25\" is no hour: that is 0-23"),
            ("0 3 32 * *", "\"32\" is no day of the month: that is 1-31"),
            ("0 3 * JANUAR *", "\"JANUAR\" is no month: that is 1-12"),
            ("0 3 * * FOO", "\"FOO\" is no day of the week: that is 0-7"),
            ("60 0 3 * * *", "\"60\" is no second: that is 0-59"),
            ("0 0 24 * * *", "\"24\" is no hour"),
            ("5-x 3 * * *", "\"5-x\" is no minute"),
            ("3 * *", "it has 3 fields, and not 5"),
            ("0 0 3 * * * 2027", "it has 7 fields"),
            ("daily", "it has one field"),
            ("@never", "there is no @never"),
            ("", "it is empty"),
            (" ", "it is empty"),
            (&"1,".repeat(200), "longer than 200 characters"),
        ] {
            let refused = parse(cron).unwrap_err();
            assert!(refused.message().contains(said), "{cron}: {refused}");
            assert!(refused.hint_text().unwrap().contains("\"0 3 * * *\""));
            assert!(refused.message().len() < 300, "{refused}");
        }
        for cron in [
            "@daily",
            "0 3 L * *",
            "0 3 * * MON#1",
            "*/5 9-17 1,15 JAN-MAR MON-FRI",
        ] {
            parse(cron).unwrap();
        }
    }
}
