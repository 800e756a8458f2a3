//! What this member takes of its disk, and what is left there.

use std::{fmt, path::PathBuf};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::gauge::ConstGauge,
};

use crate::data_dir::usage;

/// Looked at when it is asked for.
#[derive(Debug)]
pub struct DiskNumbers {
    pub data_dir: PathBuf,
}

impl Collector for DiskNumbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, bytes: u64| {
            let gauge = ConstGauge::new(bytes);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        let usage = usage(&self.data_dir);
        gauge("raft_log_bytes", "Size of the log on disk", usage.log_bytes)?;
        // No number rather than a wrong one, which would raise an alarm or hide it.
        match usage.free_bytes {
            Some(free_bytes) => gauge(
                "disk_free_bytes",
                "Room on the file system of the data directory",
                free_bytes,
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    /// The number as a scraper reads it.
    fn scraped(data_dir: &Path) -> Option<u64> {
        let mut registry = Registry::with_prefix("seawall_coordinator");
        registry.register_collector(Box::new(DiskNumbers {
            data_dir: data_dir.to_owned(),
        }));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let mut lines = text.lines();
        let line = "seawall_coordinator_disk_free_bytes ";
        let value = lines.find_map(|text| text.strip_prefix(line));
        value.map(|value| value.parse().unwrap())
    }

    #[test]
    fn the_room_that_is_left_is_told_and_nothing_where_it_cannot_be_seen() {
        let directory = tempfile::tempdir().unwrap();
        assert!(scraped(directory.path()).unwrap() > 0);
        assert_eq!(scraped(&directory.path().join("missing")), None);
    }
}
