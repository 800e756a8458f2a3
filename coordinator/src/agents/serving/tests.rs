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
        topology,
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
    let page = serving.page(None, usize::MAX, |_| true);
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

/// What may happen between two looks.
#[derive(Clone, Debug)]
enum Event {
    Heard { number: usize, serving: bool },
    Leaves(usize),
    Passes { seconds: u64 },
    Removed(usize),
    Type { number: usize, is_rdonly: bool },
    Registers(usize),
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
    ]
}

fn name(number: usize) -> String {
    format!("zone1-{}", 100 + number)
}

async fn happen(stage: &Stage, event: &Event) {
    let heartbeats = &stage.context.heartbeats;
    let command = match event {
        Event::Heard { number, serving } => {
            let text = name(*number);
            heartbeats.record(&alias(&text), heard(&text, *serving));
            return;
        }
        Event::Leaves(number) => {
            let alias = alias(&name(*number));
            let session = heartbeats.begin_session(&alias);
            heartbeats.leave(&alias, session).unwrap();
            return;
        }
        Event::Passes { seconds } => {
            tokio::time::advance(Duration::from_secs(*seconds)).await;
            return;
        }
        Event::Removed(number) => topology::Command::Remove {
            alias: alias(&name(*number)),
            seen: false,
        },
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
            let stage = Stage::unled(Cluster::with_primary());
            let (serving, heartbeats) = (Serving::default(), &stage.context.heartbeats);
            // The stage forgets what was heard when it finds that nobody leads.
            tokio::task::yield_now().await;
            heartbeats.take_office();
            let mut subscription = serving.subscribe();
            let mut known: BTreeMap<Alias, Served> = BTreeMap::new();
            for event in &events {
                happen(&stage, event).await;
                stage.look(|state| serving.refresh(state, heartbeats));
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
