use std::time::Duration;

use futures::future::join_all;
use seawall_common::tls::ServerUrl;
use seawall_proto::v1::{self, cluster_client::ClusterClient};

use super::Context;
use crate::{
    client::{is_another_group, own_words},
    exit::Outcome,
    output::{human::or_dash, json, table},
};

/// How long each member is given to speak for itself.
const MEMBER_LIMIT: Duration = Duration::from_secs(2);

/// Shows the coordinator group: who leads, who answers, which repository it writes
#[derive(Debug, clap::Args)]
pub struct ClusterStatus {}

impl ClusterStatus {
    pub async fn run(self, context: &Context) -> Outcome {
        let (status, asked) = context
            .client
            .call_one(|channel| async {
                ClusterClient::new(channel)
                    .status(v1::ClusterStatusRequest {})
                    .await
            })
            .await
            .map_err(|failure| failure.of("ClusterStatus"))?;
        let own_words = join_all(status.members.iter().map(async |member| {
            if member.id == status.answered_by {
                Ok(status.clone())
            } else {
                ask_itself(context, &asked, &member.address, &status.group_id).await
            }
        }));
        let cluster = cluster(&status, &own_words.await);
        context.print(&cluster, || names(&cluster), || render(&cluster))
    }
}

/// What a member says itself, as long as it belongs to the group that was asked.
async fn ask_itself(
    context: &Context,
    asked: &ServerUrl,
    address: &str,
    group_id: &str,
) -> Result<v1::ClusterStatusResponse, String> {
    let member = context.client.peer(asked, address);
    let member = member.map_err(|e| e.to_string())?;
    let own = own_words(&member, MEMBER_LIMIT).await?;
    if is_another_group(group_id, &own.group_id) {
        return Err(format!(
            "answers, but belongs to another group ({})",
            own.group_id
        ));
    }
    Ok(own)
}

/// The group as the member sees it that was asked first; how far each has come, as it says itself;
/// how much of the log each has, as the leader says.
fn cluster(
    status: &v1::ClusterStatusResponse,
    own_words: &[Result<v1::ClusterStatusResponse, String>],
) -> json::Cluster {
    let known = |text: &String| (!text.is_empty()).then(|| text.clone());
    let by_leader = own_words
        .iter()
        .flatten()
        .find(|own| own.leader == own.answered_by);
    let matched_index = |id: u64| {
        let seen = by_leader.unwrap_or(status).members.iter();
        seen.into_iter()
            .find(|member| member.id == id)
            .and_then(|member| member.matched_index)
    };
    let members = status.members.iter().zip(own_words);
    json::Cluster {
        group_id: status.group_id.clone(),
        leader: (status.leader != 0).then_some(status.leader),
        term: status.term,
        answered_by: status.answered_by,
        repository_url: known(&status.repository_url),
        repository_id: known(&status.repository_id),
        repository_refusal: known(&status.repository_refusal),
        members: members
            .map(|(member, own)| json::Member {
                id: member.id,
                address: member.address.clone(),
                voter: member.voter,
                leader: status.leader == member.id,
                answers: own.is_ok(),
                version: own.as_ref().ok().map(|own| own.version.clone()),
                applied_index: own.as_ref().ok().map(|own| own.last_applied),
                matched_index: matched_index(member.id),
                error: own.as_ref().err().cloned(),
            })
            .collect(),
    }
}

fn names(cluster: &json::Cluster) -> String {
    let addresses = cluster.members.iter().map(|member| member.address.as_str());
    super::lines(addresses)
}

fn render(cluster: &json::Cluster) -> String {
    let text = |value: &Option<String>| or_dash(value.as_deref().unwrap_or_default());
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let leader = match cluster.leader {
        Some(leader) => format!("member {leader}, term {}", cluster.term),
        None => format!("none known, term {}", cluster.term),
    };
    let repository_state = match &cluster.repository_refusal {
        Some(refusal) => format!("not ours to write: {refusal}"),
        None => "ours to write".to_owned(),
    };
    let head = table::fields(&[
        ("group", cluster.group_id.clone()),
        ("leader", leader),
        ("repository", text(&cluster.repository_url)),
        ("repository id", text(&cluster.repository_id)),
        ("repository state", repository_state),
    ]);
    let rows = cluster.members.iter().map(|member| {
        vec![
            member.id.to_string(),
            member.address.clone(),
            match (member.leader, member.voter) {
                (true, _) => "leader",
                (false, true) => "voter",
                (false, false) => "learner",
            }
            .to_owned(),
            table::yes_no(member.answers),
            number(member.applied_index),
            number(member.matched_index),
            text(&member.version),
            text(&member.error),
        ]
    });
    let heads = [
        "ID>", "ADDRESS", "ROLE", "ANSWERS", "APPLIED>", "MATCHED>", "VERSION", "ERROR",
    ];
    format!("{head}\n\n{}", table::render(&heads, rows))
}
