//! Protobuf encoding of the few fields that responses share.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::version::Version;

/// `0x12`: field 2, length-delimited, in each of the three messages that hold one another here.
const FIELD_2: u8 = 0x12;

/// Field 2 holding an `Any` {1: type_url, 2: value}.
pub(crate) fn any_field(url: &str, body: &[u8]) -> BytesMut {
    let inner = string_len(url) + 1 + encoded_len_varint(body.len() as u64) + body.len();
    let mut out = BytesMut::with_capacity(inner + 6);
    out.put_u8(FIELD_2);
    encode_varint(inner as u64, &mut out);
    put_string(&mut out, 1, url);
    out.put_u8(FIELD_2);
    encode_varint(body.len() as u64, &mut out);
    out.put_slice(body);
    out
}

/// Field 2 holding a delta `Resource` {1: version, 3: name, 2: any}, and where its field 2 begins.
pub(crate) fn resource_field(name: &str, version: Version, any: &[u8]) -> (Bytes, usize) {
    let version = version.to_string();
    let inner = string_len(&version) + string_len(name) + any.len();
    let mut out = BytesMut::with_capacity(inner + 6);
    out.put_u8(FIELD_2);
    encode_varint(inner as u64, &mut out);
    put_string(&mut out, 1, &version);
    put_string(&mut out, 3, name);
    let any_at = out.len();
    out.put_slice(any);
    (out.freeze(), any_at)
}

/// Appends a string field with a number below 16.
pub(crate) fn put_string(out: &mut BytesMut, field: u8, text: &str) {
    out.put_u8(field << 3 | 2);
    encode_varint(text.len() as u64, out);
    out.put_slice(text.as_bytes());
}

/// The length of a string field with a number below 16.
pub(crate) fn string_len(text: &str) -> usize {
    1 + encoded_len_varint(text.len() as u64) + text.len()
}
