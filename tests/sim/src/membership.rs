//! An operator who changes the group while it works: adds a member, takes it out again, replaces one
//! whose disk is lost. He does one thing after the other, each until it is done.

use std::time::Duration;

use seawall_proto::v1::{
    AddMemberRequest, FastForwardRequest, RemoveMemberRequest, members_client::MembersClient,
    timestamps_client::TimestampsClient,
};
use seawall_tests::proof::{
    group::{Answer, Group},
    history::Shared,
};
use tokio::time::{sleep, timeout};

use crate::seats::Seats;

const CALM_MS: u64 = 8000;
const AGAIN_AFTER: Duration = Duration::from_millis(500);
const ADDED_WITHIN: Duration = Duration::from_secs(10);

pub struct Operator {
    pub group: Group,
    pub seats: Seats,
    /// Hosts of the members with which the group begins, and the one on which another can be.
    pub hosts: Vec<String>,
    pub spare: String,
    pub address: fn(&str) -> String,
    /// When he stops.
    pub until: Duration,
    /// What he has done.
    pub done: Shared<String>,
}

impl Operator {
    pub async fn work(self) {
        let mut has_another = false;
        loop {
            sleep(Duration::from_millis(rand::random_range(1000..CALM_MS))).await;
            if self.group.elapsed() >= self.until {
                return;
            }
            match rand::random_range(0..3) {
                0 => self.replace().await,
                _ if has_another => {
                    self.take_away().await;
                    has_another = false;
                }
                _ => {
                    self.add(&self.spare).await;
                    has_another = true;
                }
            }
            self.settle().await;
        }
    }

    /// A member's disk is lost: its number goes, and a new member comes in its place.
    async fn replace(&self) {
        let host = &self.hosts[rand::random_range(0..self.hosts.len())];
        let lost = self.seats.id_on(host);
        self.seats.leaves(lost);
        self.seats.lose_disk(host);
        sleep(Duration::from_millis(rand::random_range(0..2000))).await;
        self.remove(lost).await;
        self.add(host).await;
        self.note(format!("{host} replaced"));
    }

    async fn take_away(&self) {
        let id = self.seats.id_on(&self.spare);
        self.seats.leaves(id);
        self.remove(id).await;
        // It ends by itself when it hears of it, unless its machine is taken away before that.
        sleep(Duration::from_millis(rand::random_range(0..15_000))).await;
        self.seats.lose_disk(&self.spare);
        self.note(format!("{} removed", self.spare));
    }

    fn note(&self, what: String) {
        self.done.push(what);
    }

    async fn remove(&self, id: u64) {
        loop {
            let call = |channel| async move {
                let request = RemoveMemberRequest { id };
                MembersClient::new(channel).remove(request).await
            };
            match self.group.call(call).await {
                Answer::Done(_) => return,
                Answer::Refused(e) if e.message().contains("was removed already") => return,
                // Too few answer now, or another call for it is still under way.
                Answer::Refused(_) | Answer::Unknown => sleep(AGAIN_AFTER).await,
            }
        }
    }

    /// Makes the member that waits on a host one that votes.
    async fn add(&self, host: &str) {
        let id = self.seats.id_on(host);
        while !self.is_added(id, (self.address)(host)).await {
            sleep(AGAIN_AFTER).await;
        }
        self.note(format!("{host} added"));
    }

    async fn is_added(&self, id: u64, address: String) -> bool {
        let call = |channel| {
            let request = AddMemberRequest {
                id,
                address: address.clone(),
            };
            async move { MembersClient::new(channel).add(request).await }
        };
        let Answer::Done(mut progress) = self.group.call(call).await else {
            return false;
        };
        let followed = timeout(ADDED_WITHIN, async {
            while let Ok(Some(progress)) = progress.message().await {
                if progress.voter {
                    return true;
                }
            }
            false
        });
        followed.await.unwrap_or(false)
    }

    /// What was done is committed for good when a command after it is: another disk may be lost then.
    async fn settle(&self) {
        loop {
            let call = |channel| async move {
                let request = FastForwardRequest { timestamp: 1 };
                TimestampsClient::new(channel).fast_forward(request).await
            };
            if let Answer::Done(_) = self.group.call(call).await {
                return;
            }
            sleep(AGAIN_AFTER).await;
        }
    }
}
