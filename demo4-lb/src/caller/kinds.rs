//! The four kinds of call that gRPC knows, each made once and checked.

use std::collections::BTreeSet;

use shared::proto::echo::{EchoReply, EchoRequest, RepeatRequest};
use tonic::{Status, Streaming};

use super::{Caller, DEADLINE};

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One request, one reply.
    Unary,
    /// One request, many replies.
    ServerStreaming,
    /// Many requests, one reply.
    ClientStreaming,
    /// Requests and replies as they come.
    Bidirectional,
}

/// The replies to a call of any kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replies {
    /// The texts that came back, in order.
    pub texts: Vec<String>,
    /// Who answered. A call has one backend, however many messages it has.
    pub backends: BTreeSet<String>,
}

impl Kind {
    /// All four.
    pub const ALL: [Self; 4] =
        [Self::Unary, Self::ServerStreaming, Self::ClientStreaming, Self::Bidirectional];

    /// The method of the echo service that is of this kind.
    pub fn method(self) -> &'static str {
        match self {
            Self::Unary => "Say",
            Self::ServerStreaming => "Repeat",
            Self::ClientStreaming => "Collect",
            Self::Bidirectional => "Chat",
        }
    }

    /// What should come back for [`Caller::call_kind`] of `n` messages: the echo's rules.
    pub fn expected(self, n: u32) -> Vec<String> {
        let texts = (0..n).map(text);
        match self {
            Self::Unary => vec![text(0)],
            Self::ServerStreaming => (0..n).map(|_| text(0)).collect(),
            Self::ClientStreaming => vec![texts.collect::<Vec<_>>().join(" ")],
            Self::Bidirectional => texts.collect(),
        }
    }
}

fn text(number: u32) -> String {
    format!("message-{number}")
}

impl Caller {
    /// Makes one call of `kind` with `n` messages on the side that streams.
    ///
    /// # Errors
    /// The status with which the call ended; DEADLINE_EXCEEDED after [`DEADLINE`].
    pub async fn call_kind(&self, kind: Kind, n: u32) -> Result<Replies, Status> {
        let calling = self.call_without_deadline(kind, n);
        let deadline_exceeded = |_| Status::deadline_exceeded(format!("no end within {DEADLINE:?}"));
        tokio::time::timeout(DEADLINE, calling).await.map_err(deadline_exceeded)?
    }

    async fn call_without_deadline(&self, kind: Kind, n: u32) -> Result<Replies, Status> {
        let mut client = self.client.clone();
        let request = |number| EchoRequest { text: text(number) };
        let requests = || tokio_stream::iter((0..n).map(request).collect::<Vec<_>>());
        match kind {
            Kind::Unary => {
                let reply = client.say(request(0)).await?.into_inner();
                Ok(Replies { texts: vec![reply.text], backends: [reply.backend].into() })
            }
            Kind::ServerStreaming => {
                let request = RepeatRequest { text: text(0), count: n };
                collect_replies(client.repeat(request).await?.into_inner()).await
            }
            Kind::ClientStreaming => {
                let reply = client.collect(requests()).await?.into_inner();
                Ok(Replies { texts: vec![reply.text], backends: [reply.backend].into() })
            }
            Kind::Bidirectional => collect_replies(client.chat(requests()).await?.into_inner()).await,
        }
    }
}

async fn collect_replies(mut replies: Streaming<EchoReply>) -> Result<Replies, Status> {
    let mut stream = Replies::default();
    while let Some(reply) = replies.message().await? {
        stream.texts.push(reply.text);
        stream.backends.insert(reply.backend);
    }
    Ok(stream)
}
