//! A small blocking HTTP client that sends malformed requests where an attempt needs them.
//!
//! HTTP libraries refuse to send an attacker's requests; here a request is bytes.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use crate::{canaries, context::Context, errno, outcome::Observation};

mod trust;

pub use trust::{TrustError, trusting_anything, trusting_bundle};

/// The time limit for connecting.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest silence while a response is read.
pub const READ_TIMEOUT: Duration = Duration::from_secs(4);

/// The longest response that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// The longest head of an answer to `CONNECT`, in bytes.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// Reasons that the gateway gives only after it has allowed a request: resolving or dialling failed.
const AFTER_ALLOWING: [&str; 4] =
    ["upstream_unreachable", "upstream_tls", "upstream_protocol", "name_unresolvable"];

/// A TLS connection over anything.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Opens a connection to the gateway.
///
/// # Errors
/// Inconclusive: a gateway that does not accept connections has not refused the attempt.
pub fn dial_gateway(context: &Context) -> Result<TcpStream, Observation> {
    dial(context.proxy).map_err(|error| {
        Observation::inconclusive(format!(
            "the gateway does not answer at {}: {}",
            context.proxy,
            errno::name(&error)
        ))
    })
}

/// Opens a connection with the time-outs of this client.
///
/// # Errors
/// Those of `connect(2)`.
pub fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    stream.set_write_timeout(Some(READ_TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends these bytes to the gateway and judges the response.
#[must_use]
pub fn send_to_gateway(context: &Context, request: &[u8]) -> Observation {
    match dial_gateway(context) {
        Ok(mut stream) => exchange(context, &mut stream, request),
        Err(observation) => observation,
    }
}

/// Asks the gateway for a tunnel.
///
/// # Errors
/// The observation, if there is no tunnel.
pub fn open_tunnel(context: &Context, authority: &str) -> Result<TcpStream, Observation> {
    let mut stream = dial_gateway(context)?;
    let request =
        format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nX-Attempt: {}\r\n\r\n", context.tag());
    exchange_head(context, &mut stream, request.as_bytes())?;
    Ok(stream)
}

/// Writes a request for a tunnel; nothing after the head of the answer is read.
///
/// # Errors
/// The observation, if there is no tunnel.
pub fn exchange_head(context: &Context, stream: &mut TcpStream, request: &[u8]) -> Result<(), Observation> {
    match stream.write_all(request).and_then(|()| read_head(stream)) {
        Err(error) => Err(Observation::refused(format!("the tunnel was closed: {}", errno::name(&error)))),
        Ok(head) if status_of(&head) == Some(200) => Ok(()),
        Ok(mut head) => {
            // Read the body of the refusal, which has the reason.
            read_answer(stream, &mut head);
            Err(judge(context, &head))
        }
    }
}

/// Asks for a tunnel, and sends a request through it over TLS with this server name (`None`: without one).
#[must_use]
pub fn through_tls_tunnel(
    context: &Context,
    authority: &str,
    server_name: Option<&str>,
    request: &[u8],
) -> Observation {
    let stream = match open_tunnel(context, authority) {
        Ok(stream) => stream,
        Err(observation) => return observation,
    };
    match start_tls(stream, server_name, trusting_anything()) {
        Ok(mut tls) => exchange(context, &mut tls, request),
        Err(error) => Observation::refused(format!("TLS was refused: {error}")),
    }
}

/// Asks for a tunnel, and sends bytes through it as they are.
#[must_use]
pub fn through_plain_tunnel(context: &Context, authority: &str, request: &[u8]) -> Observation {
    match open_tunnel(context, authority) {
        Ok(mut stream) => exchange(context, &mut stream, request),
        Err(observation) => observation,
    }
}

/// Every ordinary way to ask the gateway for one host: absolute-form, TLS in a tunnel, plain HTTP in a
/// tunnel.
#[must_use]
pub fn ask_for(context: &Context, host: &str, port: u16) -> Observation {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let authority = format!("{host}:{port}");
    let request = get(context, &authority, "/");
    Observation::all([
        send_to_gateway(context, &get(context, &authority, &format!("http://{authority}/"))),
        through_tls_tunnel(context, &authority, Some(bare), &request),
        through_plain_tunnel(context, &authority, &request),
    ])
}

/// A plain request for `target` with this `Host`.
#[must_use]
pub fn get(context: &Context, host: &str, target: &str) -> Vec<u8> {
    request(context, "GET", host, target, "", b"")
}

/// A request with further headers (each ending in CR LF) and a body, whose length is told if there is one.
#[must_use]
pub fn request(
    context: &Context,
    method: &str,
    host: &str,
    target: &str,
    headers: &str,
    body: &[u8],
) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let mut bytes = format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nX-Attempt: {}\r\nConnection: close\r\n{length}{headers}\r\n",
        context.tag()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Starts TLS; the handshake is done when this returns.
///
/// # Errors
/// When the handshake fails.
pub fn start_tls(
    mut stream: TcpStream,
    server_name: Option<&str>,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream> {
    // rustls sends no server name for an IP address (RFC 6066 section 3), so one stands in for "none".
    let name = server_name
        .and_then(|name| ServerName::try_from(name.to_owned()).ok())
        .unwrap_or_else(|| ServerName::from(std::net::IpAddr::from([192, 0, 2, 1])));
    let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// Writes a request and judges the response.
pub fn exchange(context: &Context, stream: &mut (impl Read + Write), request: &[u8]) -> Observation {
    if let Err(error) = stream.write_all(request).and_then(|()| stream.flush()) {
        return Observation::refused(format!("closed while asking: {}", errno::name(&error)));
    }
    let mut answer = Vec::new();
    read_answer(stream, &mut answer);
    judge(context, &answer)
}

/// Judges a response.
#[must_use]
pub fn judge(context: &Context, answer: &[u8]) -> Observation {
    let text = String::from_utf8_lossy(answer);
    if text.contains(&context.mark) {
        return Observation::reached("a recorder answered");
    }
    if answer.is_empty() {
        return Observation::refused("closed without an answer");
    }
    let Some(status) = status_of(answer) else {
        return Observation::reached(format!("an answer that is not the gateway's: {}", excerpt(&text)));
    };
    if text.contains(canaries::ALLOWED_HEADER) {
        return Observation::refused("only what a route allows came through");
    }
    match reason_of(&text) {
        // For a host with a route the gateway may dial; a smuggled request would show as a leak at the canary
        // instead.
        Some(reason) if AFTER_ALLOWING.contains(&reason) && !names_a_route(context, &text) => {
            Observation::reached(format!("the gateway went on to the host: {reason}"))
        }
        Some(reason) if status >= 400 => Observation::refused(format!("{status} {reason}")),
        None if status >= 400 => Observation::refused(status.to_string()),
        _ => Observation::reached(format!("an answer: {}", excerpt(&text))),
    }
}

/// The status of an answer.
#[must_use]
pub fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()
}

/// Reads until the response is complete, the peer closes, or the read times out.
pub fn read_answer(stream: &mut impl Read, answer: &mut Vec<u8>) {
    let mut chunk = [0; 16 * 1024];
    while answer.len() < MAX_ANSWER_BYTES && !is_complete(answer) {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
        }
    }
}

fn read_head(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    // Read one byte at a time: the bytes after the head belong to the tunnel.
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD_BYTES {
        match stream.read(&mut byte)? {
            0 if head.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            0 => break,
            _ => head.push(byte[0]),
        }
    }
    Ok(head)
}

fn is_complete(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let body = &answer[end + 4..];
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    match length.and_then(|length| length.trim().parse::<usize>().ok()) {
        Some(length) => body.len() >= length,
        None => head.contains("transfer-encoding: chunked") && body.ends_with(b"0\r\n\r\n"),
    }
}

fn reason_of(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(r#""reason""#)?;
    rest.split('"').nth(1)
}

fn names_a_route(context: &Context, text: &str) -> bool {
    let host = text.split_once(r#""host""#).and_then(|(_, rest)| rest.split('"').nth(1));
    host.is_some_and(|host| host == context.allowed_host || host == context.open_host)
}

fn excerpt(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_it_says() {
        assert!(!is_complete(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na"));
        assert!(is_complete(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"));
        assert!(is_complete(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"));
        assert!(!is_complete(b"HTTP/1.1 200 OK\r\n\r\nabc"));
        assert_eq!(status_of(b"HTTP/1.1 403 Forbidden\r\n"), Some(403));
        assert_eq!(status_of(b"SSH-2.0-x\r\n"), None);
        assert_eq!(reason_of(r#"{"reason": "no_route","host":"a"}"#), Some("no_route"));
    }
}
