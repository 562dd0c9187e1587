//! The head of each gRPC message in a stream of bytes: type, version and nonce; resources are skipped.
//!
//! Both variants number these fields alike: 1 version, 2 resources, 4 type, 5 nonce (6: removed names).

/// What a response says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) version: Vec<u8>,
    pub(crate) kind: Vec<u8>,
    pub(crate) nonce: Vec<u8>,
}

/// Reads messages as their bytes come.
#[derive(Default)]
pub(crate) struct Reader {
    /// Bytes of the message in hand that are still to come, once its length is known.
    left: Option<usize>,
    /// Bytes of a field to pass over.
    skip: usize,
    /// The beginning of a prefix or of a field.
    partial: Vec<u8>,
    head: Head,
}

impl Reader {
    /// Takes bytes; calls `on_message` when a message is complete.
    pub(crate) fn read(&mut self, input: &[u8], mut on_message: impl FnMut(Head)) {
        // Nearly always empty, so nothing is copied but a field that lies across two pieces.
        let mut rest = std::mem::take(&mut self.partial);
        rest.extend_from_slice(input);
        let mut at = 0;
        loop {
            let bytes = &rest[at..];
            let Some(left) = self.left else {
                let [_, a, b, c, d, ..] = bytes else { break };
                self.left = Some(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
                at += 5;
                continue;
            };
            if left == 0 {
                self.left = None;
                on_message(std::mem::take(&mut self.head));
                continue;
            }
            if bytes.is_empty() {
                break;
            }
            let took = if self.skip > 0 {
                let took = self.skip.min(bytes.len());
                self.skip -= took;
                took
            } else {
                let Some((length, start)) = varint(&bytes[1..]).map(|(length, size)| (length, 1 + size))
                else {
                    break;
                };
                let kept = match bytes[0] >> 3 {
                    1 => Some(&mut self.head.version),
                    4 => Some(&mut self.head.kind),
                    5 => Some(&mut self.head.nonce),
                    _ => None,
                };
                match kept {
                    Some(kept) => {
                        let Some(text) = bytes.get(start..start + length) else { break };
                        kept.extend_from_slice(text);
                        start + length
                    }
                    None => {
                        self.skip = length;
                        start
                    }
                }
            };
            at += took;
            self.left = Some(left - took);
        }
        rest.drain(..at);
        self.partial = rest;
    }
}

fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(5) {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

/// Appends a field that holds text or a message.
pub(crate) fn put(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

/// A gRPC message: flag, length, bytes.
pub(crate) fn framed(message: &[u8]) -> bytes::Bytes {
    let mut out = vec![0];
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
    out.into()
}
