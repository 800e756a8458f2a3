use super::{Context, lines, list_tablets, scope::Scope};
use crate::{
    exit::Outcome,
    output::{human::or_dash, json, table},
};

/// Lists the keys with which agents sign backups; with -o name, the keys alone, for repository.trusted_writers
#[derive(Debug, clap::Args)]
pub struct ListWriters {
    /// All when left out
    #[arg(value_name = "KEYSPACE[/SHARD]")]
    scope: Option<Scope>,
}

impl ListWriters {
    pub async fn run(self, context: &Context) -> Outcome {
        let tablets = list_tablets::fetch(context, self.scope.as_ref())
            .await
            .map_err(|failure| failure.of("ListWriters"))?;
        let rows = tablets
            .iter()
            .map(|tablet| vec![tablet.alias.clone(), or_dash(&tablet.writer_key)]);
        let keys = tablets.iter().map(|tablet| tablet.writer_key.as_str());
        context.print(
            &json::Writers::from(&*tablets),
            || lines(keys.filter(|key| !key.is_empty())),
            || table::render(&["ALIAS", "WRITER KEY"], rows),
        )
    }
}
