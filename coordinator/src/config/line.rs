//! The command line: the coordinator itself, and what makes its directory.

use clap::{Arg, ArgMatches, Command};
use seawall_common::{
    Error, Result,
    config::{Loaded, load, with_settings},
};

use super::{
    Request, Written, all_settings,
    peers::{is_address, joined_peer, members},
    resolve,
};
use crate::restoring;

pub fn command() -> Command {
    let init = Command::new("init")
        .about("Makes a data directory that of one member of a new group of several")
        .args(member_args())
        .arg(
            Arg::new("peers")
                .long("peers")
                .value_name("1=HOST:PORT,...")
                .required(true)
                .help("All members of the group, this one too, with their gRPC addresses"),
        );
    let join = Command::new("join")
        .about("Makes an empty data directory that of a new member of a group that is there")
        .after_help(
            "Start the coordinator on the directory then, and run: seawallctl AddMember N HOST:PORT",
        )
        .args(member_args())
        .arg(
            Arg::new("peers")
                .long("peers")
                .value_name("HOST:PORT,...")
                .required(true)
                .help("gRPC addresses of members of the group; one is enough"),
        );
    with_settings(
        Command::new("seawall-coordinator")
            .about("Decides about order: timestamps, locks, primaries, operations")
            .version(env!("CARGO_PKG_VERSION"))
            .subcommand(init)
            .subcommand(join)
            .subcommand(with_settings(restore_command(), &all_settings()))
            .args_conflicts_with_subcommands(true),
        &all_settings(),
    )
}

fn restore_command() -> Command {
    Command::new("restore")
        .about("Makes a new group from a backup of one whose members are lost")
        .after_help(
            "The new group takes the repository over from the old one. See docs/coordinators.md.",
        )
        .args([
            Arg::new("backup")
                .long("backup")
                .value_name("NAME")
                .help("Which of the groups' backups; without it, the newest that can be read"),
            Arg::new("above")
                .long("above")
                .value_name("N")
                .value_parser(clap::value_parser!(u64))
                .help(
                    "Give no timestamp at or below N; demanded when the repository has no bounds",
                ),
            Arg::new("id")
                .long("id")
                .value_name("N")
                .value_parser(clap::value_parser!(u64).range(1..))
                .default_value("1")
                .help("Number of the new group's first member"),
            Arg::new("address")
                .long("address")
                .value_name("HOST:PORT")
                .help("Where other members will reach it; without it, the address of listen"),
        ])
}

fn understand_restore(
    args: &ArgMatches,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Request> {
    let loaded: Loaded<Written> = load(&all_settings(), args, environment)?;
    if loaded.print_only {
        return Ok(Request::Print(loaded.printed));
    }
    let settings = resolve(loaded.settings)?;
    let address = args.get_one::<String>("address").cloned();
    let address = address.unwrap_or_else(|| settings.listen.to_string());
    if !is_address(&address) {
        return Err(Error::invalid(format!("malformed address {address:?}"))
            .hint("It is written host:port, as the other members will reach it."));
    }
    Ok(Request::Restore(Box::new(restoring::Request {
        data_dir: settings.data_dir,
        repository: settings.repository,
        backup: args.get_one("backup").cloned(),
        above: args.get_one("above").copied(),
        member: args.get_one("id").copied().unwrap_or(1),
        address,
    })))
}

fn member_args() -> [Arg; 2] {
    [
        Arg::new("data-dir")
            .long("data-dir")
            .env("SEAWALL_DATA_DIR")
            .value_name("DIR")
            .required(true)
            .help("Directory of this member's state"),
        Arg::new("id")
            .long("id")
            .value_name("N")
            .value_parser(clap::value_parser!(u64).range(1..))
            .required(true)
            .help("Number of this member, never used before in its group"),
    ]
}

pub fn understand(
    matches: &ArgMatches,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Request> {
    if let Some(("restore", args)) = matches.subcommand() {
        return understand_restore(args, environment);
    }
    if let Some((name, args)) = matches.subcommand() {
        let text = |name: &str| args.get_one::<String>(name).cloned().unwrap_or_default();
        let peers = text("peers");
        let peers = peers.split(',').map(str::trim);
        let data_dir = text("data-dir").into();
        let id = args.get_one::<u64>("id").copied().unwrap_or_default();
        return Ok(match name {
            "join" => Request::Join {
                data_dir,
                id,
                addresses: peers.map(joined_peer).collect::<Result<_>>()?,
            },
            _ => Request::Init {
                data_dir,
                id,
                members: members(peers)?,
            },
        });
    }
    let loaded: Loaded<Written> = load(&all_settings(), matches, environment)?;
    let settings = resolve(loaded.settings)?;
    Ok(if loaded.print_only {
        Request::Print(loaded.printed)
    } else {
        Request::Run(Box::new(settings))
    })
}
