use seawall_common::{Error, ids::ShardId};
use seawall_proto::v1::{self, operation_spec::Spec, retention_client::RetentionClient};

use super::{Context, get_retention, lines, scope::Scope};
use crate::{
    exit::{Failure, Outcome},
    operation::{Launch, carry_out},
    output::{json, retention, table},
};

/// Deletes what removed backups have left and nobody needs, where their grace time is over
#[derive(Debug, clap::Args)]
pub struct CollectGarbage {
    /// commerce, commerce/0
    #[arg(value_name = "KEYSPACE[/SHARD]")]
    scope: Scope,
    /// Print what would go and why the rest would stay, and delete nothing
    #[arg(long, conflicts_with_all = ["detach", "deadline"])]
    dry_run: bool,
    #[command(flatten)]
    launch: Launch,
}

impl CollectGarbage {
    pub async fn run(self, context: &Context) -> Outcome {
        if self.dry_run {
            let plan = self.plan(context).await;
            let what = format!("CollectGarbage {} --dry-run", self.scope);
            let plan = plan.map_err(|failure| failure.of(what))?;
            return print_plan(context, &plan.shards);
        }
        match &self.scope {
            Scope::Shard(shard) => {
                if let Some(operation) = self.collect(context, shard).await? {
                    print(context, &[operation])?;
                }
                Ok(())
            }
            Scope::Keyspace(keyspace) => self.collect_all(context, keyspace).await,
        }
    }

    async fn collect_all(&self, context: &Context, keyspace: &str) -> Outcome {
        let what = format!("CollectGarbage {keyspace}");
        if self.launch.detach {
            return Err(Failure::usage(Error::invalid(
                "--detach is for one shard: there is an operation for each",
            ))
            .of(what));
        }
        let known = get_retention::fetch(context, Some(&self.scope)).await;
        let known = known.map_err(|failure| failure.of(&what))?;
        let mut operations = Vec::new();
        for shard in &known.shards {
            let shard = ShardId::from_proto(shard.shard.as_ref()).map_err(Failure::failed)?;
            operations.extend(self.collect(context, &shard).await?);
        }
        print(context, &operations)
    }

    /// None: it was only to be started, and its id has been printed.
    async fn collect(&self, context: &Context, shard: &ShardId) -> Outcome<Option<v1::Operation>> {
        let spec = Spec::Collect(v1::CollectSpec {
            shard: Some(shard.to_proto()),
        });
        let what = format!("CollectGarbage {shard}");
        carry_out(context, &what, spec, &self.launch).await
    }

    async fn plan(&self, context: &Context) -> Outcome<v1::PlanCollectionResponse> {
        let request = v1::PlanCollectionRequest {
            keyspace: self.scope.keyspace().to_owned(),
            shard: self.scope.shard().to_owned(),
        };
        context
            .client
            .call_reading(|channel| {
                let request = request.clone();
                async move { RetentionClient::new(channel).plan_collection(request).await }
            })
            .await
    }
}

fn print(context: &Context, operations: &[v1::Operation]) -> Outcome {
    let named = |operation: &v1::Operation| {
        let shard = table::shard(operation.shard.as_ref());
        format!("{shard}: {}", operation.result)
    };
    context.print(
        &json::Operations::from(operations),
        || lines(operations.iter().map(|operation| operation.id.as_str())),
        || operations.iter().map(named).collect::<Vec<_>>().join("\n"),
    )
}

fn print_plan(context: &Context, shards: &[v1::ShardCollection]) -> Outcome {
    let going = shards
        .iter()
        .flat_map(|shard| &shard.leftovers)
        .filter(|left| left.objects > 0);
    context.print(
        &json::CollectionPlan::from(shards),
        || lines(going.map(|left| left.backup.as_str())),
        || retention::collection(shards),
    )
}
