//! Looks at content, before the first byte of the request leaves and as the rest passes.

use std::sync::Arc;

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
    limits::{MAX_FORM_FIELD, MAX_PART_HEADER, SCAN_WINDOW},
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
            field: urlencoded.then(|| Piece::new(MAX_FORM_FIELD)),
            line: multipart.then(|| Piece::new(MAX_PART_HEADER)),
            previous: String::new(),
            named: None,
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
    /// The line before, if the next one may continue it.
    previous: String,
    /// The name of the part that is being read, if it is one that names a method.
    named: Option<String>,
}

/// What is being read, as far as it is not too long to matter.
struct Piece {
    bytes: Vec<u8>,
    limit: usize,
    is_too_long: bool,
}

impl Piece {
    fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, is_too_long: false }
    }

    fn push(&mut self, byte: u8) {
        if self.bytes.len() >= self.limit && !self.is_too_long {
            self.drop_blanks();
        }
        if self.bytes.len() < self.limit {
            self.bytes.push(byte);
        } else {
            self.is_too_long = true;
        }
    }

    /// What was read. Where more came than fits, a character that no method has stands for the rest.
    fn take(&mut self) -> String {
        let Self { bytes, is_too_long, .. } = std::mem::replace(self, Self::new(self.limit));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if is_too_long { text + "…" } else { text }
    }

    /// Drops the blanks at the front, so that no number of them pushes a name out of sight.
    fn drop_blanks(&mut self) {
        const BLANKS: [&[u8]; 9] = [b"+", b" ", b"\t", b"%20", b"%09", b"%0a", b"%0b", b"%0c", b"%0d"];
        let mut rest = self.bytes.as_slice();
        let blank_at = |rest: &[u8]| {
            let starts = |blank: &&&[u8]| {
                rest.get(..blank.len()).is_some_and(|start| start.eq_ignore_ascii_case(blank))
            };
            BLANKS.iter().find(starts).map(|blank| blank.len())
        };
        while let Some(length) = blank_at(rest) {
            rest = &rest[length..];
        }
        self.bytes = rest.to_vec();
    }
}

impl FormFields {
    fn field_ended(&mut self) -> Result<(), Reason> {
        let Some(field) = self.field.as_mut().map(Piece::take) else { return Ok(()) };
        self.judge(&field)
    }

    fn line_ended(&mut self) -> Result<(), Reason> {
        let Some(mut line) = self.line.as_mut().map(Piece::take) else { return Ok(()) };
        if line.starts_with("--") {
            // A boundary, or content that begins like one: no method does.
            self.named = None;
        } else if let Some(name) = &self.named {
            self.judge(&format!("{name}={line}"))?;
        }
        // Servers read a header that goes on in the next line (RFC 5322 section 2.2.3).
        if line.starts_with([' ', '\t']) {
            line.insert_str(0, &self.previous);
        }
        // The name could stand behind what was read of it.
        if line.len() > MAX_PART_HEADER && disposition(&line).is_some() && self.names_a_method("_method") {
            return Err(Reason::OverrideNotAllowed);
        }
        line.truncate(line.floor_char_boundary(MAX_PART_HEADER));
        if let Some(name) = part_names(&line).into_iter().find(|name| self.names_a_method(name)) {
            self.named = Some(name);
        }
        self.previous = line;
        Ok(())
    }

    /// Whether a field of this name may name a method: then it may not name one that there is not.
    fn names_a_method(&self, name: &str) -> bool {
        self.judge(&format!("{name}=…")).is_err()
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

/// What follows the name of the header that names a part, in a line that may be one.
fn disposition(line: &str) -> Option<&str> {
    const NAME: &str = "content-disposition";
    let (name, parameters) = line.trim_start().split_at_checked(NAME.len())?;
    name.eq_ignore_ascii_case(NAME).then_some(parameters)
}

/// What may be the name of a part in its `Content-Disposition` (RFC 7578 section 4.2), however it is quoted.
fn part_names(line: &str) -> Vec<String> {
    let line = line.to_ascii_lowercase();
    let Some(parameters) = disposition(&line) else { return Vec::new() };
    let is_parameter = |at: usize| !parameters[..at].ends_with(|before: char| before.is_ascii_alphanumeric());
    parameters
        .match_indices("name")
        .filter(|(at, _)| is_parameter(*at))
        .map(|(at, name)| {
            let value = parameters[at + name.len()..].trim_start_matches([' ', '*', '=', '"', '\'']);
            // `name*=utf-8''a` (RFC 8187).
            let value = value.split_once("''").map_or(value, |(_, value)| value);
            value.split(['"', '\'', ';']).next().unwrap_or_default().trim().to_owned()
        })
        .collect()
}
