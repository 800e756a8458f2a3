//! Speaks to a coordinator group through whichever member answers.
//!
//! Every call may be carried out twice when an answer is lost: callers use ids of their own making
//! (or calls that may be repeated). A call is bounded by `--timeout`, over all members together; one
//! that has the coordinator read the repository may take a member that is there longer.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use seawall_common::{
    Error,
    coordinators::{Member, NOT_A_COORDINATOR, refusal},
    tls::{Dial, Dialer, ServerUrl},
};
use seawall_proto::v1::{self, cluster_client::ClusterClient};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Response, Status, transport::Channel};

use crate::{
    exit::{Failure, Outcome},
    output::{human::span, waiting},
};

const KEEP_ALIVE: Duration = Duration::from_secs(5);
const DIAL: Dial = Dial::within(Duration::from_secs(3)).keep_alive(KEEP_ALIVE, KEEP_ALIVE);
/// What a call that has the coordinator read the repository may take longer than others. A member
/// that is gone meanwhile is noticed by its connection.
const READING: Duration = Duration::from_secs(300);
/// The least time that one member is given before the next one is asked.
const ATTEMPT_MIN: Duration = Duration::from_secs(1);
const PAUSE_BETWEEN_ROUNDS: Duration = Duration::from_millis(250);
const MEMBERS_MAX: usize = 16;
/// How long a member is given to say which group it belongs to, before it is learned all the same.
const GROUP_LIMIT: Duration = Duration::from_millis(500);

/// What this member itself says of its group; why it says nothing otherwise.
pub async fn own_words(
    member: &Member,
    limit: Duration,
) -> Result<v1::ClusterStatusResponse, String> {
    let mut client = ClusterClient::new(member.channel.clone());
    match timeout(limit, client.status(v1::ClusterStatusRequest {})).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(refusal(&status)),
        Err(_) => Err(format!("no answer within {}", span(limit))),
    }
}

/// Why this member is of no use, now or later: something else than a coordinator gave this answer,
/// which has not even the service that every coordinator has, or TLS stands between.
async fn misfit(member: &Member, answer: &Status) -> Option<String> {
    if let Some(why) = member.misfit(answer) {
        return Some(why);
    }
    let is_stranger = answer.code() == Code::Unimplemented
        && own_words(member, ATTEMPT_MIN)
            .await
            .is_err_and(|why| why == NOT_A_COORDINATOR);
    is_stranger.then(|| format!("{} {NOT_A_COORDINATOR}", member.url))
}

/// Whether a member belongs to another group than the one asked. One that has just been made does
/// not know its group yet, and may belong to any.
pub fn is_another_group(asked: &str, own: &str) -> bool {
    !asked.is_empty() && !own.is_empty() && asked != own
}

pub struct Client {
    /// The one that is asked first stands first.
    members: Mutex<Vec<Member>>,
    dialer: Dialer,
    limit: Duration,
}

impl Client {
    pub fn new(urls: Vec<ServerUrl>, dialer: Dialer, limit: Duration) -> Outcome<Self> {
        let mut members: Vec<Member> = Vec::new();
        for url in urls.into_iter().take(MEMBERS_MAX) {
            if !members.iter().any(|member| member.url == url) {
                members.push(Member::new(url, &dialer, DIAL).map_err(Failure::usage)?);
            }
        }
        Ok(Self {
            members: Mutex::new(members),
            dialer,
            limit,
        })
    }

    fn members(&self) -> std::sync::MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks this member last from now on: it did not answer, or its answers broke off.
    pub fn ask_last(&self, url: &ServerUrl) {
        // Stable: the others keep their order.
        self.members().sort_by_key(|member| member.url == *url);
    }

    /// Asks the group who else belongs to it, so that a watch survives the members that were named.
    /// Whatever goes wrong here is of no matter.
    pub async fn learn_members(&self) {
        let Ok((status, asked)) = self
            .call_one(|channel| async {
                ClusterClient::new(channel)
                    .status(v1::ClusterStatusRequest {})
                    .await
            })
            .await
        else {
            return;
        };
        let named = self.members().clone();
        let news: Vec<Member> = status
            .members
            .iter()
            .filter_map(|known| self.peer(&asked, &known.address).ok())
            .filter(|peer| !named.iter().any(|member| member.url == peer.url))
            .collect();
        let strangers = join_all(news.iter().map(async |member| {
            let own = own_words(member, GROUP_LIMIT).await;
            own.is_ok_and(|own| is_another_group(&status.group_id, &own.group_id))
        }));
        let strangers = strangers.await;
        let mut members = self.members();
        for (member, is_stranger) in news.into_iter().zip(strangers) {
            if members.len() < MEMBERS_MAX && !is_stranger {
                members.push(member);
            }
        }
    }

    /// Another member of the group of `asked`, at an address that it told: they are all spoken to in
    /// the same way.
    pub fn peer(&self, asked: &ServerUrl, address: &str) -> Result<Member, Error> {
        let url = ServerUrl::new(asked.scheme(), address)?;
        Member::new(url, &self.dialer, DIAL)
    }

    /// Calls one member after the other until one answers or the time is over.
    pub async fn call<T, F, Fut>(&self, call: F) -> Outcome<T>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_one(call).await.map(|(answer, _)| answer)
    }

    /// The same, and which member it was that answered.
    pub async fn call_one<T, F, Fut>(&self, call: F) -> Outcome<(T, ServerUrl)>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_within(Duration::ZERO, call).await
    }

    /// The same for a call for which the coordinator reads the repository first: a large one, or a
    /// slow store, takes its time.
    pub async fn call_reading<T, F, Fut>(&self, call: F) -> Outcome<T>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let what = "the coordinator is away, or reads the repository";
        self.call_longer(READING, what, call).await
    }

    /// The same for a call that a member which is there may take longer by `extra` to answer. Who
    /// waits for it is told so, and for `what`.
    pub async fn call_longer<T, F, Fut>(&self, extra: Duration, what: &str, call: F) -> Outcome<T>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let (answer, _) = waiting::tell(what, self.call_within(extra, call)).await?;
        Ok(answer)
    }

    /// Whoever is not there, or refuses, is asked again for the time limit; `extra` is only for
    /// those who have taken the call and are silent.
    async fn call_within<T, F, Fut>(&self, extra: Duration, call: F) -> Outcome<(T, ServerUrl)>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let limit = self.limit;
        let began = Instant::now();
        let mut spent = Duration::ZERO;
        let mut tried_before = false;
        let mut last_refusal = String::new();
        loop {
            let round = self.members().clone();
            let count = u32::try_from(round.len().max(1)).unwrap_or(u32::MAX);
            let share = (limit / count).max(ATTEMPT_MIN);
            let mut is_any_coordinator = false;
            for member in round {
                let left = limit.saturating_sub(spent);
                if left.is_zero() {
                    return Err(nobody_answered(limit.max(began.elapsed()), &last_refusal));
                }
                let share = share.min(left);
                let asked = Instant::now();
                let answer = timeout(share + extra, call(member.channel.clone())).await;
                spent += asked.elapsed().min(share);
                if let Ok(Err(status)) = &answer
                    && let Some(why) = misfit(&member, status).await
                {
                    last_refusal = why;
                    self.ask_last(&member.url);
                    continue;
                }
                last_refusal = match answer {
                    Ok(Ok(response)) => return Ok((response.into_inner(), member.url)),
                    Ok(Err(status)) if may_try_again(&status) => refusal(&status),
                    Ok(Err(status)) => {
                        return Err(Failure {
                            tried_before,
                            ..Failure::failed(answered(status, &member.url))
                        });
                    }
                    Err(_) => format!("no answer within {}", span(share + extra)),
                };
                last_refusal = format!("{}: {last_refusal}", member.url);
                is_any_coordinator = true;
                tried_before = true;
                self.ask_last(&member.url);
            }
            if !is_any_coordinator {
                return Err(Failure::no_coordinator(Error::unavailable(last_refusal)));
            }
            let pause = PAUSE_BETWEEN_ROUNDS.min(limit.saturating_sub(spent));
            sleep(pause).await;
            spent += pause;
        }
    }
}

fn nobody_answered(waited: Duration, last_refusal: &str) -> Failure {
    let error = Error::unavailable(format!(
        "no coordinator answered within {} ({last_refusal})",
        span(waited)
    ));
    Failure::no_coordinator(error.hint(
        "Check --coordinator or SEAWALL_COORDINATOR, and that a majority of the members runs.",
    ))
}

/// What a coordinator answered, as an error. One that does not know a call says so without a word.
fn answered(status: Status, url: &ServerUrl) -> Error {
    if status.code() == Code::Unimplemented {
        return Error::internal(format!("the coordinator {url} does not know this call")).hint(
            "It is of another version than seawallctl: compare ClusterStatus with \
             seawallctl --version.",
        );
    }
    status.into()
}

/// Whether another member, or the same one later, may do better. What never reached a server, or
/// broke off, carries its cause with it; what a server said does not.
pub fn may_try_again(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
        || std::error::Error::source(status).is_some()
}
