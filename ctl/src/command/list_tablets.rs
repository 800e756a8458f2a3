use seawall_common::tablets;
use seawall_proto::v1::{self, topology_client::TopologyClient};

use super::{Context, lines, scope::Scope};
use crate::{
    exit::Outcome,
    output::{json, table},
};

/// Lists tablets: type, serving, position, lag, epoch, version, last seen
#[derive(Debug, clap::Args)]
pub struct ListTablets {
    /// All when left out
    #[arg(value_name = "KEYSPACE[/SHARD]")]
    scope: Option<Scope>,
}

impl ListTablets {
    pub async fn run(self, context: &Context) -> Outcome {
        let tablets = fetch(context, self.scope.as_ref())
            .await
            .map_err(|failure| failure.of("ListTablets"))?;
        context.print(
            &json::Tablets::from(&*tablets),
            || lines(tablets.iter().map(|tablet| tablet.alias.as_str())),
            || table::tablets(&tablets),
        )
    }
}

pub async fn fetch(context: &Context, scope: Option<&Scope>) -> Outcome<Vec<v1::Tablet>> {
    let keyspace = scope.map(Scope::keyspace).unwrap_or_default();
    let shard = scope.map(Scope::shard).unwrap_or_default();
    let page = async |request: v1::ListTabletsRequest| {
        let call = context.client.call(|channel| {
            let request = request.clone();
            async move { TopologyClient::new(channel).list_tablets(request).await }
        });
        call.await
    };
    tablets::all(keyspace, shard, page).await
}
