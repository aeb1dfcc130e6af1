//! Bodies: decoding received ones and producing sent ones.

use std::{io::Read, time::Duration};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::{
    BodyExt, Either, Full,
    channel::{Channel, Sender},
};
use hyper::body::Incoming;

use super::{AnswerBody, MAX_RECORDED_BODY};

/// A response body.
pub(super) type OutgoingBody = Either<Full<Bytes>, Channel<Bytes, BrokenOff>>;

/// The body ends before its end, on purpose.
#[derive(Debug)]
pub(super) struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off on purpose")
    }
}

impl std::error::Error for BrokenOff {}

/// The capacity of the channel between the producer of a body and the connection.
const PARTS_IN_FLIGHT: usize = 4;

const FILLER: &[u8; 16 << 10] = &[b'x'; 16 << 10];

/// Reads a body to its end. Returns its first [`MAX_RECORDED_BODY`] bytes as received, and its length.
pub(super) async fn read(mut incoming: Incoming) -> Result<(Bytes, u64), hyper::Error> {
    let mut kept = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = incoming.frame().await {
        if let Ok(data) = frame?.into_data() {
            length += data.len() as u64;
            let room = MAX_RECORDED_BODY - kept.len();
            kept.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    Ok((kept.freeze(), length))
}

/// Undoes `Content-Encoding`; a body that cannot be decoded stays as it is, so that a test sees it.
pub(super) fn decode(body: Bytes, headers: &HeaderMap) -> Bytes {
    let encoding = headers.get("content-encoding").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut decoded = Vec::new();
    let limit = MAX_RECORDED_BODY as u64;
    let result = match encoding {
        "gzip" => flate2::read::MultiGzDecoder::new(&body[..]).take(limit).read_to_end(&mut decoded),
        "deflate" => flate2::read::ZlibDecoder::new(&body[..]).take(limit).read_to_end(&mut decoded),
        "br" => brotli_decompressor::Decompressor::new(&body[..], 4096).take(limit).read_to_end(&mut decoded),
        "zstd" => match ruzstd::decoding::StreamingDecoder::new(&body[..]) {
            Ok(decoder) => decoder.take(limit).read_to_end(&mut decoded),
            Err(_) => return body,
        },
        _ => return body,
    };
    if result.is_ok() { decoded.into() } else { body }
}

/// The body of an answer; that of a WebSocket is empty.
pub(super) fn outgoing(body: AnswerBody) -> OutgoingBody {
    let streamed = |feed: Feed| {
        let (sender, body) = Channel::new(PARTS_IN_FLIGHT);
        tokio::spawn(feed.run(sender));
        Either::Right(body)
    };
    match body {
        AnswerBody::Whole(bytes) => Either::Left(Full::new(bytes)),
        AnswerBody::Parts { parts, pause } => streamed(Feed::Parts(parts, pause)),
        AnswerBody::Filler(bytes) => streamed(Feed::Filler(bytes)),
        AnswerBody::BrokenOff { sent, .. } => streamed(Feed::BrokenOff(sent)),
        AnswerBody::WebSocket(_) => Either::Left(Full::default()),
    }
}

enum Feed {
    Parts(Vec<Bytes>, Duration),
    Filler(u64),
    BrokenOff(Bytes),
}

impl Feed {
    /// Ends early when the client is gone.
    async fn run(self, mut sender: Sender<Bytes, BrokenOff>) {
        match self {
            Self::Parts(parts, pause) => {
                for (index, part) in parts.into_iter().enumerate() {
                    if index > 0 {
                        tokio::time::sleep(pause).await;
                    }
                    if sender.send_data(part).await.is_err() {
                        return;
                    }
                }
            }
            Self::Filler(mut left) => {
                while left > 0 {
                    let length = left.min(FILLER.len() as u64);
                    left -= length;
                    let chunk = Bytes::from_static(&FILLER[..usize::try_from(length).unwrap_or(0)]);
                    if sender.send_data(chunk).await.is_err() {
                        return;
                    }
                }
            }
            Self::BrokenOff(sent) => {
                if sender.send_data(sent).await.is_ok() {
                    // The part has to be on its way before the connection is cut, or nothing would arrive.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                sender.abort(BrokenOff);
            }
        }
    }
}
