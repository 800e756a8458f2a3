use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use seawall_common::{
    Error, ErrorKind, Result,
    tls::{Dialer, Tls},
};

use tokio::sync::watch;

use super::{AHEAD, Allocator, BLOCK, Recorder, bounds::Bounds};
use crate::{
    raft::{Compaction, Identity, Members, Node, NodeOptions},
    state::Command,
};

/// A repository that holds bounds in memory, and fails on demand.
#[derive(Default)]
pub struct Memory {
    /// None: it is the one that the group knows.
    id: Option<&'static str>,
    bounds: Mutex<BTreeSet<u64>>,
    is_away: AtomicBool,
    /// It neither answers nor refuses; what was asked is done once it does not hang any more.
    hangs: watch::Sender<bool>,
    /// Another group has it.
    is_others: AtomicBool,
}

impl Memory {
    fn with(bound: u64) -> Arc<Self> {
        let memory = Arc::<Self>::default();
        memory.bounds.lock().unwrap().insert(bound);
        memory
    }

    fn greatest(&self) -> u64 {
        self.bounds.lock().unwrap().last().copied().unwrap_or(0)
    }

    fn count(&self) -> usize {
        self.bounds.lock().unwrap().len()
    }

    fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    async fn answer(&self) -> Result<()> {
        let mut hangs = self.hangs.subscribe();
        hangs.wait_for(|hangs| !hangs).await.unwrap();
        match self.is_away.load(Ordering::SeqCst) {
            true => Err(Error::unavailable("the store is away")),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Bounds for Memory {
    fn repository_id(&self) -> &str {
        self.id.unwrap_or("memory")
    }

    async fn own(&self, _group_id: &str) -> Result<()> {
        self.answer().await?;
        match self.is_others.load(Ordering::SeqCst) {
            true => Err(Error::refused("it belongs to another group")),
            false => Ok(()),
        }
    }

    async fn put_bound(&self, group_id: &str, bound: u64) -> Result<()> {
        self.own(group_id).await?;
        self.bounds.lock().unwrap().insert(bound);
        Ok(())
    }

    async fn highest_bound(&self) -> Result<u64> {
        self.answer().await?;
        Ok(self.greatest())
    }
}

/// A group of one that leads and has a name.
pub async fn group_of_one(directory: &Path) -> Node {
    let members = Members::from([(1, "127.0.0.1:1".to_owned())]);
    Identity::create(directory, 1, members).unwrap();
    let identity = Identity::open(directory).unwrap().unwrap();
    let options = NodeOptions {
        data_dir: directory.to_owned(),
        heartbeat_interval: Duration::from_millis(50),
        election_timeout: Duration::from_millis(200),
        compaction: Compaction::default(),
        dialer: Dialer::new(Tls::off().unwrap()),
    };
    let node = Node::open(identity, options).await.unwrap();
    node.join().await.unwrap();
    let mut leadership = node.leadership();
    leadership.wait_for(|now| now.is_ours).await.unwrap();
    let name = Command::NameGroup {
        group_id: "group".to_owned(),
        repository_id: "memory".to_owned(),
    };
    node.propose(name).await.unwrap();
    node
}

fn over(node: &Node, memory: &Arc<Memory>, ahead: u64) -> (Allocator, Arc<Recorder>) {
    let mut recorder = Recorder::new(node.clone(), memory.clone(), ahead);
    recorder.same_answer = Duration::ZERO;
    let recorder = Arc::new(recorder);
    (Allocator::new(node.clone(), recorder.clone()), recorder)
}

pub fn allocator(node: &Node) -> Allocator {
    over(node, &Arc::default(), AHEAD).0
}

/// Whatever comes in whatever order; the numbers are from a generator with a fixed seed.
#[tokio::test]
async fn i1_nothing_is_given_above_the_greatest_bound_in_the_repository() {
    let directory = tempfile::tempdir().unwrap();
    let node = group_of_one(directory.path()).await;
    let memory = Arc::<Memory>::default();
    let (allocator, _) = over(&node, &memory, 3 * BLOCK);
    let mut seed: u64 = 20;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let (mut last, mut given, mut refused) = (0, 0, 0);
    for step in 0..400 {
        memory.set_away(step % 40 >= 20);
        let count = u32::try_from(1 + next(20_000)).unwrap();
        let answer = match next(10) {
            0 => allocator.fast_forward(last + next(5 * BLOCK)).await,
            _ => {
                let first = allocator.fetch(count).await;
                first.map(|first| {
                    assert!(first > last, "{first} after {last}");
                    first + u64::from(count) - 1
                })
            }
        };
        match answer {
            Ok(upto) => {
                assert!(upto <= memory.greatest(), "{upto} > {}", memory.greatest());
                last = last.max(upto);
                given += 1;
            }
            Err(e) => {
                assert!(e.message().contains("no timestamp above"), "{e}");
                assert_eq!(e.kind(), ErrorKind::Unavailable);
                refused += 1;
            }
        }
    }
    assert!(
        given > 100 && refused > 10,
        "{given} given, {refused} refused"
    );
    node.stop().await;
}

#[tokio::test]
async fn a_repository_that_is_away_stops_timestamps_at_the_bound_and_not_before() {
    let directory = tempfile::tempdir().unwrap();
    let node = group_of_one(directory.path()).await;
    let memory = Arc::<Memory>::default();
    let (allocator, recorder) = over(&node, &memory, 10 * BLOCK);
    allocator.fetch(1).await.unwrap();
    let bound = memory.greatest();
    memory.set_away(true);
    recorder.keep_ahead().await.unwrap();
    let mut last = 1;
    let refused = loop {
        match allocator.fetch(1000).await {
            Ok(first) => last = first + 999,
            Err(e) => break e,
        }
    };
    assert!(bound - last <= BLOCK, "stopped at {last} of {bound}");
    assert!(refused.message().contains(&bound.to_string()), "{refused}");
    // The next one could not be written when half was gone.
    assert!(recorder.keep_ahead().await.is_err());
    assert_eq!(memory.count(), 1);

    memory.set_away(false);
    recorder.keep_ahead().await.unwrap();
    assert_eq!(memory.count(), 2);
    assert!(allocator.fetch(1000).await.unwrap() > last);
    // A leader that takes over finds that bound in the state, and writes none.
    let (successor, _) = over(&node, &memory, 10 * BLOCK);
    assert!(successor.fetch(1000).await.unwrap() > last);
    assert_eq!(memory.count(), 2);
    node.stop().await;
}

/// What lies in the other one says nothing of the group, and whoever makes the group anew begins above
/// the bounds in its own.
#[tokio::test]
async fn i1_with_another_repository_mounted_timestamps_end_at_the_bound_in_the_groups_own() {
    let directory = tempfile::tempdir().unwrap();
    let node = group_of_one(directory.path()).await;
    let own = Arc::<Memory>::default();
    let mut last = over(&node, &own, 10 * BLOCK).0.fetch(1).await.unwrap();
    let bound = own.greatest();
    let other = Arc::new(Memory {
        id: Some("another"),
        ..Memory::default()
    });
    other.bounds.lock().unwrap().insert(bound + AHEAD);
    let (astray, astray_recorder) = over(&node, &other, 10 * BLOCK);
    let refused = loop {
        match astray.fetch(1000).await {
            Ok(first) => {
                assert!(first > last, "{first} after {last}");
                last = first + 999;
            }
            Err(e) => break e,
        }
    };
    assert!(
        last <= bound && bound - last <= BLOCK,
        "stopped at {last} of {bound}"
    );
    assert_eq!(refused.kind(), ErrorKind::Refused);
    let says = format!("no timestamp above {bound} is given out");
    assert!(refused.message().contains(&says), "{refused}");
    let says = "the repository is another, that of this group is memory";
    assert!(refused.message().contains(says), "{refused}");
    astray.fast_forward(bound + 1).await.unwrap_err();
    assert_eq!(astray.fast_forward(bound).await.unwrap(), bound);
    astray_recorder.keep_ahead().await.unwrap_err();
    assert_eq!(other.count(), 1, "it was written to");

    let (successor, recorder) = over(&node, &own, 10 * BLOCK);
    assert!(successor.fetch(1).await.unwrap() > bound);
    assert_eq!(own.count(), 2);
    // Nor is anything given when no bound of the group's counts.
    recorder.disown().await.unwrap();
    astray.fetch(1).await.unwrap_err();
    assert_eq!(other.count(), 1, "it was written to");
    node.stop().await;
}

#[tokio::test]
async fn a_bound_is_written_before_a_fast_forward_beyond_it_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let node = group_of_one(directory.path()).await;
    let memory = Arc::<Memory>::default();
    let (allocator, _) = over(&node, &memory, AHEAD);
    assert_eq!(allocator.fast_forward(7 * AHEAD).await.unwrap(), 7 * AHEAD);
    assert_eq!(memory.greatest(), 8 * AHEAD);
    memory.set_away(true);
    assert!(allocator.fast_forward(9 * AHEAD).await.is_err());
    let next = allocator.fetch(1).await.unwrap();
    assert_eq!(next, 7 * AHEAD + 1, "a refused one has changed something");
    node.stop().await;
}

#[tokio::test]
async fn a_group_that_begins_with_anothers_repository_begins_above_its_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let node = group_of_one(directory.path()).await;
    let memory = Memory::with(12_345_678);
    let (allocator, _) = over(&node, &memory, AHEAD);
    assert!(allocator.fetch(1).await.unwrap() > 12_345_678);
    assert!(memory.greatest() > AHEAD);
    node.stop().await;

    let directory = tempfile::tempdir().unwrap();
    let node = group_of_one(directory.path()).await;
    let (allocator, _) = over(&node, &Memory::with(u64::MAX - 7), AHEAD);
    let refused = allocator.fetch(1).await.unwrap_err();
    assert!(
        refused.message().contains("too few timestamps"),
        "{refused}"
    );
    node.stop().await;
}

#[tokio::test]
async fn i1_a_group_that_takes_its_repository_back_begins_above_what_another_gave_out() {
    let directory = tempfile::tempdir().unwrap();
    let node = group_of_one(directory.path()).await;
    let memory = Arc::<Memory>::default();
    let (allocator, recorder) = over(&node, &memory, AHEAD);
    assert_eq!(allocator.fetch(1).await.unwrap(), 1);
    // Another group takes it over and begins above our bound.
    let others = memory.greatest() + 5 * AHEAD;
    memory.is_others.store(true, Ordering::SeqCst);
    memory.bounds.lock().unwrap().insert(others);
    recorder.disown().await.unwrap();
    let refused = allocator.fetch(1).await.unwrap_err();
    assert!(refused.message().contains("another group"), "{refused}");
    memory.is_others.store(false, Ordering::SeqCst);
    assert!(allocator.fetch(1).await.unwrap() > others);
    node.stop().await;
}

/// Everything up to the one bound that there is.
async fn use_up(allocator: &Allocator, recorder: &Recorder) {
    allocator.fetch(1).await.unwrap();
    allocator.fast_forward(recorder.recorded()).await.unwrap();
}

#[tokio::test]
async fn i1_a_bound_that_another_group_has_overtaken_on_its_way_into_the_log_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let node = group_of_one(directory.path()).await;
    let memory = Arc::<Memory>::default();
    let (allocator, recorder) = over(&node, &memory, AHEAD);
    use_up(&allocator, &recorder).await;
    // The next bound is being written when the repository is found to be another group's, and that
    // group gives it back before it is in the log.
    memory.hangs.send_replace(true);
    let writing = tokio::spawn({
        let recorder = recorder.clone();
        async move { recorder.keep_ahead().await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    recorder.disown().await.unwrap();
    let others = memory.greatest() + 5 * AHEAD;
    memory.bounds.lock().unwrap().insert(others);
    memory.hangs.send_replace(false);
    let refused = writing.await.unwrap().unwrap_err();
    assert!(
        refused.message().contains("another group has had"),
        "{refused}"
    );
    assert_eq!(recorder.recorded(), 0);
    assert!(allocator.fetch(1).await.unwrap() > others);
    node.stop().await;
}

#[tokio::test]
async fn a_repository_that_does_not_answer_is_asked_again_and_holds_nobody_up_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let node = group_of_one(directory.path()).await;
    let memory = Arc::<Memory>::default();
    let mut recorder = Recorder::new(node.clone(), memory.clone(), AHEAD);
    recorder.patience_ahead = Duration::from_millis(100);
    let recorder = Arc::new(recorder);
    let allocator = Allocator::new(node.clone(), recorder.clone());
    use_up(&allocator, &recorder).await;
    memory.hangs.send_replace(true);
    let refused = recorder.keep_ahead().await.unwrap_err();
    let says = "the repository does not answer within 100ms";
    assert!(refused.message().contains(says), "{refused}");
    assert!(refused.is_retryable());
    let beyond = recorder.recorded() + 1;
    let refused = allocator.fast_forward(beyond).await.unwrap_err();
    let says = "the repository does not answer within 5s";
    assert!(refused.message().contains(says), "{refused}");

    memory.hangs.send_replace(false);
    recorder.keep_ahead().await.unwrap();
    assert_eq!(memory.count(), 2);
    node.stop().await;
}

/// Nobody may write a bound between our look at the bounds and our first one.
#[tokio::test]
async fn i1_a_group_owns_the_repository_before_it_reads_the_bounds_there() {
    let directory = tempfile::tempdir().unwrap();
    let node = group_of_one(directory.path()).await;
    let memory = Memory::with(100);
    memory.is_others.store(true, Ordering::SeqCst);
    let (allocator, _) = over(&node, &memory, AHEAD);
    allocator.fetch(1).await.unwrap_err();
    assert_eq!(node.look(|state| state.timestamps.bound()), 0);
    node.stop().await;
}
