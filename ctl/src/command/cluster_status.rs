use seawall_common::clock::now_unix_ms;
use seawall_proto::v1::{self, cluster_client::ClusterClient};

use super::{Context, incomplete_answer};
use crate::{
    exit::Outcome,
    output::{
        human::{age, or_dash, size, time},
        json, table,
    },
};

/// Shows the coordinator group: who leads, how each member is, which repository it writes
///
/// The member that is asked asks the others, for a second each: also when nobody leads.
#[derive(Debug, clap::Args)]
pub struct ClusterStatus {}

impl ClusterStatus {
    pub async fn run(self, context: &Context) -> Outcome {
        let status = context
            .client
            .call(|channel| async {
                ClusterClient::new(channel)
                    .group_status(v1::GroupStatusRequest {})
                    .await
            })
            .await
            .map_err(|failure| failure.of("ClusterStatus"))?;
        let cluster = cluster(&status).ok_or_else(|| incomplete_answer("status"))?;
        context.print(&cluster, || names(&cluster), || render(&cluster))
    }
}

/// The group as the member sees it that was asked; how far each has come, as it says itself; how much
/// of the log each has and since when it is silent, as the leader says.
fn cluster(status: &v1::GroupStatusResponse) -> Option<json::Cluster> {
    let asked = status.asked.as_ref()?;
    let known = |text: &String| (!text.is_empty()).then(|| text.clone());
    let own_words = || status.members.iter().filter_map(|m| m.own.as_ref());
    let leader = own_words().find(|own| own.leader == own.answered_by);
    let seen_by_leader = |id: u64| {
        let seen = leader.unwrap_or(asked).members.iter();
        seen.into_iter().find(|member| member.id == id)
    };
    let members = status.members.iter().filter_map(|status| {
        let member = status.member.as_ref()?;
        let own = status.own.as_ref();
        let seen = seen_by_leader(member.id);
        let silent_since = seen.and_then(|seen| seen.silent_since_unix_ms);
        Some(json::Member {
            id: member.id,
            address: member.address.clone(),
            voter: member.voter,
            leader: asked.leader == member.id,
            answers: own.is_some(),
            away_since_at: silent_since.filter(|_| own.is_none()).and_then(time),
            version: own.map(|own| own.version.clone()),
            applied_index: own.map(|own| own.last_applied),
            last_log_index: own.map(|own| own.last_log_index),
            matched_index: seen.and_then(|seen| seen.matched_index),
            lag_entries: own
                .zip(leader)
                .map(|(own, leader)| leader.last_log_index.saturating_sub(own.last_applied)),
            log_bytes: own.map(|own| own.log_bytes),
            snapshot_bytes: own.map(|own| own.snapshot_bytes),
            disk_free_bytes: own.and_then(|own| own.disk_free_bytes),
            error: known(&status.error),
        })
    });
    Some(json::Cluster {
        group_id: asked.group_id.clone(),
        leader: (asked.leader != 0).then_some(asked.leader),
        term: asked.term,
        answered_by: asked.answered_by,
        repository_url: known(&asked.repository_url),
        repository_id: known(&asked.repository_id),
        repository_refusal: known(&asked.repository_refusal),
        repository_error: known(&asked.repository_error),
        repository_looked_at: time(asked.repository_looked_unix_ms),
        timestamp_bound: asked.timestamp_bound,
        timestamp_recorded: asked.timestamp_recorded,
        members: members.collect(),
    })
}

fn names(cluster: &json::Cluster) -> String {
    let addresses = cluster.members.iter().map(|member| member.address.as_str());
    super::lines(addresses)
}

fn render(cluster: &json::Cluster) -> String {
    let text = |value: &Option<String>| or_dash(value.as_deref().unwrap_or_default());
    let leader = match cluster.leader {
        Some(leader) => format!("member {leader}, term {}", cluster.term),
        None => format!("none known, term {}", cluster.term),
    };
    let repository_state = match (&cluster.repository_refusal, &cluster.repository_error) {
        (Some(refusal), _) => format!("not ours to write: {refusal}"),
        (None, Some(error)) => format!("ours to write, but not there: {error}"),
        (None, None) => "ours to write".to_owned(),
    };
    let timestamps = format!(
        "up to {} reserved, up to {} noted in the repository",
        cluster.timestamp_bound, cluster.timestamp_recorded
    );
    let head = table::fields(&[
        ("group", cluster.group_id.clone()),
        ("leader", leader),
        ("repository", text(&cluster.repository_url)),
        ("repository id", text(&cluster.repository_id)),
        ("repository state", repository_state),
        ("timestamps", timestamps),
    ]);
    let heads = [
        "ID>",
        "ADDRESS",
        "ROLE",
        "ANSWERS",
        "APPLIED>",
        "LAG>",
        "LOG>",
        "SNAPSHOTS>",
        "FREE>",
        "VERSION",
        "ERROR",
    ];
    let rows = cluster.members.iter().map(member_row);
    format!("{head}\n\n{}", table::render(&heads, rows))
}

fn member_row(member: &json::Member) -> Vec<String> {
    let text = |value: &Option<String>| or_dash(value.as_deref().unwrap_or_default());
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let bytes = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), size);
    let role = match (member.leader, member.voter) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "learner",
    };
    let answers = match &member.away_since_at {
        Some(since) => format!("no, for {}", away_for(since)),
        None => table::yes_no(member.answers),
    };
    vec![
        member.id.to_string(),
        member.address.clone(),
        role.to_owned(),
        answers,
        number(member.applied_index),
        number(member.lag_entries),
        bytes(member.log_bytes),
        bytes(member.snapshot_bytes),
        bytes(member.disk_free_bytes),
        text(&member.version),
        text(&member.error),
    ]
}

/// By this machine's clock.
fn away_for(since: &str) -> String {
    let since = since.parse::<jiff::Timestamp>().ok();
    let since = since.and_then(|at| u64::try_from(at.as_millisecond()).ok());
    age(since, now_unix_ms())
}
