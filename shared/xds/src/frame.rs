//! Responses as bytes: what a stream writes is a small head of its own and the resources' shared bytes.
//!
//! Written by hand rather than through the generated messages, because the resources are encoded
//! already: a push costs a stream a copy of a few hundred bytes, or none at all. The tests decode
//! every frame with the generated messages.
//!
//! A gRPC message is a flag byte, a length of four bytes, and the message. Source:
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::sync::Arc;
use std::vec;

use bytes::{BufMut, Bytes, BytesMut};

use super::resource::{Resource, ResourceType, put_text, text_len};
use super::stream::{Payload, Response};

/// The two variants of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// State of the world.
    Sotw,
    /// Incremental.
    Delta,
}

impl Dialect {
    /// A resource as a field of a response.
    pub fn field(self, resource: &Resource) -> &[u8] {
        match self {
            Self::Sotw => resource.sotw_field(),
            Self::Delta => resource.delta_field(),
        }
    }

    /// Whether a resource of this type can be told to be gone.
    pub fn deletes(self, kind: ResourceType) -> bool {
        self == Self::Delta || kind.is_root()
    }
}

/// A resource list is sent in pieces of about this many bytes, so that a client which reads slowly
/// makes us keep one piece, not the whole.
const PIECE: usize = 32 * 1024;

/// One response on its way out, piece by piece.
#[derive(Debug)]
pub struct Frame {
    head: Option<Bytes>,
    shared: Option<Bytes>,
    dialect: Dialect,
    rest: vec::IntoIter<Arc<Resource>>,
    length: usize,
}

impl Frame {
    /// Prepares a response for the wire.
    pub fn new(response: Response) -> Self {
        let Response { dialect, kind, version, nonce, payload, removed } = response;
        let (shared, each) = match payload {
            Payload::Everything(snapshot) => (Some(snapshot.of(kind).encoded(dialect)), Vec::new()),
            Payload::These(resources) => (None, resources),
        };
        let listed: usize = each.iter().map(|resource| dialect.field(resource).len()).sum();
        let resources = shared.as_ref().map_or(listed, Bytes::len);
        let (version, nonce) = (version.to_string(), nonce.to_string());
        let fields = text_len(&version) + text_len(kind.url()) + text_len(&nonce);
        let gone: usize = removed.iter().map(|name| text_len(name)).sum();
        let length = fields + gone + resources;
        // Small responses, nearly all of them, become one piece.
        let inline = shared.is_none() && listed <= PIECE;
        let mut head = BytesMut::with_capacity(5 + fields + gone + if inline { listed } else { 0 });
        head.put_u8(0);
        // A message of 4 GiB would need a snapshot of that size; clients end at 4 MiB anyway.
        head.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        let (url_field, nonce_field) = (4, 5);
        put_text(&mut head, 1, &version);
        put_text(&mut head, url_field, kind.url());
        put_text(&mut head, nonce_field, &nonce);
        removed.iter().for_each(|name| put_text(&mut head, 6, name));
        let mut each = each;
        if inline {
            each.drain(..).for_each(|resource| head.put_slice(dialect.field(&resource)));
        }
        Self { head: Some(head.freeze()), shared, dialect, rest: each.into_iter(), length: length + 5 }
    }

    /// Bytes in all, the gRPC prefix included.
    pub fn length(&self) -> usize {
        self.length
    }
}

impl Iterator for Frame {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.head.take().or_else(|| self.shared.take()) {
            return Some(piece);
        }
        let first = self.rest.next()?;
        let mut piece = BytesMut::with_capacity(PIECE);
        piece.put_slice(self.dialect.field(&first));
        while piece.len() < PIECE
            && let Some(resource) = self.rest.next()
        {
            piece.put_slice(self.dialect.field(&resource));
        }
        Some(piece.freeze())
    }
}
