//! A small blocking HTTP client that can be as wrong as an attempt needs it to be.
//!
//! Libraries that are meant for honest work refuse to send what an attacker sends; here a request is bytes.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use crate::{errno, outcome::Observation, scene::Scene, stage};

mod trust;

pub use trust::{TrustError, trusting_anything, trusting_bundle};

/// How long a connection may take to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an answer may keep silent.
pub const READ_TIMEOUT: Duration = Duration::from_secs(4);

/// The longest answer that is looked at, in bytes.
pub const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// The longest head of an answer to `CONNECT`, in bytes.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// Reasons of the gateway which say that it had allowed the request: it went on to resolve or to dial.
const WENT_ON: [&str; 4] = ["upstream_unreachable", "upstream_tls", "upstream_protocol", "name_unresolvable"];

/// A TLS connection over anything.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Opens a connection to the gateway.
///
/// # Errors
/// An attempt that could not be made: a door that does not answer refuses nothing.
pub fn dial_gateway(scene: &Scene) -> Result<TcpStream, Observation> {
    dial(scene.proxy).map_err(|error| {
        Observation::not_made(format!(
            "the gateway does not answer at {}: {}",
            scene.proxy,
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

/// Sends these bytes to the gateway and judges what comes back.
#[must_use]
pub fn send_to_gateway(scene: &Scene, request: &[u8]) -> Observation {
    match dial_gateway(scene) {
        Ok(mut stream) => exchange(scene, &mut stream, request),
        Err(observation) => observation,
    }
}

/// Asks the gateway for a tunnel.
///
/// # Errors
/// The observation, if there is no tunnel.
pub fn open_tunnel(scene: &Scene, authority: &str) -> Result<TcpStream, Observation> {
    let mut stream = dial_gateway(scene)?;
    let request =
        format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nX-Attempt: {}\r\n\r\n", scene.tag());
    exchange_head(scene, &mut stream, request.as_bytes())?;
    Ok(stream)
}

/// Writes a request for a tunnel; nothing after the head of the answer is read.
///
/// # Errors
/// The observation, if there is no tunnel.
pub fn exchange_head(scene: &Scene, stream: &mut TcpStream, request: &[u8]) -> Result<(), Observation> {
    match stream.write_all(request).and_then(|()| read_head(stream)) {
        Err(error) => Err(Observation::refused(format!("the tunnel was closed: {}", errno::name(&error)))),
        Ok(head) if status_of(&head) == Some(200) => Ok(()),
        Ok(mut head) => {
            // The rest of a refusal: its body has the reason.
            read_answer(stream, &mut head);
            Err(judge(scene, &head))
        }
    }
}

/// Asks for a tunnel, and sends a request through it over TLS with this server name (`None`: without one).
#[must_use]
pub fn through_tls_tunnel(
    scene: &Scene,
    authority: &str,
    server_name: Option<&str>,
    request: &[u8],
) -> Observation {
    let stream = match open_tunnel(scene, authority) {
        Ok(stream) => stream,
        Err(observation) => return observation,
    };
    match start_tls(stream, server_name, trusting_anything()) {
        Ok(mut tls) => exchange(scene, &mut tls, request),
        Err(error) => Observation::refused(format!("TLS was refused: {error}")),
    }
}

/// Asks for a tunnel, and sends bytes through it as they are.
#[must_use]
pub fn through_plain_tunnel(scene: &Scene, authority: &str, request: &[u8]) -> Observation {
    match open_tunnel(scene, authority) {
        Ok(mut stream) => exchange(scene, &mut stream, request),
        Err(observation) => observation,
    }
}

/// Every ordinary way to ask the gateway for one host: absolute-form, TLS in a tunnel, plain HTTP in a tunnel.
#[must_use]
pub fn ask_for(scene: &Scene, host: &str, port: u16) -> Observation {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let authority = format!("{host}:{port}");
    let request = get(scene, &authority, "/");
    Observation::all([
        send_to_gateway(scene, &get(scene, &authority, &format!("http://{authority}/"))),
        through_tls_tunnel(scene, &authority, Some(bare), &request),
        through_plain_tunnel(scene, &authority, &request),
    ])
}

/// A plain request for `target` with this `Host`.
#[must_use]
pub fn get(scene: &Scene, host: &str, target: &str) -> Vec<u8> {
    request(scene, "GET", host, target, "", b"")
}

/// A request with further headers (each ending in CR LF) and a body, whose length is told if there is one.
#[must_use]
pub fn request(scene: &Scene, method: &str, host: &str, target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let mut bytes = format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nX-Attempt: {}\r\nConnection: close\r\n{length}{headers}\r\n",
        scene.tag()
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
    // An address as server name sends none (RFC 6066 section 3); so does what cannot be one at all.
    let name = server_name
        .and_then(|name| ServerName::try_from(name.to_owned()).ok())
        .unwrap_or_else(|| ServerName::from(std::net::IpAddr::from([192, 0, 2, 1])));
    let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// Writes a request and judges what comes back.
pub fn exchange(scene: &Scene, stream: &mut (impl Read + Write), request: &[u8]) -> Observation {
    if let Err(error) = stream.write_all(request).and_then(|()| stream.flush()) {
        return Observation::refused(format!("closed while asking: {}", errno::name(&error)));
    }
    let mut answer = Vec::new();
    read_answer(stream, &mut answer);
    judge(scene, &answer)
}

/// What an answer means.
#[must_use]
pub fn judge(scene: &Scene, answer: &[u8]) -> Observation {
    let text = String::from_utf8_lossy(answer);
    if text.contains(&scene.mark) {
        return Observation::reached("a recorder answered");
    }
    if answer.is_empty() {
        return Observation::refused("closed without an answer");
    }
    let Some(status) = status_of(answer) else {
        return Observation::reached(format!("an answer that is not the gateway's: {}", excerpt(&text)));
    };
    if text.contains(stage::ALLOWED_HEADER) {
        return Observation::refused("only what a route allows came through");
    }
    match reason_of(&text) {
        // To a host that a route names it may go on; what it may not is let through what is hidden in it, and
        // of that a recorder would have told.
        Some(reason) if WENT_ON.contains(&reason) && !names_a_route(scene, &text) => {
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

/// Reads until the answer is complete, the other side closes, or it keeps silent.
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
    // One byte at a time, so that nothing of what follows the head is taken.
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

fn names_a_route(scene: &Scene, text: &str) -> bool {
    let host = text.split_once(r#""host""#).and_then(|(_, rest)| rest.split('"').nth(1));
    host.is_some_and(|host| host == scene.allowed_host || host == scene.open_host)
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
