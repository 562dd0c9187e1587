//! The four kinds of call, each with its bounds. Knows nothing of sockets.
//!
//! How an open call ends when the backend drains depends on whether the caller can detect that something is missing. A Chat may be ended at once: every request so far has its reply. Repeat and Collect are
//! finite and may finish; a caller too slow for that gets UNAVAILABLE, never half an answer that
//! looks whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use shared::lifecycle::Lifecycle;
use shared::proto::echo::echo_server::Echo;
use shared::proto::echo::{CollectReply, EchoReply, EchoRequest, RepeatRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// The most replies that one Repeat may ask for.
pub const MAX_REPLIES: u32 = 10_000;

/// The most requests that one Collect may hold; their texts may hold 1 MiB together.
pub const MAX_REQUESTS: u32 = 10_000;

/// In bytes: well below the 4 MiB that a gRPC client takes.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// Replies that wait for a slow reader; then the sender waits.
const REPLY_QUEUE: usize = 16;

type Replies = ReceiverStream<Result<EchoReply, Status>>;

/// The service. Clones are the same backend.
#[derive(Clone, Debug)]
pub(super) struct EchoService(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    locality: String,
    calls: AtomicU64,
    failing: AtomicBool,
    draining: CancellationToken,
    drain_timeout: Duration,
    life: Lifecycle,
}

impl EchoService {
    /// From the moment when `draining` is cancelled open calls end; finite ones may go on for `drain_timeout`.
    pub(super) fn new(
        name: &str,
        locality: &str,
        draining: CancellationToken,
        drain_timeout: Duration,
        life: &Lifecycle,
    ) -> Self {
        Self(Arc::new(Inner {
            name: name.to_owned(),
            locality: locality.to_owned(),
            calls: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            draining,
            drain_timeout,
            life: life.clone(),
        }))
    }

    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    pub(super) fn set_failing(&self, failing: bool) {
        self.0.failing.store(failing, Ordering::Relaxed);
    }

    pub(super) fn draining(&self) -> &CancellationToken {
        &self.0.draining
    }

    fn count(&self) {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
    }

    fn reply(&self, text: String) -> EchoReply {
        EchoReply { text, backend: self.0.name.clone(), locality: self.0.locality.clone() }
    }

    /// Resolves when the backend drains and the time for finite calls is over.
    async fn drain_timeout(&self) {
        self.0.draining.cancelled().await;
        tokio::time::sleep(self.0.drain_timeout).await;
    }

    fn stopping_status(&self) -> Status {
        let name = self.name();
        Status::unavailable(format!("backend {name} is stopping; call again, another one will answer"))
    }

    async fn collect(&self, mut requests: Streaming<EchoRequest>) -> Result<CollectReply, Status> {
        let mut count = 0;
        let mut text = String::new();
        while let Some(request) = requests.message().await? {
            if count == MAX_REQUESTS || text.len() + request.text.len() > MAX_TEXT_BYTES {
                return Err(Status::resource_exhausted(format!(
                    "a Collect takes at most {MAX_REQUESTS} requests and {MAX_TEXT_BYTES} bytes of text; send several"
                )));
            }
            if count > 0 {
                text.push(' ');
            }
            text.push_str(&request.text);
            count += 1;
        }
        Ok(CollectReply { count, text, backend: self.0.name.clone(), locality: self.0.locality.clone() })
    }
}

#[tonic::async_trait]
impl Echo for EchoService {
    async fn say(&self, request: Request<EchoRequest>) -> Result<Response<EchoReply>, Status> {
        self.count();
        if self.0.failing.load(Ordering::Relaxed) {
            return Err(Status::unavailable(format!("backend {} was told to fail", self.name())));
        }
        Ok(Response::new(self.reply(request.into_inner().text)))
    }

    type RepeatStream = Replies;

    async fn repeat(&self, request: Request<RepeatRequest>) -> Result<Response<Replies>, Status> {
        let RepeatRequest { text, count } = request.into_inner();
        if count > MAX_REPLIES {
            return Err(Status::invalid_argument(format!(
                "count: {count} is over the bound of {MAX_REPLIES}"
            )));
        }
        self.count();
        let (replies, receiver) = mpsc::channel(REPLY_QUEUE);
        let service = self.clone();
        self.0.life.spawn(async move {
            let all = async {
                for _ in 0..count {
                    if replies.send(Ok(service.reply(text.clone()))).await.is_err() {
                        // The caller went away.
                        return;
                    }
                }
            };
            tokio::select! {
                () = all => {}
                () = service.drain_timeout() => {
                    _ = replies.send(Err(service.stopping_status())).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn collect(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<CollectReply>, Status> {
        let collected = tokio::select! {
            collected = EchoService::collect(self, request.into_inner()) => collected?,
            () = self.drain_timeout() => return Err(self.stopping_status()),
        };
        self.count();
        Ok(Response::new(collected))
    }

    type ChatStream = Replies;

    async fn chat(&self, request: Request<Streaming<EchoRequest>>) -> Result<Response<Replies>, Status> {
        self.count();
        let mut requests = request.into_inner();
        let (replies, receiver) = mpsc::channel(REPLY_QUEUE);
        let service = self.clone();
        self.0.life.spawn(async move {
            loop {
                let request = tokio::select! {
                    // First, so that a talkative caller cannot keep a draining backend up.
                    biased;
                    () = service.draining().cancelled() => return,
                    request = requests.message() => request,
                };
                let reply = match request {
                    Ok(Some(request)) => Ok(service.reply(request.text)),
                    Ok(None) => return,
                    Err(status) => Err(status),
                };
                let last = reply.is_err();
                if replies.send(reply).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
