//! One stream on the wire: requests and publications in, frames out.
//!
//! The handler *is* the body of the HTTP response: it runs when the connection asks for more to send. So the server
//! does no work for a client that does not read, and a dropped connection drops everything. It needs no task, no
//! channel and no buffer in between.
//!
//! ```text
//!   wait() ──StreamEvent──> handle() ──> on_request / on_publication ──> StreamState ──> send() ──> outbox ──> wire
//! ```

mod recording;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use tonic::Status;
use tonic::body::Body;

use super::context::ServerContext;
use super::request::{Request, Requests};
use super::session::Session;
use crate::event_log::{EventKind, NameList};
use crate::frame::Frame;
use crate::resource_type::{PerType, ResourceType};
use crate::response::{RequestOutcome, Response};
use crate::variant::XdsVariant;

/// How much of a type's URL is repeated to the client and in the event log, in characters.
const URL_SHOWN: usize = 200;

/// Why a handler wakes up.
#[expect(clippy::large_enum_variant, reason = "one at a time, never stored: a box would cost more")]
enum StreamEvent {
    Request(Request),
    Published,
    Timeout,
    /// The client ended the stream, or the server stops.
    End,
}

/// One stream of a client, from its first request to its end.
pub(super) struct StreamHandler {
    context: Arc<ServerContext>,
    id: u64,
    variant: XdsVariant,
    /// The type of a per-type service.
    only: Option<ResourceType>,
    requests: Requests,
    /// From the client's first request on.
    session: Option<Session>,
    /// Frames. A frame that pushes a publication has the time when that was published.
    outbox: VecDeque<(Frame, Option<std::time::Instant>)>,
    ended: bool,
}

impl StreamHandler {
    pub(super) fn new(
        context: Arc<ServerContext>,
        id: u64,
        variant: XdsVariant,
        only: Option<ResourceType>,
        body: Body,
    ) -> Self {
        context.open.fetch_add(1, Ordering::Relaxed);
        context.count(|metrics| metrics.stream_opened(variant));
        let requests = Requests::new(variant, body);
        Self { context, id, variant, only, requests, session: None, outbox: VecDeque::new(), ended: false }
    }

    /// The body of the HTTP response: pieces of frames, then the trailers.
    pub(super) fn into_body(self) -> impl http_body::Body<Data = Bytes, Error = Status> + Send + 'static {
        let frames = futures::stream::unfold(self, |mut handler| async move {
            let frame = handler.next().await?;
            Some((Ok(frame), handler))
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
                Ok(StreamEvent::End) => Status::ok(""),
                Ok(event) => match self.handle(event) {
                    Ok(()) => continue,
                    Err(status) => status,
                },
                // The connection broke. The client does not read a status, but the body has to end.
                Err(broken) => broken,
            };
            self.ended = true;
            let mut trailers = http::HeaderMap::new();
            if let Err(error) = status.add_header(&mut trailers) {
                tracing::debug!(%error, "a status cannot be encoded as trailers");
            }
            return Some(http_body::Frame::trailers(trailers));
        }
    }

    fn next_piece(&mut self) -> Option<Bytes> {
        loop {
            let (frame, published_at) = self.outbox.front_mut()?;
            let (piece, published_at) = (frame.next(), published_at.take());
            self.context.count(|metrics| {
                metrics.bytes_sent(piece.as_ref().map_or(0, Bytes::len));
                published_at.into_iter().for_each(|at| metrics.push_finished(at.elapsed()));
            });
            if piece.is_some() {
                return piece;
            }
            self.outbox.pop_front();
        }
    }

    async fn wait(&mut self) -> Result<StreamEvent, Status> {
        let (published, deadline) = match &mut self.session {
            Some(session) => {
                let deadline = session.deadline();
                (Some(session.watch.publications.changed()), deadline)
            }
            None => (None, None),
        };
        tokio::select! {
            request = self.requests.next() => Ok(request?.map_or(StreamEvent::End, StreamEvent::Request)),
            // The sender lives in the cache, which the context holds, so there is no error.
            _ = or_never(published) => Ok(StreamEvent::Published),
            () = or_never(deadline.map(tokio::time::sleep_until)) => Ok(StreamEvent::Timeout),
            () = self.context.stop.cancelled() => Ok(StreamEvent::End),
        }
    }

    fn handle(&mut self, event: StreamEvent) -> Result<(), Status> {
        // A response to a subscription is not a push, however long ago its resources were published.
        let mut is_push = true;
        match event {
            StreamEvent::Request(request) => is_push = !self.on_request(request)?,
            StreamEvent::Published => {
                if let Some(session) = &mut self.session {
                    session.published_at = session.take_publication();
                }
            }
            StreamEvent::Timeout => {
                if let Some(session) = &mut self.session {
                    session.stop_overdue_waits();
                }
            }
            StreamEvent::End => {}
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        let responses = session.state.pending_responses();
        let published_at = session.published_at.filter(|_| is_push);
        let rejected_before = session.rejected;
        if session.update_status(self.context.dependency_timeout) {
            let (status, rejected) = (session.status, session.rejected);
            if let Some(event_log) = &self.context.event_log {
                event_log.set_status(self.id, status, &rejected);
            }
            self.context.count(|metrics| metrics.rejections_changed(&rejected_before, &rejected));
        }
        for response in responses {
            self.send(response, published_at);
        }
        Ok(())
    }

    /// Applies a request. Returns whether it subscribes.
    fn on_request(&mut self, mut request: Request) -> Result<bool, Status> {
        let node = request.take_node();
        let kind = self.requested_type(request.url())?;
        self.context.count(|metrics| metrics.request_received(kind));
        if self.session.is_none() {
            self.register_node(&node.unwrap_or_default());
        }
        let Some(kind) = kind else {
            let url: String = request.url().chars().take(URL_SHOWN).collect();
            self.record(&url, || EventKind::UnknownType);
            return Ok(false);
        };
        let Some(session) = &mut self.session else { return Ok(false) };
        // The state takes the list of versions, so count it before.
        let initial_versions = request.initial_versions();
        let outcome = match &mut request {
            Request::Sotw(request) => session.state.on_sotw_request(kind, request),
            Request::Delta(request) => session.state.on_delta_request(kind, request),
        };
        if matches!(outcome, RequestOutcome::LimitExceeded) {
            return Err(Status::resource_exhausted("the stream subscribes to too many names of one type"));
        }
        Ok(self.record_outcome(kind, &request, initial_versions, outcome))
    }

    /// The type of a request; `None` for a type that is not served.
    fn requested_type(&self, url: &str) -> Result<Option<ResourceType>, Status> {
        match (self.only, url) {
            (None, "") => Err(Status::invalid_argument("type_url is required on the aggregated service")),
            (Some(only), "") => Ok(Some(only)),
            (None, url) => Ok(ResourceType::from_url(url)),
            (Some(only), url) if url == only.url() => Ok(Some(only)),
            (Some(only), url) => Err(Status::invalid_argument(format!(
                "this service carries {}, not {}",
                only.url(),
                url.chars().take(URL_SHOWN).collect::<String>()
            ))),
        }
    }

    /// Starts the session of a client. Only its first request has to have a node.
    fn register_node(&mut self, node: &Node) {
        let session = Session::start(&self.context, node, self.variant);
        let group = session.watch.group().to_owned();
        let session = self.session.insert(session);
        session.take_publication();
        self.record("", || EventKind::Opened { group });
    }

    fn send(&mut self, response: Response, published_at: Option<std::time::Instant>) {
        let kind = response.kind;
        self.context.count(|metrics| metrics.response_made(kind));
        let logged = self.context.event_log.is_some().then(|| {
            let names = NameList::new(response.resources().map(|resource| resource.name()));
            let removed = NameList::new(&response.removed);
            (response.version.to_string(), response.nonce, names, removed)
        });
        self.report_large(&response);
        let frame = Frame::new(response);
        let bytes = frame.length();
        if let Some((version, nonce, names, removed)) = logged {
            self.record(kind.service(), || EventKind::Response { version, nonce, names, removed, bytes });
        }
        self.outbox.push_back((frame, published_at));
    }
}

impl Drop for StreamHandler {
    fn drop(&mut self) {
        self.record("", || EventKind::Closed);
        if let Some(session) = &self.session {
            self.context.count(|metrics| metrics.rejections_changed(&session.rejected, &PerType::default()));
        }
        self.context.open.fetch_sub(1, Ordering::Relaxed);
        self.context.count(|metrics| metrics.stream_closed(self.variant));
    }
}

/// The future's result, or never.
async fn or_never<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
