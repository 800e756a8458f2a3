//! What is kept and what goes, as the fake has it.

use seawall_proto::v1::*;
use tonic::Request;

use super::{
    Fake,
    services::{Answer, answer},
};

#[tonic::async_trait]
impl retention_server::Retention for Fake {
    async fn set_retention(
        &self,
        request: Request<SetRetentionRequest>,
    ) -> Answer<SetRetentionResponse> {
        self.delay().await;
        let (_, script) = self.take("Retention.SetRetention", request)?;
        answer(script.set_retention.clone())
    }

    async fn get_retention(
        &self,
        request: Request<GetRetentionRequest>,
    ) -> Answer<GetRetentionResponse> {
        let (_, script) = self.take("Retention.GetRetention", request)?;
        answer(script.retention.clone())
    }

    async fn resume_retention(
        &self,
        request: Request<ResumeRetentionRequest>,
    ) -> Answer<ResumeRetentionResponse> {
        let _taken = self.take("Retention.ResumeRetention", request)?;
        answer(ResumeRetentionResponse {})
    }

    async fn plan_collection(
        &self,
        request: Request<PlanCollectionRequest>,
    ) -> Answer<PlanCollectionResponse> {
        let (_, script) = self.take("Retention.PlanCollection", request)?;
        answer(script.collection.clone())
    }
}
