//! `PauseSchedule` and `ResumeSchedule`.

use seawall_proto::v1::{self, schedules_client::SchedulesClient};

use super::{Context, moment::moment, scope};
use crate::{
    exit::Outcome,
    output::{human, json, schedule},
};

/// Keeps a schedule from beginning anything; what runs goes on, what comes meanwhile is not caught up
#[derive(Debug, clap::Args)]
pub struct PauseSchedule {
    /// As ListSchedules shows it
    #[arg(value_name = "NAME", value_parser = scope::schedule)]
    name: String,
    /// RFC 3339, or seconds since the epoch; unset: until ResumeSchedule
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<u64>,
}

impl PauseSchedule {
    pub async fn run(self, context: &Context) -> Outcome {
        let request = v1::PauseScheduleRequest {
            name: self.name.clone(),
            until_unix_ms: self.until.unwrap_or(0),
        };
        let paused = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move { SchedulesClient::new(channel).pause_schedule(request).await }
            })
            .await
            .map_err(|failure| failure.of(format_args!("PauseSchedule {}", self.name)))?;
        context.print(
            &json::Schedule::from(&paused),
            || self.name.clone(),
            || match paused.paused_until_unix_ms {
                0 => format!("{} is paused until ResumeSchedule", self.name),
                until => format!("{} is paused until {}", self.name, human::time_short(until)),
            },
        )
    }
}

/// Ends a pause: the first slot from now on runs
#[derive(Debug, clap::Args)]
pub struct ResumeSchedule {
    /// As ListSchedules shows it
    #[arg(value_name = "NAME", value_parser = scope::schedule)]
    name: String,
}

impl ResumeSchedule {
    pub async fn run(self, context: &Context) -> Outcome {
        let request = v1::ResumeScheduleRequest {
            name: self.name.clone(),
        };
        let resumed = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move { SchedulesClient::new(channel).resume_schedule(request).await }
            })
            .await
            .map_err(|failure| failure.of(format_args!("ResumeSchedule {}", self.name)))?;
        context.print(
            &json::Schedule::from(&resumed),
            || self.name.clone(),
            || {
                format!(
                    "{} is not paused; next: {}",
                    self.name,
                    schedule::next(&resumed)
                )
            },
        )
    }
}
