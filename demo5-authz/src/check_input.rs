//! What Envoy asks: one request, described in a CheckRequest, as far as a decision needs it.
//!
//! Parsed, not checked: a [`CheckInput`] that exists is within its bounds, has a method and a path that mean one thing,
//! and at most one credential of each kind. All of it is untrusted input, except the certificate's name and the context
//! extensions, which Envoy sets.
//!
//! Source: `envoy.service.auth.v3.AttributeContext`.

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;

/// The most headers that a request may have. Envoy lets 100 through unless told otherwise.
pub const MAX_HEADERS: usize = 200;

/// The most bytes that all headers may have together. Envoy lets 60 KiB through unless told otherwise.
pub const MAX_HEADER_BYTES: usize = 96 * 1024;

/// The longest path, in bytes.
pub const MAX_PATH_BYTES: usize = 8 * 1024;

/// The longest request id that is repeated, in bytes.
const MAX_REQUEST_ID_BYTES: usize = 64;

/// The header by which Envoy says that it sends the beginning of a body only.
const PARTIAL_BODY_HEADER: &str = "x-envoy-auth-partial-body";

/// One request to decide about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckInput<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The path without the query.
    pub path: &'a str,
    /// Whether the caller speaks gRPC.
    pub grpc: bool,
    /// The value of the one authorization header, if there is one.
    pub authorization: Option<&'a [u8]>,
    /// Whom the client certificate names, as Envoy has verified it; empty without one.
    pub certificate: &'a str,
    /// What Envoy's route adds, in order.
    pub extensions: Vec<(&'a str, &'a str)>,
    /// What came of the body: bytes, and whether there are more.
    pub body: Option<(usize, bool)>,
}

/// Why a request cannot be decided about; it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// There is no HTTP request in it.
    #[error("the question describes no HTTP request")]
    MissingHttpRequest,
    /// The method or the path is missing, too long, or no text of its kind.
    #[error("it has no method, or no path that begins with a slash")]
    InvalidMethodOrPath,
    /// Two programs could read the path as two different ones.
    #[error("its path can be read in several ways")]
    AmbiguousPath,
    /// There are more headers than any caller needs.
    #[error("it has more than {MAX_HEADERS} headers, or more than {MAX_HEADER_BYTES} bytes of them")]
    TooManyHeaders,
    /// It is undefined which one counts.
    #[error("it has several authorization headers")]
    MultipleAuthorizationHeaders,
}

impl<'a> CheckInput<'a> {
    /// Reads what Envoy sent.
    ///
    /// # Errors
    /// [`InvalidRequest`]
    pub fn parse(request: &'a CheckRequest) -> Result<Self, InvalidRequest> {
        let attributes = request.attributes.as_ref().ok_or(InvalidRequest::MissingHttpRequest)?;
        let http = http(request).ok_or(InvalidRequest::MissingHttpRequest)?;
        let mut scan = HeaderScan::default();
        for (name, value) in headers(http) {
            scan.add(name, value)?;
        }
        let path = http.path.split(['?', '#']).next().unwrap_or_default();
        let invalid_method =
            http.method.is_empty() || !http.method.bytes().all(|byte| byte.is_ascii_uppercase());
        if invalid_method || !path.starts_with('/') || path.len() > MAX_PATH_BYTES {
            return Err(InvalidRequest::InvalidMethodOrPath);
        }
        if is_ambiguous(path) {
            return Err(InvalidRequest::AmbiguousPath);
        }
        let mut extensions: Vec<_> = attributes
            .context_extensions
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        extensions.sort_unstable();
        let bytes = http.body.len().max(http.raw_body.len());
        Ok(Self {
            method: &http.method,
            path,
            grpc: scan.grpc,
            authorization: scan.authorization,
            certificate: attributes.source.as_ref().map_or("", |source| source.principal.as_str()),
            extensions,
            body: scan.partial.map(|partial| (bytes, partial)).or((bytes > 0).then_some((bytes, false))),
        })
    }
}

/// The id by which people find this request in logs, if it has a decent one.
pub fn request_id(request: &CheckRequest) -> Option<&str> {
    let mut headers = headers(http(request)?).take(MAX_HEADERS);
    let (_, id) = headers.find(|(name, _)| name.eq_ignore_ascii_case("x-request-id"))?;
    let id = std::str::from_utf8(id).ok()?;
    (id.len() <= MAX_REQUEST_ID_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic())).then_some(id)
}

/// Whether the caller speaks gRPC, also where the rest is unclear: it decides in which form the answer is.
pub fn is_grpc(request: &CheckRequest) -> bool {
    let is_grpc = |(name, value): (&str, &[u8])| {
        name.eq_ignore_ascii_case("content-type") && value.starts_with(b"application/grpc")
    };
    http(request).is_some_and(|http| headers(http).take(MAX_HEADERS).any(is_grpc))
}

/// What the headers tell.
#[derive(Default)]
struct HeaderScan<'a> {
    count: usize,
    bytes: usize,
    grpc: bool,
    authorization: Option<&'a [u8]>,
    partial: Option<bool>,
}

impl<'a> HeaderScan<'a> {
    fn add(&mut self, name: &str, value: &'a [u8]) -> Result<(), InvalidRequest> {
        self.count += 1;
        self.bytes += name.len() + value.len();
        if self.count > MAX_HEADERS || self.bytes > MAX_HEADER_BYTES {
            return Err(InvalidRequest::TooManyHeaders);
        }
        if name.eq_ignore_ascii_case("authorization") {
            if self.authorization.replace(value).is_some() {
                return Err(InvalidRequest::MultipleAuthorizationHeaders);
            }
        } else if name.eq_ignore_ascii_case("content-type") {
            self.grpc |= value.starts_with(b"application/grpc");
        } else if name.eq_ignore_ascii_case(PARTIAL_BODY_HEADER) {
            self.partial = Some(value == b"true");
        }
        Ok(())
    }
}

fn http(request: &CheckRequest) -> Option<&HttpRequest> {
    request.attributes.as_ref()?.request.as_ref()?.http.as_ref()
}

/// The headers in either form. `header_map` (Envoy's `encode_raw_headers`) keeps several headers of one name apart, and
/// bytes that are no UTF-8 as they are; in `headers` several values are joined by a comma, which no token has.
fn headers(http: &HttpRequest) -> impl Iterator<Item = (&str, &[u8])> {
    let from_header_map = http.header_map.iter().flat_map(|map| &map.headers).map(|header| {
        let value = if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value };
        (header.key.as_str(), value)
    });
    let from_headers = http.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    // One of the two is empty, as Envoy sends them; both count if they are not.
    from_header_map.chain(from_headers)
}

/// Whether a backend may read the path as another one. Envoy was told to clean paths up and to refuse what it cannot;
/// what arrives here all the same is not guessed at.
fn is_ambiguous(path: &str) -> bool {
    let is_dot_segment = |segment: &str| matches!(segment, "." | "..");
    let is_encoded_separator = |code: &[u8]| {
        [b"%2f", b"%5c", b"%2e", b"%00"].iter().any(|one| code.eq_ignore_ascii_case(one.as_slice()))
    };
    path.contains("//")
        || path.bytes().any(|byte| byte == b'\\' || byte.is_ascii_control())
        || path.split('/').any(is_dot_segment)
        || path.as_bytes().windows(3).any(is_encoded_separator)
}
