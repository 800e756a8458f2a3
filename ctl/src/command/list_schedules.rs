use seawall_proto::v1::{self, schedules_client::SchedulesClient};

use super::{Context, lines, scope};
use crate::{
    exit::Outcome,
    output::{json, schedule},
};

/// Shows what is begun by itself: when next, what came of it last, and why it does not run
#[derive(Debug, clap::Args)]
pub struct ListSchedules {
    /// One of them, in full; unset: all
    #[arg(value_name = "NAME", value_parser = scope::schedule)]
    name: Option<String>,
}

impl ListSchedules {
    pub async fn run(self, context: &Context) -> Outcome {
        let request = v1::ListSchedulesRequest {
            name: self.name.clone().unwrap_or_default(),
        };
        let answer = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move { SchedulesClient::new(channel).list_schedules(request).await }
            })
            .await
            .map_err(|failure| failure.of("ListSchedules"))?;
        let schedules = &answer.schedules;
        context.print(
            &json::Schedules::from(schedules.as_slice()),
            || lines(schedules.iter().map(|schedule| schedule.name.as_str())),
            || match (&self.name, schedules.as_slice()) {
                (Some(_), [one]) => schedule::in_full(one),
                _ => schedule::list(schedules),
            },
        )
    }
}
