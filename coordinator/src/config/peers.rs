//! Where members of a group are reached, as it is written.

use seawall_common::{Error, Result};

use crate::raft::Members;

/// Longest name of a host, as DNS has it.
const HOST_BYTES_MAX: usize = 253;

/// Whether `text` is host:port.
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = !host.is_empty() && host.len() <= HOST_BYTES_MAX;
    let is_odd = |c: char| c == '/' || c == '@' || c.is_whitespace() || c.is_control();
    is_host && is_port && !text.contains(is_odd)
}

/// Reads the address of a member of the group that is joined; as given to init it will do, too.
pub(super) fn joined_peer(peer: &str) -> Result<String> {
    let address = peer.split_once('=').map_or(peer, |(_, address)| address);
    if is_address(address) {
        return Ok(address.to_owned());
    }
    Err(Error::invalid(format!("malformed peer {peer:?}"))
        .hint("Peers are written host:port, separated by commas: a:7601,b:7601."))
}

/// Reads `1=host:port` pairs.
pub(super) fn members<'a>(pairs: impl Iterator<Item = &'a str>) -> Result<Members> {
    let mut members = Members::new();
    for pair in pairs {
        let malformed = || {
            Error::invalid(format!("malformed peer {pair:?}"))
                .hint("Peers are written number=host:port, separated by commas: 1=a:7601,2=b:7601,3=c:7601.")
        };
        let (id, address) = pair.split_once('=').ok_or_else(malformed)?;
        let id: u64 = id.parse().map_err(|_| malformed())?;
        if id == 0 || !is_address(address) {
            return Err(malformed());
        }
        if members.values().any(|known| known == address) {
            return Err(Error::invalid(format!(
                "two peers have the address {address}"
            )));
        }
        if members.insert(id, address.to_owned()).is_some() {
            return Err(Error::invalid(format!("two peers have the number {id}")));
        }
    }
    Ok(members)
}
