use seawall_proto::v1::{self, retention_client::RetentionClient};

use super::{Context, lines, scope::Scope};
use crate::{
    exit::Outcome,
    output::{json, retention, table},
};

/// Shows for each shard which backups are removed by themselves, and where that was set
#[derive(Debug, clap::Args)]
pub struct GetRetention {
    /// commerce, commerce/0; unset: all
    #[arg(value_name = "KEYSPACE[/SHARD]")]
    scope: Option<Scope>,
}

impl GetRetention {
    pub async fn run(self, context: &Context) -> Outcome {
        let answer = fetch(context, self.scope.as_ref())
            .await
            .map_err(|failure| failure.of("GetRetention"))?;
        context.print(
            &json::Retention::from(&answer),
            || {
                let names = answer
                    .shards
                    .iter()
                    .map(|shard| table::shard(shard.shard.as_ref()));
                lines(names.collect::<Vec<_>>().iter().map(String::as_str))
            },
            || {
                let shards = retention::retention(&answer.shards);
                match answer.stopped.as_str() {
                    "" => shards,
                    why => format!("{}\n{shards}", retention::stopped(why)),
                }
            },
        )
    }
}

pub async fn fetch(context: &Context, scope: Option<&Scope>) -> Outcome<v1::GetRetentionResponse> {
    let request = v1::GetRetentionRequest {
        keyspace: scope.map(Scope::keyspace).unwrap_or_default().to_owned(),
        shard: scope.map(Scope::shard).unwrap_or_default().to_owned(),
    };
    context
        .client
        .call(|channel| {
            let request = request.clone();
            async move { RetentionClient::new(channel).get_retention(request).await }
        })
        .await
}
