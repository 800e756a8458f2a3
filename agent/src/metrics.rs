//! What the agent counts, as Prometheus reads it. `docs/metrics.md` says what each number is.

use std::sync::{Mutex, PoisonError, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use seawall_common::{
    Error, Result,
    repository::{Fetched, Progress},
    tls::TlsNumbers,
};

use crate::{status, tablet::Tablet, transfers};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TransferLabels {
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    transfer: &'static str,
    stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    step: String,
    result: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: String,
}

pub struct Metrics {
    registry: Mutex<Registry>,
    steps: Family<StepLabels, Counter>,
    fenced: Counter,
    put_backs: Counter,
    restored_bytes: Family<SourceLabels, Counter>,
    restore_requested_bytes: Counter,
    restore_requests: Counter,
    serving: Gauge,
    running: Gauge,
    replicating: Gauge,
    lag_ms: Gauge,
    open_operations: Gauge,
    transfer_bytes: Family<TransferLabels, Counter>,
    stage_seconds: Family<StageLabels, Counter<f64, AtomicU64>>,
    transfer_limit: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("seawall_agent")),
            steps: Family::default(),
            fenced: Counter::default(),
            put_backs: Counter::default(),
            restored_bytes: Family::default(),
            restore_requested_bytes: Counter::default(),
            restore_requests: Counter::default(),
            serving: Gauge::default(),
            running: Gauge::default(),
            replicating: Gauge::default(),
            lag_ms: Gauge::default(),
            open_operations: Gauge::default(),
            transfer_bytes: Family::default(),
            stage_seconds: Family::default(),
            transfer_limit: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register("steps", "Steps that ended, by result", self.steps.clone());
        registry.register(
            "fenced",
            "Commands refused because a newer one has been seen",
            self.fenced.clone(),
        );
        registry.register(
            "put_backs",
            "Databases put back after an operation was given up",
            self.put_backs.clone(),
        );
        registry.register(
            "restored_bytes",
            "Data of completed fetches, by where it came from",
            self.restored_bytes.clone(),
        );
        registry.register(
            "restore_requested_bytes",
            "Stored bytes that completed fetches asked the repository for",
            self.restore_requested_bytes.clone(),
        );
        registry.register(
            "restore_requests",
            "Requests of completed fetches to the repository",
            self.restore_requests.clone(),
        );
        registry.register(
            "transfer_bytes",
            "Data that went to the repository (put) and came from it (get)",
            self.transfer_bytes.clone(),
        );
        registry.register(
            "transfer_stage_seconds",
            "Time of ended backups and restores on each kind of work, all threads and requests together",
            self.stage_seconds.clone(),
        );
        for (name, help, gauge) in [
            (
                "serving",
                "1 while the tablet may receive traffic",
                &self.serving,
            ),
            (
                "database_running",
                "1 while the database runs",
                &self.running,
            ),
            ("replicating", "1 while replication runs", &self.replicating),
            (
                "replication_lag_milliseconds",
                "How far behind its primary; -1: unknown",
                &self.lag_ms,
            ),
            (
                "open_operations",
                "Operations that have the database now",
                &self.open_operations,
            ),
            (
                "transfer_limit_bytes_per_second",
                "What all transfers together may reach; 0: paused, -1: no limit",
                &self.transfer_limit,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }

    pub fn count_step(&self, step: &str, result: &str) {
        self.steps
            .get_or_create(&StepLabels {
                step: step.to_owned(),
                result: result.to_owned(),
            })
            .inc();
    }

    pub fn count_fenced(&self) {
        self.fenced.inc();
    }

    pub fn count_put_back(&self) {
        self.put_backs.inc();
    }

    pub fn count_fetched(&self, fetched: &Fetched) {
        for (source, bytes) in [
            ("repository", fetched.missing_bytes),
            ("cut_off_restore", fetched.resumed_bytes),
            ("replaced_data", fetched.copied_bytes),
        ] {
            let source = source.to_owned();
            self.restored_bytes
                .get_or_create(&SourceLabels { source })
                .inc_by(bytes);
        }
        self.restore_requested_bytes.inc_by(fetched.requested_bytes);
        self.restore_requests.inc_by(fetched.requests);
    }

    /// Where the time of a transfer went, which has ended, well or not.
    pub fn count_stages(&self, transfer: &'static str, progress: &Progress) {
        for (stage, time) in progress.spent() {
            self.stage_seconds
                .get_or_create(&StageLabels { transfer, stage })
                .inc_by(time.as_secs_f64());
        }
    }

    fn look_at_transfers(&self, tablet: &Tablet) {
        let limit = transfers::limit(tablet);
        self.transfer_limit
            .set(limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX)));
        let done = tablet
            .known_repository()
            .map(|repository| repository.throttle().transferred())
            .unwrap_or_default();
        for (direction, bytes) in [("put", done.to_repository), ("get", done.from_repository)] {
            let counter = self
                .transfer_bytes
                .get_or_create(&TransferLabels { direction });
            counter.inc_by(bytes.saturating_sub(counter.get()));
        }
    }

    /// The listener's own numbers.
    pub fn count_connections(&self, numbers: TlsNumbers) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(numbers));
    }

    /// All of it as text, with the gauges as they are now.
    pub fn render(&self, tablet: &Tablet) -> Result<String> {
        // Held from here on: two scrapes at once would count the same transfers twice.
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let status = status::status(tablet);
        self.serving.set(i64::from(status.serving));
        self.running.set(i64::from(status.database_running));
        self.replicating.set(i64::from(status.replicating));
        self.lag_ms.set(
            status
                .lag_ms
                .map_or(-1, |lag| i64::try_from(lag).unwrap_or(i64::MAX)),
        );
        self.open_operations
            .set(i64::from(tablet.journal.read().owner().is_some()));
        self.look_at_transfers(tablet);
        let mut text = String::new();
        encode(&mut text, &registry)
            .map_err(|e| Error::internal(format!("cannot render the metrics: {e}")))?;
        Ok(text)
    }
}
