//! Mistakes on a command line, told in one line and a hint, and what ends a program over them.

use clap::{
    ArgMatches, Command,
    error::{ContextKind, ContextValue},
};

use crate::error::{Error, one_line};

/// As clap's own `get_matches`, but a mistake is told in one line. Exit status 2 then; help and the
/// version end the program with 0.
pub fn get_matches(command: Command) -> ArgMatches {
    let program = command.get_name().to_owned();
    command.try_get_matches().unwrap_or_else(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        eprintln!("{program}: {}", mistake(&error, &program));
        std::process::exit(2)
    })
}

/// What clap found wrong, in one line and a hint.
pub fn mistake(error: &clap::Error, program: &str) -> Error {
    if let Some(ours) = std::error::Error::source(error).and_then(|e| e.downcast_ref::<Error>()) {
        return match option(error) {
            Some(option) => ours.clone().context(option),
            None => ours.clone(),
        };
    }
    let rendered = error.render().to_string();
    let (problem, rest) = rendered
        .split_once("\n\n")
        .unwrap_or((rendered.as_str(), ""));
    let problem = one_line(problem.trim_start_matches("error: "));
    let usage = rest
        .lines()
        .find_map(|line| line.trim().strip_prefix("Usage: "))
        .map_or_else(
            || format!("See {program} --help."),
            |usage| format!("Usage: {usage}."),
        );
    let suggestion = suggestion(error)
        .map(|right| format!("Did you mean {right}? "))
        .unwrap_or_default();
    Error::invalid(problem).hint(format!("{suggestion}{usage}"))
}

/// The option whose value is wrong; none for what stands without one, which speaks for itself.
fn option(error: &clap::Error) -> Option<&str> {
    let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let name = arg.split([' ', '=']).next()?;
    name.starts_with("--").then_some(name)
}

/// The name that clap finds most like the mistaken one.
fn suggestion(error: &clap::Error) -> Option<&str> {
    [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
    ]
    .into_iter()
    .find_map(|kind| match error.get(kind)? {
        ContextValue::String(name) => Some(name.as_str()),
        // The best one stands last.
        ContextValue::Strings(names) => names.last().map(String::as_str),
        _ => None,
    })
}
