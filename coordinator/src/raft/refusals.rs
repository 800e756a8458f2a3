//! Why a member, or whoever says that it is one, is not let in: each in one line that says what to do.

use seawall_common::{Error, Result};

pub const INSTANCE_BYTES_MAX: usize = 64;

pub fn check_instance(member: u64, instance: &str) -> Result<()> {
    if member == 0 || instance.is_empty() || instance.len() > INSTANCE_BYTES_MAX {
        return Err(Error::invalid(format!(
            "a call in the name of member {member} without a right to it"
        )));
    }
    Ok(())
}

pub fn stranger(member: u64) -> Error {
    Error::refused(format!("member {member} is not known to this group"))
        .hint("Add it with seawallctl AddMember.")
}

pub fn removed(member: u64) -> Error {
    Error::fenced(format!(
        "member {member} was removed from the group, and its id is not used again"
    ))
    .hint(
        "To have a coordinator here again, run seawall-coordinator join with a new id on an empty data \
         directory, and seawallctl AddMember.",
    )
}

pub fn wiped(member: u64) -> Error {
    Error::fenced(format!(
        "the data directory of member {member} is not the one that the group knows under this \
         number: it was wiped or replaced, and may not vote again"
    ))
    .hint("Remove the member from the group and add it under a new id.")
}
