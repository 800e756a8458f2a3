//! What is begun by itself, as the fake has it.

use seawall_proto::v1::*;
use tonic::Request;

use super::{
    Fake, Script,
    services::{Answer, answer},
};

impl Script {
    /// The one schedule that the fake knows.
    fn schedule(&self) -> Schedule {
        self.set_schedule.schedule.clone().unwrap_or_default()
    }
}

#[tonic::async_trait]
impl schedules_server::Schedules for Fake {
    async fn set_schedule(
        &self,
        request: Request<SetScheduleRequest>,
    ) -> Answer<SetScheduleResponse> {
        let (_, script) = self.take("Schedules.SetSchedule", request)?;
        answer(script.set_schedule.clone())
    }

    async fn list_schedules(
        &self,
        request: Request<ListSchedulesRequest>,
    ) -> Answer<ListSchedulesResponse> {
        let (_, script) = self.take("Schedules.ListSchedules", request)?;
        answer(ListSchedulesResponse {
            schedules: vec![script.schedule()],
        })
    }

    async fn remove_schedule(
        &self,
        request: Request<RemoveScheduleRequest>,
    ) -> Answer<RemoveScheduleResponse> {
        let (_, script) = self.take("Schedules.RemoveSchedule", request)?;
        let run = script.schedule().run.unwrap_or_default();
        let operations = run.parts.into_iter().map(|part| part.operation_id);
        answer(RemoveScheduleResponse {
            open_operations: operations.filter(|id| !id.is_empty()).collect(),
        })
    }

    async fn pause_schedule(&self, request: Request<PauseScheduleRequest>) -> Answer<Schedule> {
        let (request, script) = self.take("Schedules.PauseSchedule", request)?;
        answer(Schedule {
            paused: true,
            paused_until_unix_ms: request.until_unix_ms,
            ..script.schedule()
        })
    }

    async fn resume_schedule(&self, request: Request<ResumeScheduleRequest>) -> Answer<Schedule> {
        let (_, script) = self.take("Schedules.ResumeSchedule", request)?;
        answer(script.schedule())
    }
}
