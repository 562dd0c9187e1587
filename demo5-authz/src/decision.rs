//! What is decided, as plain values, and the one place where that becomes an answer to Envoy.
//!
//! ```text
//! Decision::Allow { headers } ──> OK,     headers that overwrite the caller's, `authorization` taken away
//! Decision::Deny { reason }   ──> not OK, one of three refusals; the reason itself stays here
//! ```
//!
//! A caller learns who it is not (401), that it may not (403), or that it is not understood (400). Why, is for the
//! decision log: an attacker must not learn which part of a forged token was wrong.

use std::fmt;

use envoy_types::ext_authz::v3::pb::{
    CheckResponse, DeniedHttpResponse, HeaderAppendAction, HeaderValue, HeaderValueOption, HttpResponse,
    HttpStatus, OkHttpResponse,
};
use envoy_types::pb::google::rpc::Status;
use tonic::Code;

use crate::check_input::InvalidRequest;
use crate::token::TokenError;

/// The header in which the backend finds the caller's name. Envoy removes what a caller sends under that name.
pub const PRINCIPAL_HEADER: &str = "x-auth-principal";

/// The header in which the backend finds the caller's roles.
pub const ROLES_HEADER: &str = "x-auth-roles";

/// May it pass?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may, with these headers.
    Allow {
        /// Names and values. They replace what the request has under these names.
        headers: Vec<(&'static str, String)>,
    },
    /// It may not.
    Deny {
        /// Why, for people.
        reason: Reason,
    },
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The question cannot be understood.
    #[error("{0}")]
    InvalidRequest(#[from] InvalidRequest),
    /// Neither a token nor a client certificate.
    #[error("no token and no client certificate")]
    NoCredentials,
    /// The authorization header is not `Bearer` and a token.
    #[error("the authorization header holds no bearer token")]
    NotBearer,
    /// The token is not believed.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// The client certificate has no SPIFFE ID, or one of another trust domain.
    #[error("the client certificate names nobody of the trust domain")]
    UntrustedIdentity,
    /// The policies do not permit it.
    #[error("no policy permits it")]
    NotPermitted,
    /// A policy forbids it, whatever others permit.
    #[error("a policy forbids it")]
    Forbidden,
    /// A policy could not be evaluated. What it would have said is unknown, so this is a no.
    #[error("a policy could not be evaluated: {0}")]
    PolicyFailed(String),
}

/// The response that a denied caller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// 400, INVALID_ARGUMENT.
    BadRequest,
    /// 401, UNAUTHENTICATED.
    Unauthenticated,
    /// 403, PERMISSION_DENIED.
    PermissionDenied,
}

impl Reason {
    /// What the caller is told.
    pub fn denial(&self) -> Denial {
        match self {
            Self::InvalidRequest(_) => Denial::BadRequest,
            Self::NoCredentials | Self::NotBearer | Self::Token(_) | Self::UntrustedIdentity => {
                Denial::Unauthenticated
            }
            Self::NotPermitted | Self::Forbidden | Self::PolicyFailed(_) => Denial::PermissionDenied,
        }
    }

    /// A short stable name, for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::NoCredentials => "no_credentials",
            Self::NotBearer => "not_bearer",
            Self::Token(error) => error.name(),
            Self::UntrustedIdentity => "untrusted_identity",
            Self::NotPermitted => "not_permitted",
            Self::Forbidden => "forbidden",
            Self::PolicyFailed(_) => "policy_failed",
        }
    }
}

impl Denial {
    /// The status for HTTP callers.
    pub fn http(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
        }
    }

    /// The status for gRPC callers.
    pub fn grpc(self) -> Code {
        match self {
            Self::BadRequest => Code::InvalidArgument,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::PermissionDenied => Code::PermissionDenied,
        }
    }
}

/// All that a caller is told: a sentence without a detail.
impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRequest => "the request was not understood",
            Self::Unauthenticated => "valid credentials are needed",
            Self::PermissionDenied => "you may not do that",
        })
    }
}

impl Decision {
    /// The answer for Envoy. Of a refusal, a gRPC caller gets the sentence as its message, an HTTP caller a small JSON
    /// body.
    pub fn to_response(&self, grpc: bool) -> CheckResponse {
        match self {
            Self::Allow { headers } => CheckResponse {
                status: Some(status(Code::Ok)),
                http_response: Some(HttpResponse::OkResponse(OkHttpResponse {
                    headers: headers.iter().map(|(name, value)| overwrite_header(name, value)).collect(),
                    // The backend needs no token, and could lose it.
                    headers_to_remove: vec!["authorization".to_owned()],
                    ..OkHttpResponse::default()
                })),
                ..CheckResponse::default()
            },
            Self::Deny { reason } => denied_response(reason.denial(), grpc),
        }
    }
}

fn denied_response(denial: Denial, grpc: bool) -> CheckResponse {
    let mut headers = Vec::new();
    let body = if grpc {
        // Envoy makes it the grpc-message.
        denial.to_string()
    } else {
        headers.push(overwrite_header("content-type", "application/json"));
        format!("{}\n", serde_json::json!({ "error": denial.to_string() }))
    };
    if denial == Denial::Unauthenticated {
        // RFC 9110 11.6.1: a 401 says which credentials would do.
        headers.push(overwrite_header("www-authenticate", "Bearer"));
    }
    CheckResponse {
        status: Some(status(denial.grpc())),
        http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus { code: denial.http().into() }),
            headers,
            body,
        })),
        ..CheckResponse::default()
    }
}

fn status(code: Code) -> Status {
    Status { code: code.into(), ..Status::default() }
}

/// A header that replaces what is there under its name.
fn overwrite_header(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value: value.to_owned(), ..HeaderValue::default() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    }
}
