//! As much of HTTP/2 as a client with one request needs, as plain values: bytes in, events out.
//!
//! Written by hand because a full client library would cost more than the server that is measured.
//! It never runs out of receive window (2 GB are granted at the start), and waits for send window.
//! Source: RFC 9113; headers are literals only, RFC 7541.

use std::collections::VecDeque;

use anyhow::bail;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The largest frame that every peer takes.
const FRAME: usize = 16_384;
const HEAD: usize = 9;
const LARGEST_WINDOW: u32 = 0x7fff_ffff;
const USUAL_WINDOW: u32 = 65_535;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// One connection with one request, stream 1.
pub(crate) struct Connection {
    /// Bytes to write to the socket.
    pub(crate) out: BytesMut,
    unsent: VecDeque<Bytes>,
    stream_window: i64,
    connection_window: i64,
    initial_window: i64,
    /// What came of a frame's head, or of a frame other than DATA, so far.
    partial: Vec<u8>,
    /// What is left of a DATA frame.
    data_left: usize,
}

impl Connection {
    /// Opens the connection and the request.
    pub(crate) fn new(path: &str) -> Self {
        let mut out = BytesMut::with_capacity(512);
        out.put_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        put_head(&mut out, 6, SETTINGS, 0, 0);
        out.put_u16(4);
        out.put_u32(LARGEST_WINDOW);
        put_head(&mut out, 4, WINDOW_UPDATE, 0, 0);
        out.put_u32(LARGEST_WINDOW - USUAL_WINDOW);
        // Indexed fields of the static table: POST, http. Then names of it with values of our own.
        let mut fields = vec![0x83, 0x86];
        put_field(&mut fields, &[0x04], path);
        put_field(&mut fields, &[0x01], "fanout");
        put_field(&mut fields, &[0x0f, 31 - 15], "application/grpc");
        put_field(&mut fields, &[0x00, 2, b't', b'e'], "trailers");
        put_head(&mut out, fields.len(), HEADERS, END_HEADERS, 1);
        out.put_slice(&fields);
        let usual = i64::from(USUAL_WINDOW);
        Self {
            out,
            unsent: VecDeque::new(),
            stream_window: usual,
            connection_window: usual,
            initial_window: usual,
            partial: Vec::new(),
            data_left: 0,
        }
    }

    /// Sends a part of the request's body, now or when there is window.
    pub(crate) fn send(&mut self, data: Bytes) {
        self.unsent.push_back(data);
        self.fill();
    }

    fn fill(&mut self) {
        while let Some(data) = self.unsent.front_mut() {
            let window = usize::try_from(self.stream_window.min(self.connection_window)).unwrap_or(0);
            let size = data.len().min(FRAME).min(window);
            if size == 0 {
                return;
            }
            put_head(&mut self.out, size, DATA, 0, 1);
            self.out.put_slice(&data[..size]);
            data.advance(size);
            self.stream_window -= size as i64;
            self.connection_window -= size as i64;
            if data.is_empty() {
                self.unsent.pop_front();
            }
        }
    }

    /// Takes bytes from the socket; calls `on_data` with the body's bytes.
    pub(crate) fn receive(&mut self, mut input: &[u8], mut on_data: impl FnMut(&[u8])) -> anyhow::Result<()> {
        while !input.is_empty() {
            if self.data_left > 0 {
                let size = self.data_left.min(input.len());
                on_data(&input[..size]);
                self.data_left -= size;
                input = &input[size..];
                continue;
            }
            let wanted = self.frame_size();
            let size = (wanted - self.partial.len()).min(input.len());
            self.partial.extend_from_slice(&input[..size]);
            input = &input[size..];
            if self.partial.len() == HEAD && self.partial[3] == DATA {
                if self.partial[4] & END != 0 {
                    bail!("the server ended the stream");
                }
                self.data_left = self.frame_size() - HEAD;
                self.partial.clear();
            } else if self.partial.len() >= HEAD && self.partial.len() == self.frame_size() {
                let frame = std::mem::take(&mut self.partial);
                let of_stream = frame[5..HEAD] != [0; 4];
                self.take_frame(frame[3], frame[4], of_stream, &frame[HEAD..])?;
            }
        }
        Ok(())
    }

    /// How long the frame is whose head is in `partial`, or a head while it is not.
    fn frame_size(&self) -> usize {
        match self.partial.as_slice() {
            [a, b, c, ..] if self.partial.len() >= HEAD => {
                HEAD + u32::from_be_bytes([0, *a, *b, *c]) as usize
            }
            _ => HEAD,
        }
    }

    fn take_frame(&mut self, kind: u8, flags: u8, of_stream: bool, mut payload: &[u8]) -> anyhow::Result<()> {
        match kind {
            SETTINGS if flags & ACK == 0 => {
                for mut setting in payload.chunks_exact(6) {
                    if setting.get_u16() == 4 {
                        let initial = i64::from(setting.get_u32());
                        self.stream_window += initial - self.initial_window;
                        self.initial_window = initial;
                    }
                }
                put_head(&mut self.out, 0, SETTINGS, ACK, 0);
                self.fill();
            }
            PING if flags & ACK == 0 => {
                put_head(&mut self.out, payload.len(), PING, ACK, 0);
                self.out.put_slice(payload);
            }
            WINDOW_UPDATE if payload.len() == 4 => {
                let more = i64::from(payload.get_u32());
                *(if of_stream { &mut self.stream_window } else { &mut self.connection_window }) += more;
                self.fill();
            }
            HEADERS if flags & END != 0 => bail!("the server ended the stream with trailers"),
            RESET => bail!("the server reset the stream: {payload:?}"),
            GO_AWAY => bail!("the server closes the connection: {}", String::from_utf8_lossy(payload)),
            _ => {}
        }
        Ok(())
    }
}

fn put_head(out: &mut BytesMut, size: usize, kind: u8, flags: u8, stream: u32) {
    out.put_uint(size as u64, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
}

/// A header field whose value, below 127 bytes, is a literal.
fn put_field(out: &mut Vec<u8>, name: &[u8], value: &str) {
    out.extend_from_slice(name);
    out.push(value.len() as u8);
    out.extend_from_slice(value.as_bytes());
}
