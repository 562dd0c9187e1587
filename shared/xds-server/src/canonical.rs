//! The bytes of a message, the same for the same content in every process and on every reading.
//!
//! Protobuf leaves the order of a map's entries open, and a hash map brings another one each time. A version that is
//! a hash of such bytes would change with nothing changed. So maps are written in the order of their keys, here and
//! in every message that is packed in an `Any`.
//!
//! Knows the wire form. Does not know what any message means.

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{DynamicMessage, Kind, MapKey, MessageDescriptor, ReflectMessage, Value};

/// Encodes `message`: fields in the order of their numbers, maps in the order of their keys.
pub(super) fn encode(mut message: DynamicMessage) -> Vec<u8> {
    unpack(&mut message);
    let (kind, mut out) = (message.descriptor(), Vec::new());
    let fields: Vec<_> = message.fields().map(|(field, _)| field).collect();
    for field in fields {
        let number = field.number();
        match (message.take_field(&field), field.kind()) {
            (Some(Value::Message(inner)), _) if !field.is_group() => put(number, encode(inner), &mut out),
            (Some(Value::Map(entries)), Kind::Message(entry)) => {
                let mut entries: Vec<(MapKey, Value)> = entries.into_iter().collect();
                entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
                for (key, value) in entries {
                    put(number, encode(of_map(&entry, key, value)), &mut out);
                }
            }
            (Some(Value::List(list)), Kind::Message(_)) if !field.is_group() => {
                for inner in list {
                    if let Value::Message(inner) = inner {
                        put(number, encode(inner), &mut out);
                    }
                }
            }
            (Some(value), _) => {
                let mut alone = DynamicMessage::new(kind.clone());
                alone.set_field(&field, value);
                out.extend(alone.encode_to_vec());
            }
            (None, _) => {}
        }
    }
    // What is left are fields that the description does not know: kept as they came.
    out.extend(message.encode_to_vec());
    out
}

/// What is packed in an `Any` is written again too, if the pool can read it.
fn unpack(any: &mut DynamicMessage) {
    if any.descriptor().full_name() != "google.protobuf.Any" {
        return;
    }
    let url = any.get_field_by_name("type_url").and_then(|url| Some(url.as_str()?.to_owned()));
    let name = url.as_deref().and_then(|url| url.rsplit('/').next()).unwrap_or_default();
    let Some(kind) = any.descriptor().parent_pool().get_message_by_name(name) else { return };
    let packed = any.get_field_by_name("value").and_then(|value| value.as_bytes().cloned());
    if let Some(inner) = packed.and_then(|packed| DynamicMessage::decode(kind, packed).ok()) {
        any.set_field_by_name("value", Value::Bytes(encode(inner).into()));
    }
}

/// One entry of a map: on the wire a message of its own.
fn of_map(entry: &MessageDescriptor, key: MapKey, value: Value) -> DynamicMessage {
    let mut one = DynamicMessage::new(entry.clone());
    one.set_field(&entry.map_entry_key_field(), key.into());
    one.set_field(&entry.map_entry_value_field(), value);
    one
}

fn put(number: u32, inner: Vec<u8>, out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(inner.len() as u64, out);
    out.extend(inner);
}
