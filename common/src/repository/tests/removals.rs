//! Any sequence of backups, removals and collections, cut off anywhere: what remains restores, and
//! when everything is removed nothing is left.

use proptest::prelude::*;

use super::{shard::Shard, *};

#[derive(Clone, Copy, Debug)]
enum Act {
    /// A backup of data of its own.
    BackUp,
    /// One that needs what another needs, and puts no pack.
    Borrow(u8),
    /// One that is given up before its manifest.
    GiveUp,
    Remove(u8),
    /// The grace time of a removed one is over.
    GraceOver(u8),
    /// One batch of so many objects: what follows comes as after a crash.
    Collect(usize),
    /// A collector dies while it deletes several objects at once: any of them are gone.
    DieDeleting(u64),
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::BackUp),
        4 => any::<u8>().prop_map(Act::Borrow),
        1 => Just(Act::GiveUp),
        3 => any::<u8>().prop_map(Act::Remove),
        3 => any::<u8>().prop_map(Act::GraceOver),
        3 => (1..9_usize).prop_map(Act::Collect),
        2 => any::<u64>().prop_map(Act::DieDeleting),
    ]
}

/// A shard under random acts, and for each backup that exists what its file contains.
struct Walk {
    shard: Shard,
    contents: BTreeMap<u32, u32>,
    next: u32,
}

impl Walk {
    async fn act(&mut self, act: Act) {
        match act {
            Act::BackUp => {
                self.shard.back_up(self.next).await;
                self.contents.insert(self.next, self.next);
                self.next += 1;
            }
            Act::Borrow(n) => {
                if let Some(from) = pick(self.contents.keys().copied(), n) {
                    self.shard.borrow(self.next, from).await;
                    self.contents.insert(self.next, self.contents[&from]);
                    self.next += 1;
                }
            }
            Act::GiveUp => {
                self.shard.begin(self.next).await;
                self.shard.remove(self.next).await;
                self.next += 1;
            }
            Act::Remove(n) => {
                if let Some(number) = pick(self.contents.keys().copied(), n) {
                    self.shard.remove(number).await;
                    self.shard.request.keep.insert(name(number));
                    self.contents.remove(&number);
                }
            }
            Act::GraceOver(n) => {
                let keep = &mut self.shard.request.keep;
                if let Some(name) = pick(keep.iter().cloned(), n) {
                    keep.remove(&name);
                }
            }
            Act::Collect(objects) => {
                let limits = BatchLimits {
                    objects,
                    bytes: u64::MAX,
                };
                let batch = self.shard.collect_batch(limits).await;
                assert!(batch.unwrap().objects <= objects as u64);
            }
            Act::DieDeleting(which) => self.die_deleting(which).await,
        }
    }

    /// Some deletes of one stage are done, none of the later ones: deletes of a stage go at once.
    async fn die_deleting(&self, which: u64) {
        let before = self.shard.objects();
        let faults = &self.shard.ground.repository.store().faults;
        faults.arm("repository.delete", &format!("die-{which}"));
        drop(self.shard.collect().await);
        faults.arm("repository.delete", "off");
        let after = self.shard.objects();
        assert!(after.iter().all(|key| before.contains(key)));
    }

    async fn check(&self) {
        for (number, contents) in &self.contents {
            let restored = self.shard.restore(*number).await;
            let restored = restored.unwrap_or_else(|e| panic!("backup {number}: {e}"));
            assert!(restored == Shard::contents(*contents), "backup {number}");
        }
    }

    async fn end(mut self) {
        let left: Vec<u32> = self.contents.keys().copied().collect();
        for number in left {
            self.shard.remove(number).await;
        }
        self.shard.request.keep.clear();
        let planned = self.shard.plan().await.unwrap();
        let planned: u64 = planned.values().map(|left| left.objects).sum();
        let collected = self.shard.collect().await.unwrap();
        assert_eq!((collected.objects, collected.more), (planned, false));
        let mut left = self.shard.objects();
        left.retain(|key| !key.starts_with("recipients/"));
        let is_mark = |key: &String| key.ends_with("/removed") || key == "seawall.json";
        assert!(left.iter().all(is_mark), "{left:?}");
        assert_eq!(left.len() as u32, self.next + 1);
    }
}

fn pick<T>(of: impl ExactSizeIterator<Item = T>, n: u8) -> Option<T> {
    let mut of = of;
    match of.len() {
        0 => None,
        length => of.nth(usize::from(n) % length),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn i5_whatever_is_removed_and_collected_all_that_remains_restores_and_in_the_end_nothing_is_left(
        sequence in proptest::collection::vec(acts(), 1..25),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let shard = Shard::encrypted().await;
            let mut walk = Walk { shard, contents: BTreeMap::new(), next: 0 };
            for act in sequence {
                walk.act(act).await;
                if matches!(act, Act::Collect(_) | Act::DieDeleting(_)) {
                    walk.check().await;
                }
            }
            walk.end().await;
        });
    }
}
