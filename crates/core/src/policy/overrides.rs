//! Methods and paths that a request names besides its request line, and that some servers obey instead.

use super::{RequestFacts, parameter::is_read_as, same_field};

/// Rails, Laravel, Symfony, Express and the APIs of Google and Microsoft read one or another of these.
const METHOD_HEADERS: [&str; 4] =
    ["x-http-method-override", "x-http-method", "x-method-override", "x-original-method"];

/// The same in a query.
const METHOD_PARAMETERS: [&str; 6] =
    ["_method", "$method", "_httpmethod", "x-http-method-override", "x-http-method", "x-method-override"];

/// IIS, Symfony and Zend read the first three, ingress controllers and what is behind them the others.
const PATH_HEADERS: [&str; 7] = [
    "x-original-url",
    "x-rewrite-url",
    "x-original-uri",
    "x-forwarded-uri",
    "x-forwarded-path",
    "x-forwarded-prefix",
    "x-envoy-original-path",
];

/// Whether a server may obey a field of this name instead of the request line.
#[must_use]
pub fn is_override(name: &str) -> bool {
    METHOD_HEADERS.iter().chain(&PATH_HEADERS).chain(&DESTINATIONS).any(|known| same_field(known, name))
}

/// What WebDAV moves and copies to (RFC 4918 section 10.3).
const DESTINATIONS: [&str; 1] = ["destination"];

/// As often some server decodes a target.
pub(super) const DECODINGS: usize = 3;

/// Methods in upper case, from headers and the query.
pub(super) fn methods(request: &RequestFacts<'_>) -> Vec<String> {
    let mut methods = values_of(&METHOD_HEADERS, request);
    for reading in decodings(request.query.unwrap_or_default()) {
        methods.extend(reading.split(['&', ';', '?']).filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            is_method_parameter(name).then(|| value.to_owned())
        }));
    }
    methods
        .iter()
        .map(|method| method.trim().to_ascii_uppercase())
        .filter(|method| !method.is_empty())
        .collect()
}

/// Whether a server may take a parameter of this name, which is decoded, for one that names a method.
pub(super) fn is_method_parameter(name: &str) -> bool {
    METHOD_PARAMETERS.iter().any(|known| is_read_as(known, name))
}

/// Targets from headers, with their queries; of a URL, what follows its authority.
pub(super) fn targets(request: &RequestFacts<'_>) -> Vec<String> {
    values_of(&PATH_HEADERS, request).iter().map(|value| target_of(value)).collect()
}

/// The same without their queries.
pub(super) fn paths(request: &RequestFacts<'_>) -> Vec<String> {
    let path = |target: &String| target.split(['?', '#']).next().unwrap_or_default().to_owned();
    targets(request).iter().map(path).collect()
}

/// What WebDAV moves and copies to.
pub(super) fn destinations(request: &RequestFacts<'_>) -> Vec<String> {
    values_of(&DESTINATIONS, request)
}

fn target_of(value: &str) -> String {
    let value = value.trim();
    match value.split_once("://").map(|(_, rest)| rest.split_once('/')) {
        Some(Some((_, path))) => format!("/{path}"),
        Some(None) => "/".to_owned(),
        None if value.starts_with('/') => value.to_owned(),
        None => format!("/{value}"),
    }
}

/// What the fields of these names say.
pub(super) fn values_of(names: &[&str], request: &RequestFacts<'_>) -> Vec<String> {
    let mut values = Vec::new();
    for name in names {
        request
            .headers
            .each_value(name, &mut |value| values.push(String::from_utf8_lossy(value).into_owned()));
    }
    values
}

/// A text as it is, and as it is after each decoding that changes it.
pub(super) fn decodings(text: &str) -> Vec<String> {
    let mut readings = vec![text.to_owned()];
    for _ in 0..DECODINGS {
        match readings.last().map(|last| decoded(last)) {
            Some(decoded) if Some(&decoded) != readings.last() => readings.push(decoded),
            _ => break,
        }
    }
    readings
}

/// A text with its escapes decoded once: `%41`, and IIS's `%u0041`. What is none stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let number = |digits: Option<&[u8]>| {
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    while let Some((&first, after)) = rest.split_first() {
        let escape = match (first, after.first()) {
            (b'%', Some(b'u' | b'U')) => number(after.get(1..5)).map(|number| (number, 5)),
            (b'%', _) => number(after.get(..2)).map(|number| (number, 2)),
            _ => None,
        };
        match escape {
            Some((number, length)) => {
                // Names in protocols are ASCII: for what is not, any border between them will do.
                bytes.push(u8::try_from(number).ok().filter(u8::is_ascii).unwrap_or(b'?'));
                rest = &after[length..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
