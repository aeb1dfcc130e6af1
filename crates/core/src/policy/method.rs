//! Methods that no route allows, and names of header fields.

use super::{RequestFacts, overrides};

/// Methods whose answer is the request as it arrived: the credential that was injected into it would come
/// back in a body (RFC 9110 section 9.3.8; TRACK is the same on IIS). Some servers do not mind the case.
const REFLECTING: [&str; 2] = ["TRACE", "TRACK"];

/// Whether a server, or a proxy on the way to it, would answer with the request itself.
pub(super) fn reflects(request: &RequestFacts<'_>) -> bool {
    let overrides = overrides::methods(request);
    let is = |method: &str| {
        request.method.eq_ignore_ascii_case(method) || overrides.iter().any(|named| named == method)
    };
    if REFLECTING.into_iter().any(is) {
        return true;
    }
    // With `Max-Forwards` a proxy on the way answers in the server's place (RFC 9110 section 7.6.2), and some
    // with the request.
    let mut is_limited = false;
    request.headers.each_value("max-forwards", &mut |_| is_limited = true);
    is_limited && is("OPTIONS")
}

/// Whether a server may take two fields for one. Applications behind CGI and its successors are handed
/// `X-Mode` and `X_Mode` under the same name (RFC 3875 section 4.1.18).
#[must_use]
pub fn same_field(one: &str, other: &str) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    one.len() == other.len() && one.bytes().zip(other.bytes()).all(|(one, other)| plain(one) == plain(other))
}
