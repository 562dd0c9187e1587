//! A call, and what it got: values, without a connection.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use shared::client::root_cause;
use shared::proto::hello::Arrived;
use tonic::Code;

/// How a caller talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// gRPC over HTTP/2
    Grpc,
    /// HTTP/1.1
    Http,
}

impl Protocol {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Grpc, Self::Http];
}

/// What a caller may want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Operation {
    /// Hello, or GET /hello
    Hello,
    /// HelloNoAuth, or GET /public: on its route nobody is asked
    Public,
    /// DeleteGreeting, or DELETE /hello
    Delete,
}

/// A call to be made.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// What is wanted.
    pub operation: Operation,
    /// The token to show.
    pub token: Option<&'a str>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

impl<'a> Call<'a> {
    /// A call without credentials.
    pub fn new(operation: Operation) -> Self {
        Self { operation, token: None, headers: Vec::new() }
    }

    /// The same call with a token.
    #[must_use]
    pub fn with_token(mut self, token: &'a str) -> Self {
        self.token = Some(token);
        self
    }

    /// The same call with another header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn headers(&self) -> Result<HeaderMap, CallError> {
        let token = self.token.iter().map(|token| ("authorization", format!("Bearer {token}")));
        let mut headers = HeaderMap::new();
        for (name, value) in token.chain(self.headers.iter().cloned()) {
            let name = HeaderName::from_static(name);
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(CallError::new)?;
            headers.append(name, value);
        }
        Ok(headers)
    }
}

/// What a call got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallResult {
    /// The status: a number of HTTP, or a name of gRPC.
    pub status: String,
    /// The message or the body.
    pub message: String,
    /// What reached the backend, if it did.
    pub seen_by_backend: Option<Arrived>,
    /// The headers of the answer.
    pub headers: HeaderMap,
    /// How long it took.
    pub duration: Duration,
}

impl CallResult {
    /// Whether the backend answered.
    pub fn reached_backend(&self) -> bool {
        self.seen_by_backend.is_some()
    }

    /// The id by which people find the call in the decision log.
    pub fn request_id(&self) -> Option<&str> {
        self.headers.get("x-request-id")?.to_str().ok()
    }
}

/// The status, and what was said.
impl fmt::Display for CallResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.status, self.message.trim_end())
    }
}

/// No answer came: the connection was refused or broke, or the other side is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CallError(pub(super) String);

impl CallError {
    pub(super) fn new(error: impl std::error::Error) -> Self {
        Self(root_cause(&error))
    }
}

/// gRPC's own name of a code.
pub fn grpc_code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
