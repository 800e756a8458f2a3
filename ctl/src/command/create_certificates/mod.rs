mod authority;
mod files;

use std::{path::PathBuf, str::FromStr, time::Duration};

use authority::{Authority, Wanted};
use seawall_common::{
    Error,
    clock::now_unix_ms,
    ids::Alias,
    tls::{Identity, Role},
};

use crate::{
    cli::duration,
    exit::{Failure, Outcome},
    output::{
        Output,
        human::{or_dash, time, time_short},
        json, table,
    },
};

/// Makes certificates for TLS: a private authority, and one certificate for each of those named
///
/// The authority is made when the directory has none, and used when it has one. A certificate names
/// who has it: a coordinator, the agent of a tablet, an operator (who may change things) or a viewer
/// (who may not); at least one has to be named. Nothing is ever overwritten unless --renew is given. Keep ca.key where no server is:
/// whoever has it can make certificates of every role.
#[derive(Debug, clap::Args)]
pub struct CreateCertificates {
    /// Where the files are, and are put
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,

    /// A coordinator: its number, and the names and addresses by which others reach it
    #[arg(long = "member", value_name = "N=HOST[,HOST...]")]
    members: Vec<Reached>,

    /// The agent of a tablet: its alias, and the names and addresses by which coordinators reach it
    #[arg(long = "agent", value_name = "ALIAS=HOST[,HOST...]")]
    agents: Vec<Reached>,

    /// Somebody, or some program, that may change things
    #[arg(long = "operator", value_name = "NAME")]
    operators: Vec<String>,

    /// Somebody, or some program, that may look, and take timestamps
    #[arg(long = "viewer", value_name = "NAME")]
    viewers: Vec<String>,

    /// How long the certificates are good for; the authority is good for ten years
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "365d")]
    valid_for: Duration,

    /// Make anew what is there already; the authority stays
    #[arg(long)]
    renew: bool,
}

/// `1=c1.example,10.0.0.1`
#[derive(Clone, Debug)]
struct Reached {
    name: String,
    hosts: Vec<String>,
}

impl FromStr for Reached {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let malformed = || {
            Error::invalid(format!("{text:?} names nobody with a host"))
                .hint("It is written NAME=HOST[,HOST...], without ports.")
        };
        let (name, hosts) = text.split_once('=').ok_or_else(malformed)?;
        let hosts: Vec<String> = hosts.split(',').map(|h| h.trim().to_owned()).collect();
        let is_host = |host: &String| !host.is_empty() && !host.contains(['/', ' ', '@']);
        let has_port =
            |host: &String| host.parse::<std::net::IpAddr>().is_err() && host.contains(':');
        if name.is_empty() || !hosts.iter().all(is_host) || hosts.iter().any(has_port) {
            return Err(malformed());
        }
        Ok(Self {
            name: name.to_owned(),
            hosts,
        })
    }
}

impl CreateCertificates {
    pub fn run(self, output: Output) -> Outcome {
        let wanted = self.wanted().map_err(Failure::usage)?;
        let made = self.make(&wanted);
        let made = made.map_err(|e| Failure::failed(e).of("CreateCertificates"))?;
        output.print(&made, || names(&made), || render(&made))
    }

    /// All that was asked for, checked.
    fn wanted(&self) -> Result<Vec<Wanted>, Error> {
        let mut wanted = Vec::new();
        for member in &self.members {
            if !member.name.parse::<u64>().is_ok_and(|number| number > 0) {
                return Err(Error::invalid(format!(
                    "{:?} is not the number of a coordinator",
                    member.name
                ))
                .hint("Members are numbered from 1 on, as for init: --member 1=c1.example."));
            }
            wanted.push(Wanted::server(Role::Coordinator, member)?);
        }
        for agent in &self.agents {
            let _: Alias = agent.name.parse()?;
            wanted.push(Wanted::server(Role::Agent, agent)?);
        }
        let people = [
            (Role::Operator, &self.operators),
            (Role::Viewer, &self.viewers),
        ];
        for (role, names) in people {
            for name in names {
                wanted.push(Wanted {
                    identity: Identity::new(role, name)?,
                    hosts: Vec::new(),
                });
            }
        }
        if wanted.is_empty() {
            return Err(Error::invalid("nobody is named who is to have a certificate").hint(
                "Name at least one, with --member, --agent, --operator or --viewer; the authority is \
                 made with the first.",
            ));
        }
        for (index, one) in wanted.iter().enumerate() {
            if wanted[..index].iter().any(|o| o.identity == one.identity) {
                return Err(Error::invalid(format!("{} is named twice", one.identity)));
            }
        }
        Ok(wanted)
    }

    fn make(&self, wanted: &[Wanted]) -> Result<json::Certificates, Error> {
        files::make_directory(&self.directory)?;
        if !self.renew {
            // Before anything is written.
            for one in wanted {
                files::check_free(&self.directory, &one.stem())?;
            }
        }
        let valid_for_s = i64::try_from(self.valid_for.as_secs()).unwrap_or(i64::MAX);
        let now_unix_s = i64::try_from(now_unix_ms() / 1000).unwrap_or(i64::MAX);
        let expires_unix_s = now_unix_s.saturating_add(valid_for_s);
        let (authority, is_new) = Authority::open_or_make(&self.directory, now_unix_s)?;
        if expires_unix_s > authority.expires_unix_s {
            return Err(Error::invalid(format!(
                "certificates that are valid for so long would outlive their authority, which ends on {}",
                time_short(millis(authority.expires_unix_s))
            ))
            .hint("Give a shorter --valid-for."));
        }
        let mut made = json::Certificates {
            ca_file: files::path(&self.directory, "ca.crt"),
            ca_expires_at: time(millis(authority.expires_unix_s)),
            ca_is_new: is_new,
            certificates: Vec::new(),
        };
        for one in wanted {
            let pair = authority.issue(one, now_unix_s, expires_unix_s)?;
            let (cert_file, key_file) = files::put(&self.directory, &one.stem(), &pair)?;
            made.certificates.push(json::Certificate {
                role: one.identity.role.name().to_owned(),
                name: one.identity.name().to_owned(),
                hosts: one.hosts.clone(),
                cert_file,
                key_file,
                expires_at: time(millis(expires_unix_s)),
            });
        }
        Ok(made)
    }
}

impl Wanted {
    fn server(role: Role, reached: &Reached) -> Result<Self, Error> {
        Ok(Self {
            identity: Identity::new(role, &reached.name)?,
            hosts: reached.hosts.clone(),
        })
    }

    /// How its files are named.
    fn stem(&self) -> String {
        format!("{}-{}", self.identity.role, self.identity.name())
    }
}

fn millis(unix_s: i64) -> u64 {
    u64::try_from(unix_s).unwrap_or(0).saturating_mul(1000)
}

fn names(made: &json::Certificates) -> String {
    let files = made.certificates.iter().map(|one| one.cert_file.as_str());
    super::lines(std::iter::once(made.ca_file.as_str()).chain(files))
}

fn render(made: &json::Certificates) -> String {
    let rows = made.certificates.iter().map(|one| {
        vec![
            one.role.clone(),
            one.name.clone(),
            one.cert_file.clone(),
            one.key_file.clone(),
            or_dash(one.expires_at.as_deref().unwrap_or_default()),
        ]
    });
    let heads = ["ROLE", "NAME", "CERTIFICATE", "KEY", "EXPIRES"];
    let age = if made.ca_is_new { "new" } else { "known" };
    format!(
        "{}\n\nAuthority ({age}): {}, good until {}.\n\
         Each coordinator and agent gets its own certificate and key and the authority's certificate\n\
         (tls.cert_file, tls.key_file, tls.ca_file); so does whoever runs seawallctl (--tls-cert-file,\n\
         --tls-key-file, --tls-ca-file). The authority's key, ca.key, belongs on no server.",
        table::render(&heads, rows),
        made.ca_file,
        or_dash(made.ca_expires_at.as_deref().unwrap_or_default()),
    )
}

#[cfg(test)]
mod tests;
