use seawall_common::ErrorKind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::*;
use crate::{
    operation::testing::Stage,
    state::testing::{Cluster, alias},
};

/// An agent that talks: what it says, and what it is answered.
struct Talk {
    says: mpsc::Sender<Received>,
    answers: Answers,
}

impl Talk {
    async fn with(stage: &Stage, first: v1::AgentMessage) -> Result<Self> {
        Self::of(stage, Caller::Anybody(None), first).await
    }

    async fn of(stage: &Stage, caller: Caller, first: v1::AgentMessage) -> Result<Self> {
        let (says, said) = mpsc::channel(4);
        says.try_send(Ok(first)).unwrap();
        let context = stage.context.clone();
        let begun = begin(context, caller, ReceiverStream::new(said));
        let answers = begun.await?;
        Ok(Self { says, answers })
    }

    async fn begin(stage: &Stage, alias: &str) -> Self {
        let instance = format!("instance of {alias}");
        Self::with(stage, begins(alias, &instance)).await.unwrap()
    }

    async fn say(
        &mut self,
        message: v1::AgentMessage,
    ) -> Option<Result<v1::HeartbeatAnswer, Status>> {
        self.says.send(Ok(message)).await.unwrap();
        self.answers.next().await
    }

    async fn beat(&mut self, status: v1::TabletStatus) -> v1::HeartbeatAnswer {
        self.say(beats(status)).await.unwrap().unwrap()
    }

    async fn refused(&mut self, message: v1::AgentMessage) -> Status {
        let refusal = self.say(message).await.unwrap().unwrap_err();
        assert!(self.answers.next().await.is_none(), "it goes on");
        refusal
    }
}

fn message(message: Message) -> v1::AgentMessage {
    v1::AgentMessage {
        message: Some(message),
    }
}

fn begins(alias: &str, instance: &str) -> v1::AgentMessage {
    message(Message::Begin(v1::BeginSession {
        alias: alias.into(),
        instance: instance.into(),
    }))
}

fn beats(status: v1::TabletStatus) -> v1::AgentMessage {
    message(Message::Heartbeat(v1::Heartbeat {
        status: Some(status),
        holds: Vec::new(),
    }))
}

fn serving(caught_up: bool) -> v1::TabletStatus {
    v1::TabletStatus {
        database_running: true,
        serving: true,
        caught_up,
        ..v1::TabletStatus::default()
    }
}

/// A stage whose own agents are not heard: the sessions alone say who is there.
async fn quiet(cluster: Cluster) -> Stage {
    let stage = Stage::silent(cluster);
    stage.until(|| !stage.context.heartbeats.is_young()).await;
    stage
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_is_told_what_the_answer_before_has_not_and_which_holds_are_gone() {
    let stage = quiet(Cluster::with_primary()).await;
    let mut talk = Talk::begin(&stage, "zone1-101").await;
    let first = talk.beat(serving(false)).await;
    let view = first.view.clone().unwrap();
    assert_eq!(view.epoch.unwrap().alias, "zone1-100");
    assert_eq!(view.primary.unwrap().server_id, 100);
    assert_eq!(first.r#type(), v1::TabletType::Replica);
    assert_eq!(
        talk.beat(serving(false)).await,
        v1::HeartbeatAnswer::default()
    );

    let change = topology::Command::ChangeType {
        alias: alias("zone1-101"),
        tablet_type: topology::TabletType::Rdonly,
    };
    stage.propose(Command::Topology(change)).await;
    let news = talk.beat(serving(false)).await;
    assert_eq!(
        (news.view, news.r#type),
        (None, v1::TabletType::Rdonly.into())
    );

    let held = v1::HeldToken {
        hold_id: "gone".into(),
        token: 7,
    };
    let with_hold = Message::Heartbeat(v1::Heartbeat {
        status: Some(serving(false)),
        holds: vec![held],
    });
    let answer = talk.say(message(with_hold)).await.unwrap().unwrap();
    assert_eq!(answer.lost_holds, ["gone"]);
}

#[tokio::test(start_paused = true)]
async fn only_what_is_new_goes_into_the_log() {
    let stage = quiet(Cluster::new()).await;
    let mut talk = Talk::begin(&stage, "zone1-101").await;
    let mut applied = stage.context.group.applied();
    for _ in 0..100 {
        talk.beat(serving(false)).await;
    }
    assert!(!applied.has_changed().unwrap(), "a heartbeat was written");
    let answer = talk.beat(serving(true)).await;
    assert_eq!(answer.r#type(), v1::TabletType::Replica, "it has caught up");
    assert!(applied.has_changed().unwrap());
    applied.mark_unchanged();
    for _ in 0..100 {
        talk.beat(serving(true)).await;
    }
    assert!(!applied.has_changed().unwrap(), "a heartbeat was written");
}

#[tokio::test(start_paused = true)]
async fn heartbeats_that_come_together_are_proved_together() {
    let stage = quiet(Cluster::with_primary()).await;
    let mut talks = Vec::new();
    for alias in ["zone1-100", "zone1-101", "zone1-102"] {
        talks.push(Talk::begin(&stage, alias).await);
    }
    let begun = Instant::now();
    let beat = |mut talk: Talk| async move {
        talk.beat(serving(false)).await;
        begun.elapsed()
    };
    let elapsed = futures::future::join_all(talks.into_iter().map(beat)).await;
    assert!(elapsed.iter().all(|at| *at == elapsed[0]), "{elapsed:?}");
    assert!(elapsed[0] <= GATHER);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_for_the_instance_that_is_registered() {
    let stage = quiet(Cluster::with_primary()).await;
    for (first, kind) in [
        (begins("zone1-101", "another"), ErrorKind::Conflict),
        (begins("zone1-199", "any"), ErrorKind::NotFound),
        (begins("zone1", "any"), ErrorKind::Invalid),
        (beats(serving(true)), ErrorKind::Invalid),
        (
            message(Message::Goodbye(v1::Nothing {})),
            ErrorKind::Invalid,
        ),
        (v1::AgentMessage::default(), ErrorKind::Invalid),
    ] {
        let refused = Talk::with(&stage, first.clone()).await.map(drop);
        assert_eq!(refused.unwrap_err().kind(), kind, "{first:?}");
    }
    let first = begins("zone1-101", "instance of zone1-101");
    let of = |name: &str| Caller::Known(name.parse().unwrap());
    let refused = Talk::of(&stage, of("agent/zone1-102"), first.clone()).await;
    assert_eq!(refused.map(drop).unwrap_err().kind(), ErrorKind::Denied);
    Talk::of(&stage, of("agent/zone1-101"), first)
        .await
        .unwrap();
    // The alias passes to another instance while the first one talks.
    let mut talk = Talk::begin(&stage, "zone1-101").await;
    talk.beat(serving(true)).await;
    let taken_over = topology::Registration {
        instance: "another".into(),
        replace: true,
        ..crate::state::testing::registration("zone1-101")
    };
    let register = topology::Command::Register(taken_over);
    stage.propose(Command::Topology(register)).await;
    let refusal = talk.refused(beats(serving(true))).await;
    assert_eq!(refusal.code(), Code::AlreadyExists);
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_ends_the_session() {
    let stage = quiet(Cluster::with_primary()).await;
    let holds = vec![v1::HeldToken::default(); 65];
    for bad in [
        begins("zone1-101", "instance of zone1-101"),
        v1::AgentMessage::default(),
        message(Message::Heartbeat(v1::Heartbeat::default())),
        message(Message::Heartbeat(v1::Heartbeat {
            status: Some(serving(true)),
            holds,
        })),
    ] {
        let mut talk = Talk::begin(&stage, "zone1-101").await;
        let refusal = talk.refused(bad).await;
        assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
    }
    assert!(!stage.context.heartbeats.is_there(&alias("zone1-101")));
}

#[tokio::test(start_paused = true)]
async fn one_of_which_nothing_is_heard_is_let_go_of_and_a_later_session_is_the_one() {
    let stage = quiet(Cluster::with_primary()).await;
    let mut first = Talk::begin(&stage, "zone1-101").await;
    first.beat(serving(true)).await;
    let mut second = Talk::begin(&stage, "zone1-101").await;
    second.beat(serving(true)).await;
    let refusal = first.refused(beats(serving(false))).await;
    assert_eq!(refusal.code(), Code::Cancelled);
    let status = stage.context.heartbeats.seen_status(&alias("zone1-101"));
    assert!(status.unwrap().serving, "the first one was heard");

    let silent_since = Instant::now();
    let refusal = second.answers.next().await.unwrap().unwrap_err();
    assert_eq!(refusal.code(), Code::DeadlineExceeded);
    assert_eq!(silent_since.elapsed(), SEEN_WITHIN);
}

#[tokio::test(start_paused = true)]
async fn who_says_goodbye_is_gone_at_once_and_who_breaks_off_is_waited_for() {
    let stage = quiet(Cluster::with_primary()).await;
    let is_there = |text| stage.context.heartbeats.is_there(&alias(text));
    let mut polite = Talk::begin(&stage, "zone1-101").await;
    let mut rude = Talk::begin(&stage, "zone1-102").await;
    polite.beat(serving(true)).await;
    rude.beat(serving(true)).await;
    let answer = polite.say(message(Message::Goodbye(v1::Nothing {}))).await;
    assert!(answer.is_none(), "{answer:?}");
    assert!(!is_there("zone1-101"));
    drop(rude.says);
    assert!(rude.answers.next().await.is_none());
    assert!(is_there("zone1-102"));
    tokio::time::advance(SEEN_WITHIN + Duration::from_millis(1)).await;
    assert!(!is_there("zone1-102"));
}
