//! Which tablets somebody asks for, by their shard.

use std::collections::BTreeMap;

use seawall_common::{
    Error, Result,
    ids::{ShardId, check_keyspace},
};

pub enum Filter {
    All,
    Keyspace(String),
    Shard(ShardId),
}

impl Filter {
    /// Of a shard, of a keyspace, or, when nothing is named, all.
    pub fn new(keyspace: &str, shard: &str) -> Result<Self> {
        match (keyspace, shard) {
            ("", "") => Ok(Filter::All),
            ("", shard) => Err(Error::invalid(format!(
                "shard {shard:?} is named without its keyspace"
            ))),
            (keyspace, "") => {
                check_keyspace(keyspace)?;
                Ok(Filter::Keyspace(keyspace.to_owned()))
            }
            (keyspace, shard) => Ok(Filter::Shard(ShardId::new(keyspace, shard)?)),
        }
    }

    pub fn takes(&self, shard: &ShardId) -> bool {
        match self {
            Filter::All => true,
            Filter::Keyspace(keyspace) => shard.keyspace() == keyspace,
            Filter::Shard(wanted) => shard == wanted,
        }
    }

    /// Whether one of these shards is asked for.
    pub fn takes_any_of<T>(&self, shards: &BTreeMap<ShardId, T>) -> bool {
        match self {
            Filter::All => !shards.is_empty(),
            Filter::Keyspace(_) => shards.keys().any(|shard| self.takes(shard)),
            Filter::Shard(wanted) => shards.contains_key(wanted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_what_it_names_and_nothing_else() {
        let shards: Vec<ShardId> = ["commerce/0", "commerce/1", "orders/0"]
            .map(|text| text.parse().unwrap())
            .into();
        for (keyspace, shard, expected) in [
            ("", "", &shards[..]),
            ("commerce", "", &shards[..2]),
            ("orders", "0", &shards[2..]),
            ("nothing", "", &[]),
            ("commerce", "7", &[]),
        ] {
            let filter = Filter::new(keyspace, shard).unwrap();
            let taken = shards.iter().filter(|shard| filter.takes(shard));
            assert!(taken.eq(expected), "{keyspace}/{shard}");
            let all: BTreeMap<_, _> = shards.iter().map(|shard| (shard.clone(), ())).collect();
            assert_eq!(filter.takes_any_of(&all), !expected.is_empty());
            assert!(!filter.takes_any_of::<()>(&BTreeMap::new()));
        }
        Filter::new("", "0").err().unwrap();
        Filter::new("..", "").err().unwrap();
    }
}
