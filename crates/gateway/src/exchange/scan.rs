//! Looks at content, before the first byte of the request leaves and as the rest passes.

use std::{collections::VecDeque, sync::Arc};

use bot_bottle_core::{
    decision::{DecidedBy, Decision, Reason},
    policy::{BodyCheck, refusal_of_large_file_batch},
};
use http::{header, request::Parts};

use super::{
    Exchange,
    body::Inspect,
    facts::{RequestHeaders, facts},
    normalise::Destination,
    refuse::Refusal,
};
use crate::{
    limits::{MAX_FORM_FIELD, SCAN_WINDOW},
    state::ActivePolicy,
};

/// Refuses a request for what is in its body, or has the rest of the body looked at as it passes. Bodies on
/// which no decision depends are not waited for.
pub(super) async fn scan(
    policy: &Arc<ActivePolicy>,
    exchange: &mut Exchange,
    destination: &Destination,
    decision: &Decision,
) -> Result<(), Refusal> {
    let headers = RequestHeaders(&exchange.parts.headers);
    let Some(check) = policy.policy.body_check(&facts(&exchange.parts, destination, &headers)) else {
        return Ok(());
    };
    let refuse = |reason| {
        Refusal::from(Decision {
            route: decision.route.clone(),
            ..Decision::refuse(reason, DecidedBy::Policy)
        })
    };
    let reason = match check {
        BodyCheck::LargeFileBatch => Reason::GitPush,
        BodyCheck::Form { .. } => Reason::OverrideNotAllowed,
    };
    // A server may decode the body before it reads it; what is in it cannot be seen here.
    if exchange.parts.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(refuse(reason));
    }
    if let BodyCheck::Form { urlencoded, multipart } = check {
        exchange.body.inspect(Box::new(FormFields {
            policy: Arc::clone(policy),
            parts: exchange.parts.clone(),
            destination: destination.clone(),
            field: urlencoded.then(Piece::default),
            line: multipart.then(Piece::default),
            lines: VecDeque::new(),
        }));
    }
    let is_whole = exchange.body.fill_window(SCAN_WINDOW).await.map_err(|found| match found {
        Some(reason) => refuse(reason),
        // The client broke off.
        None => Refusal::malformed(),
    })?;
    if check == BodyCheck::LargeFileBatch {
        // Clients send a hundred objects in one batch at most, which is a fraction of the window.
        if !is_whole {
            return Err(refuse(Reason::LimitReached));
        }
        if let Some(reason) = refusal_of_large_file_batch(&exchange.body.window()) {
            return Err(refuse(reason));
        }
    }
    Ok(())
}

/// Finds the fields of a form that name another method.
struct FormFields {
    policy: Arc<ActivePolicy>,
    parts: Parts,
    destination: Destination,
    /// Of an urlencoded form.
    field: Option<Piece>,
    /// Of a multipart form.
    line: Option<Piece>,
    /// The lines before: in the middle of a part its name, further header lines and an empty one.
    lines: VecDeque<Vec<u8>>,
}

/// Lines of a multipart body that are kept.
const KEPT_LINES: usize = 6;

/// What is being read, as far as it is not too long to matter.
#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    is_too_long: bool,
}

impl Piece {
    fn push(&mut self, byte: u8) {
        if self.bytes.len() < MAX_FORM_FIELD {
            self.bytes.push(byte);
        } else {
            self.is_too_long = true;
        }
    }

    /// What was read, or nothing if it was too long.
    fn take(&mut self) -> Vec<u8> {
        let Self { bytes, is_too_long } = std::mem::take(self);
        if is_too_long { Vec::new() } else { bytes }
    }
}

impl FormFields {
    fn field_ended(&mut self) -> Result<(), Reason> {
        let Some(field) = self.field.as_mut().map(Piece::take) else { return Ok(()) };
        self.judge(&String::from_utf8_lossy(&field))
    }

    fn line_ended(&mut self) -> Result<(), Reason> {
        let Some(line) = self.line.as_mut().map(Piece::take) else { return Ok(()) };
        for name in self.lines.iter().flat_map(|line| part_names(line)) {
            self.judge(&format!("{name}={}", String::from_utf8_lossy(&line)))?;
        }
        self.lines.push_back(line);
        if self.lines.len() > KEPT_LINES {
            self.lines.pop_front();
        }
        Ok(())
    }

    fn judge(&self, field: &str) -> Result<(), Reason> {
        if !field.contains('=') {
            return Ok(());
        }
        let headers = RequestHeaders(&self.parts.headers);
        let facts = facts(&self.parts, &self.destination, &headers);
        self.policy.policy.refusal_of_form_field(&facts, field).map_or(Ok(()), Err)
    }
}

impl Inspect for FormFields {
    fn data(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        for &byte in bytes {
            let (ends_field, ends_line) = (matches!(byte, b'&' | b';' | b'\n'), byte == b'\n');
            if ends_field {
                self.field_ended()?;
            }
            if ends_line {
                self.line_ended()?;
            }
            if let Some(field) = self.field.as_mut().filter(|_| !ends_field && byte != b'\r') {
                field.push(byte);
            }
            if let Some(line) = self.line.as_mut().filter(|_| !ends_line && byte != b'\r') {
                line.push(byte);
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Reason> {
        self.field_ended()?;
        self.line_ended()
    }
}

/// What may be the name of a part in its `Content-Disposition` (RFC 7578 section 4.2), however it is quoted.
fn part_names(line: &[u8]) -> Vec<String> {
    let line = String::from_utf8_lossy(line).to_ascii_lowercase();
    let Some(parameters) = line.trim_start().strip_prefix("content-disposition") else { return Vec::new() };
    let is_parameter = |at: usize| !parameters[..at].ends_with(|before: char| before.is_ascii_alphanumeric());
    parameters
        .match_indices("name")
        .filter(|(at, _)| is_parameter(*at))
        .map(|(at, name)| {
            let value = parameters[at + name.len()..].trim_start_matches([' ', '*', '=', '"', '\'']);
            value.split(['"', '\'', ';']).next().unwrap_or_default().trim().to_owned()
        })
        .collect()
}
