use seawall_proto::v1::{self, schedules_client::SchedulesClient};

use super::{Context, scope};
use crate::{exit::Outcome, output::json};

/// Removes a schedule for good; backups that it has begun go on, and none is removed
#[derive(Debug, clap::Args)]
pub struct RemoveSchedule {
    /// As ListSchedules shows it
    #[arg(value_name = "NAME", value_parser = scope::schedule)]
    name: String,
}

impl RemoveSchedule {
    pub async fn run(self, context: &Context) -> Outcome {
        let request = v1::RemoveScheduleRequest {
            name: self.name.clone(),
        };
        let answer = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move { SchedulesClient::new(channel).remove_schedule(request).await }
            })
            .await
            .map_err(|failure| failure.of(format_args!("RemoveSchedule {}", self.name)))?;
        let open = answer.open_operations;
        context.print(
            &json::RemovedSchedule {
                removed: self.name.clone(),
                open_operations: open.clone(),
            },
            || self.name.clone(),
            || match open.as_slice() {
                [] => format!("schedule {} is removed", self.name),
                open => format!(
                    "schedule {} is removed; what it has begun goes on: {}",
                    self.name,
                    open.join(", ")
                ),
            },
        )
    }
}
