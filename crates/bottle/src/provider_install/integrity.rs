//! Subresource integrity (<https://www.w3.org/TR/SRI/>), computed while the archive is read.

use std::{
    fmt,
    io::{self, Read},
};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};

use super::InstallError;

/// The SHA-512 of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Integrity(Vec<u8>);

/// A reader that hashes and counts the bytes.
pub(super) struct Checked<'a> {
    reader: Box<dyn Read>,
    context: digest::Context,
    received: u64,
    limit: u64,
    report: &'a mut dyn FnMut(u64),
    reported: u64,
    failed: Option<(io::ErrorKind, String)>,
}

/// Progress is reported after this many bytes.
const REPORT_BYTES: u64 = 1 << 20;

impl Integrity {
    pub(super) fn parse(written: &str) -> Result<Self, InstallError> {
        written
            .strip_prefix("sha512-")
            .and_then(|hash| STANDARD.decode(hash).ok())
            .filter(|hash| hash.len() == digest::SHA512_OUTPUT_LEN)
            .map(Self)
            .ok_or_else(|| InstallError::Pin(written.to_owned()))
    }
}

impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha512-{}", STANDARD.encode(&self.0))
    }
}

impl<'a> Checked<'a> {
    /// Fails as soon as more than `limit` bytes have come.
    pub(super) fn new(reader: Box<dyn Read>, limit: u64, report: &'a mut dyn FnMut(u64)) -> Self {
        Self {
            reader,
            context: digest::Context::new(&digest::SHA512),
            received: 0,
            limit,
            report,
            reported: 0,
            failed: None,
        }
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// The integrity of all that was read.
    pub(super) fn finish(self) -> Integrity {
        (self.report)(self.received);
        Integrity(self.context.finish().as_ref().to_vec())
    }
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // After an error a reader may report the end, so keep the error.
        if let Some((kind, message)) = &self.failed {
            return Err(io::Error::new(*kind, message.clone()));
        }
        if self.received > self.limit {
            return Err(io::Error::other("too much"));
        }
        let length = self.reader.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.failed = Some((error.kind(), error.to_string()));
            }
        })?;
        self.context.update(&buffer[..length]);
        self.received += length as u64;
        if self.received - self.reported >= REPORT_BYTES {
            self.reported = self.received;
            (self.report)(self.received);
        }
        Ok(length)
    }
}
