//! The set is what state and heartbeats say, and what is told of it leads from one look to the next.

use std::collections::BTreeMap;

use proptest::{prelude::*, sample::select};
use seawall_proto::v1;

use super::*;
use crate::{
    agents::heartbeats::{Heard, SEEN_WITHIN},
    group::Group as _,
    operation::testing::Stage,
    state::{
        Command,
        operations::{OperationState, Spec},
        testing::{Cluster, alias, shard},
        topology::{self, Tablet},
    },
};

fn heard(text: &str, serving: bool) -> Heard {
    Heard {
        instance: format!("instance of {text}"),
        at: Instant::now(),
        at_unix_ms: 0,
        status: v1::TabletStatus {
            serving,
            ..v1::TabletStatus::default()
        },
    }
}

fn now(serving: &Serving) -> BTreeMap<Alias, Served> {
    let page = serving.page(None, usize::MAX, &Filter::All);
    assert!(page.until.is_none());
    let tablets = page.tablets.into_iter();
    tablets
        .map(|(alias, served)| (alias, (*served).clone()))
        .collect()
}

fn serves(stage: &Stage, text: &str) -> bool {
    now(&stage.context.serving).contains_key(&alias(text))
}

/// How long it takes until it is so, with a look each millisecond.
async fn until(is_so: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < 2 * SEEN_WITHIN, "never");
        sleep(Duration::from_millis(1)).await;
    }
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_tablet_whose_agent_falls_silent_leaves_by_a_timer_and_comes_back_when_it_is_heard() {
    let stage = Stage::silent(Cluster::with_primary());
    let heartbeats = &stage.context.heartbeats;
    until(|| !heartbeats.is_young()).await;
    heartbeats.record(&alias("zone1-101"), heard("zone1-101", true));
    heartbeats.record(&alias("zone1-102"), heard("zone1-102", false));
    let entered = until(|| serves(&stage, "zone1-101")).await;
    assert!(entered <= 2 * GATHER, "{entered:?}");
    assert!(!serves(&stage, "zone1-102"), "it says that it does not");

    // Nothing happens any more, and nobody asks.
    let mut told = stage.context.serving.subscribe().told;
    let heard_at = Instant::now();
    let gone = loop {
        if let Told::Change(change) = &*told.recv().await.unwrap() {
            break change.gone.clone();
        }
    };
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].0, alias("zone1-101"));
    let silence = heard_at.elapsed();
    assert!(silence <= SEEN_WITHIN + 2 * GATHER, "{silence:?}");
    assert!(silence >= SEEN_WITHIN - 2 * GATHER, "{silence:?}");

    heartbeats.record(&alias("zone1-101"), heard("zone1-101", true));
    until(|| serves(&stage, "zone1-101")).await;
}

#[tokio::test(start_paused = true)]
async fn agents_that_are_heard_all_the_time_are_looked_at_seldom() {
    let stage = Stage::new(Cluster::with_primary());
    sleep(Duration::from_secs(30)).await;
    assert_eq!(stage.context.serving.count(), 3);
    let mut told = stage.context.serving.subscribe().told;
    sleep(Duration::from_secs(60)).await;
    while let Ok(told) = told.try_recv() {
        assert!(matches!(&*told, Told::Assurance), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_type_and_an_epoch_that_change_are_told_and_a_removed_tablet_is_gone() {
    let stage = Stage::new(Cluster::with_primary());
    sleep(Duration::from_secs(15)).await;
    let mut told = stage.context.serving.subscribe().told;
    let change = topology::Command::ChangeType {
        alias: alias("zone1-102"),
        tablet_type: TabletType::Rdonly,
    };
    stage.propose(Command::Topology(change)).await;
    let told = loop {
        if let Told::Change(change) = &*told.recv().await.unwrap() {
            break (change.changed.clone(), change.gone.len());
        }
    };
    assert_eq!((told.0.len(), told.1), (1, 0));
    assert_eq!(told.0[0].1.tablet_type, TabletType::Rdonly);
    assert_eq!(told.0[0].1.epoch, 1);
}

#[tokio::test(start_paused = true)]
async fn another_primary_is_another_epoch_for_all_tablets_of_the_shard() {
    let stage = Stage::new(Cluster::with_primary());
    sleep(Duration::from_secs(15)).await;
    let spec = Spec::PlannedReparent {
        shard: shard(),
        new_primary: alias("zone1-101"),
    };
    let id = stage.start(spec).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    sleep(Duration::from_secs(1)).await;
    let tablets = now(&stage.context.serving);
    let epochs: Vec<u64> = tablets.values().map(|served| served.epoch).collect();
    assert_eq!(epochs, [2, 2, 2]);
    let primary = &tablets[&alias("zone1-101")];
    assert_eq!(primary.tablet_type, TabletType::Primary);
}

#[tokio::test(start_paused = true)]
async fn who_watches_is_told_that_it_is_still_so_and_when_that_cannot_be_proved() {
    let stage = Stage::new(Cluster::with_primary());
    sleep(Duration::from_secs(15)).await;
    let mut told = stage.context.serving.subscribe().told;
    let began = Instant::now();
    assert!(matches!(*told.recv().await.unwrap(), Told::Assurance));
    assert!(began.elapsed() <= ASSURE_EVERY);
    stage.group.fail_proofs(true);
    assert!(matches!(*told.recv().await.unwrap(), Told::Over));
    stage.group.fail_proofs(false);
    // Another office: what was told belongs to none.
    stage.lead(2);
    assert!(matches!(*told.recv().await.unwrap(), Told::Over));
}

/// A set that is looked at by hand.
async fn by_hand() -> (Stage, Serving) {
    let stage = Stage::unled(Cluster::with_primary());
    // The stage forgets what was heard when it finds that nobody leads.
    tokio::task::yield_now().await;
    stage.context.heartbeats.take_office();
    (stage, Serving::default())
}

/// How many tablets a look goes through.
fn looked_at(stage: &Stage, serving: &Serving) -> usize {
    let heartbeats = &stage.context.heartbeats;
    let refreshed = stage.look(|state| serving.refresh(state, heartbeats));
    refreshed.tablets
}

#[tokio::test(start_paused = true)]
async fn a_look_goes_through_what_has_changed_and_through_nothing_else() {
    let (stage, serving) = by_hand().await;
    let heartbeats = &stage.context.heartbeats;
    let all = ["zone1-100", "zone1-101", "zone1-102"];
    let beat = || {
        for text in all {
            heartbeats.record(&alias(text), heard(text, true));
        }
    };
    beat();
    assert_eq!(looked_at(&stage, &serving), 3, "the first one");
    assert_eq!(serving.count(), 3);

    let reserve = crate::state::timestamps::Command::Reserve { count: 1 };
    stage.propose(Command::Timestamps(reserve)).await;
    assert_eq!(looked_at(&stage, &serving), 0, "an entry of another kind");
    beat();
    assert_eq!(looked_at(&stage, &serving), 0, "heartbeats without news");
    let change = topology::Command::ChangeType {
        alias: alias("zone1-102"),
        tablet_type: TabletType::Rdonly,
    };
    stage.propose(Command::Topology(change)).await;
    assert_eq!(looked_at(&stage, &serving), 1);
    heartbeats.record(&alias("zone1-101"), heard("zone1-101", false));
    assert_eq!(looked_at(&stage, &serving), 1);
    assert_eq!(serving.count(), 2);

    // Whether they are still heard is looked at about every ten seconds, not with every heartbeat.
    let mut looks = 0;
    for _ in 0..60 {
        tokio::time::advance(Duration::from_secs(1)).await;
        beat();
        looks += looked_at(&stage, &serving);
    }
    assert!((3..=3 * 8).contains(&looks), "{looks}");
    assert_eq!(serving.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn when_more_has_changed_than_is_remembered_all_are_looked_at() {
    let (stage, serving) = by_hand().await;
    let heartbeats = &stage.context.heartbeats;
    for text in ["zone1-101", "zone1-102"] {
        heartbeats.record(&alias(text), heard(text, true));
    }
    looked_at(&stage, &serving);
    let remove = topology::Command::Remove {
        alias: alias("zone1-102"),
        seen: false,
    };
    stage.propose(Command::Topology(remove)).await;
    for turn in 0..2_000 {
        let change = topology::Command::ChangeType {
            alias: alias("zone1-101"),
            tablet_type: match turn % 2 {
                0 => TabletType::Replica,
                _ => TabletType::Rdonly,
            },
        };
        stage.propose(Command::Topology(change)).await;
    }
    assert_eq!(looked_at(&stage, &serving), 3, "with the one that is gone");
    assert_eq!(now(&serving), expected(&stage));
    assert_eq!(serving.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_has_moved_is_gone_from_the_shard_in_which_it_was() {
    let (stage, serving) = by_hand().await;
    let heartbeats = &stage.context.heartbeats;
    heartbeats.record(&alias("zone1-101"), heard("zone1-101", true));
    looked_at(&stage, &serving);
    let mut told = serving.subscribe().told;
    happen(&stage, &Event::Moves(1)).await;
    looked_at(&stage, &serving);
    let told = told.try_recv().unwrap();
    let Told::Change(change) = &*told else {
        panic!("{told:?}")
    };
    assert_eq!(change.gone, [(alias("zone1-101"), shard())]);
    assert_eq!(change.changed[0].1.shard, "commerce/1".parse().unwrap());
}

/// What may happen between two looks.
#[derive(Clone, Debug)]
enum Event {
    Heard {
        number: usize,
        serving: bool,
    },
    Leaves(usize),
    Passes {
        seconds: u64,
    },
    Removed(usize),
    Type {
        number: usize,
        is_rdonly: bool,
    },
    Registers(usize),
    /// Removed, and at once registered in another shard.
    Moves(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let number = || 0..5_usize;
    prop_oneof![
        (number(), any::<bool>()).prop_map(|(number, serving)| Event::Heard { number, serving }),
        number().prop_map(Event::Leaves),
        select(vec![1_u64, 4, 9, 11]).prop_map(|seconds| Event::Passes { seconds }),
        number().prop_map(Event::Removed),
        (number(), any::<bool>()).prop_map(|(number, is_rdonly)| Event::Type { number, is_rdonly }),
        number().prop_map(Event::Registers),
        number().prop_map(Event::Moves),
    ]
}

fn name(number: usize) -> String {
    format!("zone1-{}", 100 + number)
}

async fn happen(stage: &Stage, event: &Event) {
    let heartbeats = &stage.context.heartbeats;
    let remove = |number: &usize| topology::Command::Remove {
        alias: alias(&name(*number)),
        seen: false,
    };
    let command = match event {
        Event::Heard { number, serving } => {
            let text = name(*number);
            heartbeats.record(&alias(&text), heard(&text, *serving));
            return;
        }
        Event::Leaves(number) => {
            let alias = alias(&name(*number));
            let instance = format!("instance of {alias}");
            let session = heartbeats.begin_session(&alias, &instance);
            heartbeats.leave(&alias, session).unwrap();
            return;
        }
        Event::Passes { seconds } => {
            tokio::time::advance(Duration::from_secs(*seconds)).await;
            return;
        }
        Event::Removed(number) => remove(number),
        Event::Moves(number) => {
            let removed = stage.group.propose(Command::Topology(remove(number)));
            // The primary stays, and is refused in another shard.
            let _ = removed.await;
            let mut moved = crate::state::testing::registration(&name(*number));
            moved.shard = "commerce/1".parse().unwrap();
            topology::Command::Register(moved)
        }
        Event::Type { number, is_rdonly } => topology::Command::ChangeType {
            alias: alias(&name(*number)),
            tablet_type: match is_rdonly {
                true => TabletType::Rdonly,
                false => TabletType::Replica,
            },
        },
        Event::Registers(number) => {
            topology::Command::Register(crate::state::testing::registration(&name(*number)))
        }
    };
    // Refused when there is no such tablet, or it is primary.
    let _ = stage.group.propose(Command::Topology(command)).await;
}

/// What the set must be, found in the plainest way.
fn expected(stage: &Stage) -> BTreeMap<Alias, Served> {
    stage.look(|state| {
        let tablets = state.topology.tablets();
        let serving = tablets.filter(|tablet| {
            let status = stage.context.heartbeats.seen_status(&tablet.alias);
            status.is_some_and(|status| status.serving)
        });
        let served = |tablet: &Tablet| Served {
            shard: tablet.shard.clone(),
            tablet_type: tablet.tablet_type,
            epoch: state
                .topology
                .newest_epoch(&tablet.shard)
                .map_or(0, |e| e.number),
            database: tablet.database.clone(),
            engine: tablet.engine.clone(),
        };
        serving
            .map(|tablet| (tablet.alias.clone(), served(tablet)))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_told_leads_from_each_look_to_the_next(events in prop::collection::vec(event(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (stage, serving) = by_hand().await;
            let mut subscription = serving.subscribe();
            let mut known: BTreeMap<Alias, Served> = BTreeMap::new();
            for event in &events {
                happen(&stage, event).await;
                looked_at(&stage, &serving);
                while let Ok(told) = subscription.told.try_recv() {
                    let Told::Change(change) = &*told else { unreachable!() };
                    assert!(change.revision >= subscription.revision);
                    subscription.revision = change.revision;
                    for (alias, _) in &change.gone {
                        assert!(known.remove(alias).is_some(), "{alias} was not there");
                    }
                    for (alias, served) in &change.changed {
                        let before = known.insert(alias.clone(), (**served).clone());
                        assert_ne!(before.as_ref(), Some(&**served), "{alias} is as it was");
                    }
                }
                assert_eq!(&known, &expected(&stage));
                assert_eq!(&known, &now(&serving));
            }
        });
    }
}
