//! Responses as bytes: a stream writes its own small header and the resources' shared bytes.
//!
//! The encoding is written by hand instead of through the generated messages, because the resources are already
//! encoded: a push copies a few hundred bytes per stream, or none at all. The tests decode every frame with the
//! generated messages.
//!
//! A gRPC message is a flag byte, a length of four bytes in network byte order, and the message. Spec:
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::sync::Arc;
use std::vec;

use bytes::{BufMut, Bytes, BytesMut};

use crate::resource::Resource;
use crate::response::{Payload, Response};
use crate::variant::XdsVariant;
use crate::wire::{put_string, string_len};

/// A resource list is sent in pieces of about this many bytes, so that a slow client makes the server keep one
/// piece instead of the whole list.
const PIECE_SIZE: usize = 32 * 1024;

/// One response on its way out, piece by piece.
#[derive(Debug)]
pub struct Frame {
    head: Option<Bytes>,
    shared: Option<Bytes>,
    variant: XdsVariant,
    rest: vec::IntoIter<Arc<Resource>>,
    length: usize,
}

impl Frame {
    /// Prepares a response for the wire.
    pub fn new(response: Response) -> Self {
        let Response { variant, kind, version, nonce, payload, removed } = response;
        let (shared, each) = match payload {
            Payload::Everything(snapshot) => (Some(snapshot.of(kind).encoded(variant)), Vec::new()),
            Payload::These(resources) => (None, resources),
        };
        let listed: usize = each.iter().map(|resource| resource.field(variant).len()).sum();
        let resources = shared.as_ref().map_or(listed, Bytes::len);
        let (version, nonce) = (version.to_string(), nonce.to_string());
        let fields = string_len(&version) + string_len(kind.url()) + string_len(&nonce);
        let removed_len: usize = removed.iter().map(|name| string_len(name)).sum();
        let length = fields + removed_len + resources;
        // Small responses, nearly all of them, become one piece.
        let inline = shared.is_none() && listed <= PIECE_SIZE;
        let mut head = BytesMut::with_capacity(5 + fields + removed_len + if inline { listed } else { 0 });
        head.put_u8(0);
        // A message of 4 GiB would need a snapshot of that size; clients end at 4 MiB anyway.
        head.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        let (url_field, nonce_field) = (4, 5);
        put_string(&mut head, 1, &version);
        put_string(&mut head, url_field, kind.url());
        put_string(&mut head, nonce_field, &nonce);
        removed.iter().for_each(|name| put_string(&mut head, 6, name));
        let mut each = each;
        if inline {
            each.drain(..).for_each(|resource| head.put_slice(resource.field(variant)));
        }
        Self { head: Some(head.freeze()), shared, variant, rest: each.into_iter(), length: length + 5 }
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
        let mut piece = BytesMut::with_capacity(PIECE_SIZE);
        piece.put_slice(first.field(self.variant));
        while piece.len() < PIECE_SIZE
            && let Some(resource) = self.rest.next()
        {
            piece.put_slice(resource.field(self.variant));
        }
        Some(piece.freeze())
    }
}
