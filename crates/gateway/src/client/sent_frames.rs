//! The frames that a client of HTTP/2 is sent. The library refuses some requests before a service sees them: only
//! in what it sends can be seen that it did.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bot_bottle_core::decision::Reason;
use http::StatusCode;
use tokio::io::AsyncWrite;
use tokio_util::io::InspectWriter;

use crate::limits::MAX_CLIENT_STREAMS;

/// Bytes of a frame's header (RFC 9113 section 4.1).
const HEADER_BYTES: usize = 9;

/// Bytes of a frame that are looked at behind its header: enough for the error codes of RST_STREAM and GOAWAY.
const START_BYTES: usize = 8;

/// What frames are, and their flag (RFC 9113 section 6).
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const GOAWAY: u8 = 0x7;
const END_STREAM: u8 = 0x1;

/// Why the library refused a request, and the status that it answered, if it did.
pub(super) type OnRefusal = Box<dyn FnMut(Reason, Option<StatusCode>) + Send>;

/// Responses of ours that consist of a head alone and were not seen on their way yet. One whose stream is reset
/// before that stays counted, and hides one of the library's.
#[derive(Debug, Clone, Default)]
pub(super) struct OwnHeads(Arc<AtomicUsize>);

impl OwnHeads {
    pub(super) fn expect(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    fn take(&self) -> bool {
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1)).is_ok()
    }
}

/// A connection below the library, which passes everything on.
pub(super) fn watch<S: AsyncWrite>(
    stream: S,
    own_heads: OwnHeads,
    on_refusal: OnRefusal,
) -> InspectWriter<S, impl FnMut(&[u8])> {
    let mut frames = Frames::new(own_heads, on_refusal);
    InspectWriter::new(stream, move |bytes| frames.pass(bytes))
}

struct Frames {
    header: [u8; HEADER_BYTES],
    start: [u8; START_BYTES],
    /// Bytes of the frame so far, its header included.
    seen: usize,
    /// Streams whose response has begun and not ended.
    answered: HashSet<u32>,
    /// The last streams whose response was a head alone. The library may reset them as well.
    ended: VecDeque<u32>,
    own_heads: OwnHeads,
    on_refusal: OnRefusal,
}

impl Frames {
    fn new(own_heads: OwnHeads, on_refusal: OnRefusal) -> Self {
        Self {
            header: [0; HEADER_BYTES],
            start: [0; START_BYTES],
            seen: 0,
            answered: HashSet::new(),
            ended: VecDeque::new(),
            own_heads,
            on_refusal,
        }
    }

    fn length(&self) -> usize {
        let [high, middle, low, ..] = self.header;
        usize::try_from(u32::from_be_bytes([0, high, middle, low])).unwrap_or(usize::MAX)
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while let Some(&first) = bytes.first() {
            if self.seen < HEADER_BYTES {
                self.header[self.seen] = first;
                self.seen += 1;
                bytes = &bytes[1..];
            } else {
                let at = self.seen - HEADER_BYTES;
                let length = bytes.len().min(self.length() - at);
                let (part, rest) = bytes.split_at(length);
                for (to, from) in self.start.iter_mut().skip(at).zip(part) {
                    *to = *from;
                }
                self.seen += length;
                bytes = rest;
            }
            if self.seen >= HEADER_BYTES && self.seen == HEADER_BYTES + self.length() {
                self.seen = 0;
                self.frame();
            }
        }
    }

    /// A whole frame has passed.
    fn frame(&mut self) {
        let [_, _, _, kind, flags, s0, s1, s2, s3] = self.header;
        let [c0, c1, c2, c3, g0, g1, g2, g3] = self.start;
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        let ends = flags & END_STREAM != 0;
        match kind {
            DATA if ends => {
                self.answered.remove(&stream);
            }
            HEADERS if !ends => {
                self.answered.insert(stream);
            }
            // Otherwise they are trailers.
            HEADERS if !self.answered.remove(&stream) => {
                self.ended.truncate(MAX_CLIENT_STREAMS as usize - 1);
                self.ended.push_front(stream);
                if !self.own_heads.take() {
                    (self.on_refusal)(
                        Reason::LimitReached,
                        Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
                    );
                }
            }
            RST_STREAM if !self.answered.remove(&stream) && !self.ended.contains(&stream) => {
                self.error(u32::from_be_bytes([c0, c1, c2, c3]));
            }
            GOAWAY => self.error(u32::from_be_bytes([g0, g1, g2, g3])),
            _ => {}
        }
    }

    /// Streams also end with codes that refuse nothing, such as CANCEL.
    fn error(&mut self, code: u32) {
        match h2::Reason::from(code) {
            h2::Reason::PROTOCOL_ERROR
            | h2::Reason::FRAME_SIZE_ERROR
            | h2::Reason::COMPRESSION_ERROR
            | h2::Reason::FLOW_CONTROL_ERROR => (self.on_refusal)(Reason::MalformedRequest, None),
            h2::Reason::REFUSED_STREAM | h2::Reason::ENHANCE_YOUR_CALM => {
                (self.on_refusal)(Reason::LimitReached, None);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let [_, length @ ..] = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// Whatever pieces they are written in.
    #[test]
    fn refusals_of_the_library_are_told_from_what_else_is_sent() {
        let sent = [
            frame(4, 0, 0, &[0; 12]),
            // A response, its end, and one that is broken off.
            frame(HEADERS, 4, 1, &[0x88]),
            frame(DATA, 0, 1, &[0; 40]),
            frame(HEADERS, 5, 1, &[0x88]),
            frame(HEADERS, 4, 3, &[0x88]),
            frame(RST_STREAM, 0, 3, &[0, 0, 0, 1]),
            // Our own head, and the library's, whose stream it resets.
            frame(HEADERS, 5, 5, &[0x88]),
            frame(HEADERS, 5, 7, &[0x88]),
            frame(RST_STREAM, 0, 7, &[0, 0, 0, 1]),
            // A malformed request, one too many, and a stream that the client no longer wants.
            frame(RST_STREAM, 0, 9, &[0, 0, 0, 1]),
            frame(RST_STREAM, 0, 11, &[0, 0, 0, 7]),
            frame(RST_STREAM, 0, 13, &[0, 0, 0, 8]),
            // The end of a connection, and of another.
            frame(GOAWAY, 0, 0, &[0, 0, 0, 9, 0, 0, 0, 0]),
            frame(GOAWAY, 0, 0, &[0, 0, 0, 9, 0, 0, 0, 1, b'w', b'h', b'y']),
        ]
        .concat();
        for piece in [1, 2, 7, 9, 1000] {
            let own_heads = OwnHeads::default();
            own_heads.expect();
            let refusals = Arc::new(Mutex::new(Vec::new()));
            let mut frames = Frames::new(own_heads, {
                let refusals = Arc::clone(&refusals);
                Box::new(move |reason, status| refusals.lock().expect("not poisoned").push((reason, status)))
            });
            for bytes in sent.chunks(piece) {
                frames.pass(bytes);
            }
            assert_eq!(
                *refusals.lock().expect("not poisoned"),
                [
                    (Reason::LimitReached, Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)),
                    (Reason::MalformedRequest, None),
                    (Reason::LimitReached, None),
                    (Reason::MalformedRequest, None),
                ],
                "in pieces of {piece}"
            );
        }
    }
}
