//! Simulated agents and watchers.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use seawall_common::{
    coordinators::Session,
    tls::{Dial, Dialer, ServerUrl, Tls, Whom},
};
use seawall_proto::v1::{
    BeginSession, DatabaseAddress, Heartbeat, RegisterRequest, ShardRef, TabletStatus,
    WatchServingRequest, agents_client::AgentsClient, topology_client::TopologyClient,
};
use tokio::{
    task::JoinSet,
    time::{interval, sleep},
};
use tonic::{Status, transport::Channel};

use super::Plan;

const BEAT: Duration = Duration::from_secs(1);
const PER_SHARD: usize = 5;
const AT_ONCE: usize = 256;
const DIAL: Dial = Dial::within(Duration::from_secs(10));
const WHOLE_SET_WITHIN: Duration = Duration::from_secs(180);

pub struct Fleet {
    plan: Plan,
    url: ServerUrl,
    dialer: Dialer,
    talking: JoinSet<()>,
    shared: Arc<Shared>,
    /// So many tablets change whether they serve, each second.
    pub flip: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Shared {
    answered_ms: Mutex<Vec<f64>>,
    /// When a tablet changed, and how long it took until each watcher knew.
    reached_ms: Mutex<Vec<f64>>,
    changed_at: Mutex<Vec<Option<Instant>>>,
    lost: AtomicU64,
    complete: AtomicUsize,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Times {
    pub count: usize,
    pub median_ms: f64,
    pub high_ms: f64,
}

impl Times {
    fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = (all.len() as f64 * share) as usize;
            all.get(place.min(all.len().saturating_sub(1))).copied()
        };
        Self {
            median_ms: at(0.5).unwrap_or(f64::NAN),
            high_ms: at(0.99).unwrap_or(f64::NAN),
            count: all.len(),
        }
    }
}

fn alias(number: usize) -> String {
    format!("zone1-{}", 100_000 + number)
}

fn instance(number: usize) -> String {
    format!("0193f9b0-0000-7000-8000-{number:012}")
}

fn registration(number: usize) -> RegisterRequest {
    let host = format!("db-{number}.example.internal");
    RegisterRequest {
        alias: alias(number),
        shard: Some(ShardRef {
            keyspace: format!("keyspace{}", number / PER_SHARD / 100),
            shard: format!("{}", number / PER_SHARD % 100),
        }),
        instance: instance(number),
        agent_address: format!("http://{host}:7611"),
        database: Some(DatabaseAddress {
            host,
            port: 3306,
            server_id: 100_000 + number as u32,
        }),
        engine: "mariadb".to_owned(),
        writer_key: "0a".repeat(32),
        ..RegisterRequest::default()
    }
}

/// As much as a replica has to say, another position each time.
fn heartbeat(number: usize, turn: u64, serving: bool) -> Heartbeat {
    let (domain, server) = (number % 7, 100_000 + number);
    Heartbeat {
        status: Some(TabletStatus {
            database_running: true,
            position: format!("{domain}-{server}-{},9-9-{}", 1_000_000 + turn, 77 * turn),
            read_only: true,
            replicating: true,
            lag_ms: Some(turn % 2000),
            serving,
            engine_version: "10.11.14-MariaDB-0+deb12u2-log".to_owned(),
            can_read_repository: true,
            log_kept_ms: Some(864_000_000),
            ..TabletStatus::default()
        }),
        holds: Vec::new(),
    }
}

impl Fleet {
    pub async fn register(url: &str, plan: Plan) -> Result<Self> {
        let fleet = Self {
            plan,
            url: url.parse()?,
            dialer: Dialer::new(Tls::off()?),
            talking: JoinSet::new(),
            shared: Arc::default(),
            flip: Arc::default(),
        };
        locked(&fleet.shared.changed_at).resize(plan.tablets, None);
        let channel = fleet.connect()?;
        let registered = stream::iter(0..plan.tablets).map(|number| {
            let mut agents = AgentsClient::new(channel.clone());
            async move { agents.register(registration(number)).await.map(drop) }
        });
        let registered = registered.buffer_unordered(AT_ONCE);
        registered.try_collect::<()>().await?;
        Ok(fleet)
    }

    fn connect(&self) -> Result<Channel> {
        Ok(self.dialer.channel(&self.url, Whom::Coordinator, DIAL)?)
    }

    /// Each agent begins its session, at a moment of its own of the second.
    pub fn talk(&mut self) -> Result<()> {
        let mut channel = self.connect()?;
        for number in 0..self.plan.tablets {
            if number % self.plan.share == 0 {
                channel = self.connect()?;
            }
            let agent = Agent {
                number,
                tablets: self.plan.tablets,
                shared: self.shared.clone(),
                flip: self.flip.clone(),
            };
            let (channel, shared) = (channel.clone(), self.shared.clone());
            self.talking.spawn(async move {
                sleep(BEAT.mul_f64(rand::random_range(0.0..10.0))).await;
                if let Err(status) = agent.talk(channel).await {
                    lose(&shared, "a session", &status);
                }
            });
        }
        Ok(())
    }

    /// Returns when all watchers have the whole set.
    pub async fn watch(&mut self) -> Result<()> {
        let mut channel = self.connect()?;
        for number in 0..self.plan.watchers {
            if number % self.plan.share == 0 {
                channel = self.connect()?;
            }
            let (channel, shared) = (channel.clone(), self.shared.clone());
            self.talking.spawn(async move {
                if let Err(status) = watch(channel, &shared).await {
                    lose(&shared, "a watch", &status);
                }
            });
        }
        let began = Instant::now();
        while self.shared.complete.load(Relaxed) < self.plan.watchers {
            ensure!(
                began.elapsed() < WHOLE_SET_WITHIN,
                "the watchers have no whole set"
            );
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    pub fn forget_times(&self) {
        locked(&self.shared.answered_ms).clear();
        locked(&self.shared.reached_ms).clear();
    }

    pub fn answer_times(&self) -> Times {
        Times::of(locked(&self.shared.answered_ms).clone())
    }

    /// How long changes took to reach the watchers.
    pub fn reach(&self) -> String {
        let times = Times::of(locked(&self.shared.reached_ms).clone());
        format!(
            "From the heartbeat with a change until a watcher has it: median {:.0} ms, 99 % {:.0} ms, of {}",
            times.median_ms, times.high_ms, times.count
        )
    }

    /// Sessions and watches that broke off.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Relaxed)
    }
}

fn lose(shared: &Shared, what: &str, status: &Status) {
    if shared.lost.fetch_add(1, Relaxed) == 0 {
        eprintln!("{what} broke off: {status}");
    }
}

struct Agent {
    number: usize,
    tablets: usize,
    shared: Arc<Shared>,
    flip: Arc<AtomicUsize>,
}

impl Agent {
    async fn talk(self, channel: Channel) -> Result<(), Status> {
        let begin = BeginSession {
            alias: alias(self.number),
            instance: instance(self.number),
        };
        let mut session = Session::begin(channel, begin).await?.into_inner();
        let mut ticks = interval(BEAT);
        let mut serving = true;
        for turn in 0.. {
            ticks.tick().await;
            let flips = self.flip.load(Relaxed);
            if flips > 0 && rand::random_range(0..self.tablets) < flips {
                serving = !serving;
                locked(&self.shared.changed_at)[self.number] = Some(Instant::now());
            }
            let sent = Instant::now();
            session
                .heartbeat(heartbeat(self.number, turn, serving))
                .await?;
            let took = sent.elapsed().as_secs_f64() * 1e3;
            locked(&self.shared.answered_ms).push(took);
        }
        Ok(())
    }
}

/// Takes what it is told without keeping it: so many sets would not fit beside the group.
async fn watch(channel: Channel, shared: &Shared) -> Result<(), Status> {
    let request = WatchServingRequest::default();
    let mut updates = TopologyClient::new(channel)
        .watch_serving(request)
        .await?
        .into_inner();
    let mut is_complete = false;
    while let Some(update) = updates.message().await? {
        if update.complete && !is_complete {
            is_complete = true;
            shared.complete.fetch_add(1, Relaxed);
        }
        if !is_complete {
            continue;
        }
        let changed = update.changed.iter().map(|tablet| &tablet.alias);
        for alias in changed.chain(&update.gone) {
            let number = alias
                .rsplit_once('-')
                .and_then(|(_, uid)| uid.parse::<usize>().ok());
            let number = number.and_then(|uid| uid.checked_sub(100_000));
            let changed_at = number.and_then(|n| locked(&shared.changed_at).get(n).copied()?);
            if let Some(at) = changed_at {
                locked(&shared.reached_ms).push(at.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    Err(Status::unavailable("it ended"))
}
