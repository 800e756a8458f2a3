//! Which packs a backup needs, without a key: so that damage in one is known to every backup that
//! reaches it.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{outline::Outline, report::VerifyReport};
use crate::{
    error::{Error, Result},
    ids::{BackupName, ShardId},
    repository::header::Repository,
};

/// How a pack is called outside of the repository: 32 hexadecimal digits.
pub fn pack_name(id: Uuid) -> String {
    id.simple().to_string()
}

/// The packs whose keys stand in an error's message.
pub fn packs_named_in(message: &str) -> Vec<String> {
    let words = message.split(|c: char| c.is_whitespace() || c == ',' || c == ';');
    let packs: BTreeSet<String> = words.filter_map(pack_in_key).collect();
    packs.into_iter().collect()
}

/// `keyspaces/<keyspace>/<shard>/packs/<backup>/<pack>`.
fn pack_in_key(word: &str) -> Option<String> {
    let mut parts = word.split('/').skip_while(|part| *part != "packs").skip(1);
    let _backup: BackupName = parts.next()?.parse().ok()?;
    let id = parts.next()?;
    let is_last = parts.next().is_none();
    (is_last && id.len() == 32)
        .then(|| Uuid::try_parse(id).ok().map(pack_name))
        .flatten()
}

impl Repository {
    /// Names of the packs that a backup needs, as its manifest of this hash says; see [`pack_name`].
    /// [`crate::ErrorKind::Corrupt`]: manifest or pack list are not what was written.
    pub async fn packs_of(
        &self,
        shard: &ShardId,
        name: &BackupName,
        manifest_hash: &str,
    ) -> Result<BTreeSet<String>> {
        let mut report = VerifyReport::new(name, 100, 0);
        let outline =
            Outline::read(self, shard, name, Some(manifest_hash), false, &mut report).await?;
        match (outline, report.damage.first()) {
            (Some(outline), None) => Ok(outline
                .packs
                .iter()
                .map(|pack| pack_name(pack.id))
                .collect()),
            (_, damage) => Err(Error::corrupt(damage.map_or_else(
                || format!("backup {name} of {shard} cannot be read"),
                ToString::to_string,
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_are_found_in_a_message_and_nothing_else_is() {
        let id = "0123456789abcdef0123456789abcdef";
        let name = "2026-11-21.031500.zone1-101";
        let key = format!("keyspaces/commerce/0/packs/{name}/{id}");
        for message in [
            format!("object {key} is missing, which backup {name} needs"),
            format!("cannot restore t.ibd: object {key} is damaged"),
            format!("one {key}, and again {key}"),
        ] {
            assert_eq!(packs_named_in(&message), [id]);
        }
        for message in [
            format!("object keyspaces/commerce/0/backups/{name}/manifest is missing"),
            format!("object keyspaces/commerce/0/packs/{name}/keys/{id}.0011.age is missing"),
            format!("object keyspaces/commerce/0/packs/other/{id} is missing"),
            String::new(),
        ] {
            assert_eq!(packs_named_in(&message), Vec::<String>::new(), "{message}");
        }
    }
}
