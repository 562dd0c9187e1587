//! One stream on the wire: requests and snapshots in, frames out.
//!
//! The conversation *is* the response's body: it runs when the connection asks for more to send, so
//! that a client which does not read is not worked for, and dropping the connection drops everything.
//! No task, no channel and no buffer stands between.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::super::cache::{Membership, Quarantine, Standing};
use super::super::dialogue::{Names, Said, complaint};
use super::super::frame::{Dialect, Frame};
use super::super::metrics::Metrics;
use super::super::resource::{Resource, ResourceType};
use super::super::stream::{Heard, Response, Stream};
use super::Shared;
use super::request::{Request, Requests};

/// Why a conversation is woken.
#[expect(clippy::large_enum_variant, reason = "one at a time, never stored: a box would cost more")]
enum Woken {
    Request(Request),
    Published,
    PatienceOver,
    /// The client ended the stream, or we are about to stop.
    End,
}

/// What follows from a request.
#[derive(Default)]
struct Reaction {
    /// Resources that the client refused with it.
    refused: Vec<Arc<Resource>>,
    /// Whether it asks for something, rather than answers.
    asks: bool,
}

pub(super) struct Conversation {
    shared: Arc<Shared>,
    id: u64,
    dialect: Dialect,
    /// The type of a per-type service.
    only: Option<ResourceType>,
    requests: Requests,
    /// The client's place in its group; from its first request on.
    member: Option<Member>,
    /// Frames, each with the time of the publication that it tells, if that is why it is sent.
    outbox: VecDeque<(Frame, Option<std::time::Instant>)>,
    ended: bool,
}

/// What is known once the client has introduced itself.
struct Member {
    membership: Membership,
    stream: Stream,
    node: Arc<str>,
    standing: Standing,
    patience_ends: Option<Instant>,
    /// When what the client is being told was published; none once it is settled.
    pushed: Option<std::time::Instant>,
}

impl Conversation {
    pub(super) fn new(
        shared: Arc<Shared>,
        id: u64,
        dialect: Dialect,
        only: Option<ResourceType>,
        body: Body,
    ) -> Self {
        shared.open.fetch_add(1, Ordering::Relaxed);
        if let Some(metrics) = &shared.metrics {
            metrics.opened(dialect);
        }
        let requests = Requests::new(dialect, body);
        Self { shared, id, dialect, only, requests, member: None, outbox: VecDeque::new(), ended: false }
    }

    /// The response's body: pieces of frames, then the trailers.
    pub(super) fn into_body(self) -> impl http_body::Body<Data = Bytes, Error = Status> + Send + 'static {
        let frames = futures::stream::unfold(self, |mut conversation| async move {
            let frame = conversation.next().await?;
            Some((Ok(frame), conversation))
        });
        http_body_util::StreamBody::new(frames)
    }

    async fn next(&mut self) -> Option<http_body::Frame<Bytes>> {
        loop {
            if let Some(piece) = self.next_piece() {
                return Some(http_body::Frame::data(piece));
            }
            if self.ended {
                return None;
            }
            let status = match self.wait().await {
                Ok(Woken::End) => Status::ok(""),
                Ok(woken) => match self.handle(woken) {
                    Ok(()) => continue,
                    Err(refusal) => refusal,
                },
                // The connection broke; nobody reads a status, but the body has to end.
                Err(broken) => broken,
            };
            self.ended = true;
            let mut trailers = http::HeaderMap::new();
            if let Err(error) = status.add_header(&mut trailers) {
                tracing::debug!(%error, "a status has no form as trailers");
            }
            return Some(http_body::Frame::trailers(trailers));
        }
    }

    fn next_piece(&mut self) -> Option<Bytes> {
        loop {
            let (frame, pushed) = self.outbox.front_mut()?;
            let (piece, pushed) = (frame.next(), pushed.take());
            if let Some(metrics) = &self.shared.metrics {
                metrics.sent(piece.as_ref().map_or(0, Bytes::len));
                pushed.into_iter().for_each(|at| metrics.pushed(at.elapsed()));
            }
            if piece.is_some() {
                return piece;
            }
            self.outbox.pop_front();
        }
    }

    async fn wait(&mut self) -> Result<Woken, Status> {
        let (changed, patience) = match &mut self.member {
            Some(member) => (Some(member.membership.publications.changed()), member.patience_ends),
            None => (None, None),
        };
        tokio::select! {
            request = self.requests.next() => Ok(request?.map_or(Woken::End, Woken::Request)),
            // The sender lives in the cache, which we hold; an error cannot come.
            _ = maybe(changed) => Ok(Woken::Published),
            () = maybe(patience.map(tokio::time::sleep_until)) => Ok(Woken::PatienceOver),
            () = self.shared.stop.cancelled() => Ok(Woken::End),
        }
    }

    fn handle(&mut self, woken: Woken) -> Result<(), Status> {
        // A response to a question is no push, however long ago the answer was published.
        let mut pushes = true;
        let refused = match woken {
            Woken::Request(request) => {
                let Reaction { refused, asks } = self.hear(request)?;
                pushes = !asks;
                refused
            }
            Woken::Published => {
                let at = self.take_publication();
                if let Some(member) = &mut self.member {
                    member.pushed = at;
                }
                Vec::new()
            }
            Woken::PatienceOver => {
                if let Some(member) = &mut self.member {
                    tracing::info!(node = %member.node, "does not ask for the endpoints of its clusters");
                    member.stream.give_up_waiting();
                }
                Vec::new()
            }
            Woken::End => Vec::new(),
        };
        let Some(member) = &mut self.member else { return Ok(()) };
        if !refused.is_empty() {
            member.membership.refuse(refused.iter().map(|resource| resource.version()));
        }
        let quarantine: Arc<Quarantine> = member.membership.quarantine();
        let responses = member.stream.due(&quarantine);
        let pushed = member.pushed.filter(|_| pushes);
        if member.note(self.shared.patience)
            && let Some(dialogue) = &self.shared.dialogue
        {
            dialogue.stands(self.id, member.standing);
        }
        for response in responses {
            self.send(response, pushed);
        }
        Ok(())
    }

    /// Takes a request.
    fn hear(&mut self, mut request: Request) -> Result<Reaction, Status> {
        let node = request.take_node();
        let kind = self.kind(request.url())?;
        self.count(|metrics| metrics.heard(kind));
        if self.member.is_none() {
            self.introduce(&node.unwrap_or_default());
        }
        let Some(kind) = kind else {
            let url: String = request.url().chars().take(200).collect();
            self.say(&url, || Said::Unserved);
            return Ok(Reaction::default());
        };
        let Some(member) = &mut self.member else { return Ok(Reaction::default()) };
        // The stream takes the list, so count it before.
        let listed = request.listed();
        let heard = match &mut request {
            Request::Sotw(request) => member.stream.hear_sotw(kind, request),
            Request::Delta(request) => member.stream.hear_delta(kind, request),
        };
        if matches!(heard, Heard::TooMuch) {
            return Err(Status::resource_exhausted("the stream subscribes to too many names of one type"));
        }
        Ok(self.note_heard(kind, &request, listed, heard))
    }

    /// The type that a request is about; `None` for one that is not served.
    fn kind(&self, url: &str) -> Result<Option<ResourceType>, Status> {
        match (self.only, url) {
            (None, "") => Err(Status::invalid_argument("type_url is required on the aggregated service")),
            (Some(only), "") => Ok(Some(only)),
            (None, url) => Ok(ResourceType::from_url(url)),
            (Some(only), url) if url == only.url() => Ok(Some(only)),
            (Some(only), url) => Err(Status::invalid_argument(format!(
                "this service carries {}, not {}",
                only.url(),
                url.chars().take(200).collect::<String>()
            ))),
        }
    }

    /// The first request tells who the client is; later ones need not.
    fn introduce(&mut self, node: &Node) {
        let membership = self.shared.cache.join(node);
        let stream = Stream::new(self.dialect, (self.shared.traits)(node));
        let id = if node.id.is_empty() { "(no node id)" } else { &node.id };
        let node: Arc<str> = id.chars().take(200).collect::<String>().into();
        let group = membership.group().to_owned();
        self.member = Some(Member {
            membership,
            stream,
            node,
            standing: Standing::Busy,
            patience_ends: None,
            pushed: None,
        });
        self.say("", || Said::Opened { group });
        self.take_publication();
    }

    /// Shows the stream the newest publication; returns when that was published.
    fn take_publication(&mut self) -> Option<std::time::Instant> {
        let member = self.member.as_mut()?;
        let published = member.membership.publications.borrow_and_update().clone()?;
        let at = published.at;
        member.stream.publish(published);
        Some(at)
    }

    fn note_heard(&self, kind: ResourceType, request: &Request, listed: usize, heard: Heard) -> Reaction {
        match heard {
            Heard::Ask => self.say(kind.service(), || request.asked(listed)),
            Heard::Ack { version, asks } => {
                self.count(|metrics| metrics.accepted(kind));
                self.say(kind.service(), || {
                    let (names, dropped) = if asks { request.names() } else { Default::default() };
                    Said::Ack { version: version.to_string(), nonce: request.nonce(), names, dropped }
                });
                return Reaction { refused: Vec::new(), asks };
            }
            // The stream ends, and says so with its status.
            Heard::TooMuch => {}
            Heard::Stale => self.say(kind.service(), || {
                let (names, dropped) = request.names();
                Said::Stale { nonce: request.nonce(), names, dropped }
            }),
            Heard::Nack { message, blame } => {
                self.count(|metrics| metrics.refused(kind));
                if let Some(Member { node, .. }) = &self.member {
                    // Not a warning: a client that says no is part of the protocol, and of some stories.
                    tracing::info!(%node, "{} refused: {}", kind.service(), complaint(&message));
                }
                let names = blame.suspects.iter().map(|resource| Arc::clone(resource.name())).collect();
                let said = Said::Nack {
                    version: blame.version.map(|version| version.to_string()).unwrap_or_default(),
                    nonce: request.nonce(),
                    names: Names::new(names),
                    message: complaint(&message),
                };
                self.say(kind.service(), || said);
                // A mere suspect may be innocent: it is kept from nobody else.
                let refused = if blame.certain { blame.suspects } else { Vec::new() };
                return Reaction { refused, asks: false };
            }
        }
        Reaction { refused: Vec::new(), asks: true }
    }

    fn send(&mut self, response: Response, pushed: Option<std::time::Instant>) {
        let kind = response.kind;
        self.count(|metrics| metrics.responded(kind));
        let told = self
            .shared
            .dialogue
            .is_some()
            .then(|| (response.version, response.nonce, response.names(), response.removed.clone()));
        let frame = Frame::new(response);
        if let Some((version, nonce, names, removed)) = told {
            let (names, removed) = (Names::new(names), Names::new(removed));
            let bytes = frame.length();
            self.say(kind.service(), || Said::Sent {
                version: version.to_string(),
                nonce,
                names,
                removed,
                bytes,
            });
        }
        self.outbox.push_back((frame, pushed));
    }

    fn count(&self, count: impl FnOnce(&Metrics)) {
        if let Some(metrics) = &self.shared.metrics {
            count(metrics);
        }
    }

    /// Records what was said, if anyone wants to know.
    fn say(&self, kind: &str, said: impl FnOnce() -> Said) {
        if let (Some(dialogue), Some(member)) = (&self.shared.dialogue, &self.member) {
            dialogue.record(&member.node, self.id, self.dialect, kind, said());
        }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.say("", || Said::Closed);
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        self.count(|metrics| metrics.closed(self.dialect));
    }
}

impl Member {
    /// Reports how the client stands, and sets the clock by which it has to ask. Returns whether its
    /// standing changed.
    fn note(&mut self, patience: Duration) -> bool {
        let standing = self.stream.standing();
        if matches!(standing, Standing::Settled(_)) {
            self.pushed = None;
        }
        let changed = standing != self.standing;
        if changed {
            self.standing = standing;
            self.membership.report(standing);
        }
        self.patience_ends = match (self.stream.is_holding(), self.patience_ends) {
            (false, _) => None,
            (true, Some(set)) => Some(set),
            (true, None) => Some(Instant::now() + patience),
        };
        changed
    }
}

/// The future's result, or never.
async fn maybe<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
