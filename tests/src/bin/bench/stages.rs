//! Where Seawall's time goes, as its agent counts it.

use std::collections::BTreeMap;

use anyhow::Result;
use seawall_tests::harness::{Tablet, http};

const NAME: &str = "seawall_agent_transfer_stage_seconds_total{";

/// Seconds by stage, all threads and requests together.
pub type Stages = BTreeMap<String, f64>;

/// What an agent has counted so far of backups, or of restores.
pub async fn counted(tablet: &Tablet, transfer: &str) -> Result<Stages> {
    let text = http::get(&format!("http://{}/metrics", tablet.http_address())).await?;
    let transfer = format!("transfer=\"{transfer}\"");
    let mut stages = Stages::new();
    for line in text.lines() {
        let Some((labels, seconds)) = line.strip_prefix(NAME).and_then(|l| l.split_once("} "))
        else {
            continue;
        };
        let stage = labels
            .split(',')
            .find_map(|label| label.strip_prefix("stage=\"")?.strip_suffix('"'));
        if let Some(stage) = stage
            && labels.split(',').any(|label| label == transfer)
        {
            stages.insert(stage.to_owned(), seconds.parse()?);
        }
    }
    Ok(stages)
}

/// What was counted between two looks.
pub fn since(before: &Stages, now: Stages) -> Stages {
    now.into_iter()
        .map(|(stage, seconds)| {
            let earlier = before.get(&stage).copied().unwrap_or_default();
            (stage, seconds - earlier)
        })
        .collect()
}
