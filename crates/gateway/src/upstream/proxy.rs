//! A connection to an upstream through the operator's own proxy (`egress.upstream_proxy`): a tunnel by CONNECT (RFC
//! 9110 section 9.3.6).
//!
//! The proxy resolves the name. A gateway in such a network often cannot, so that it cannot check either whether the
//! name leads to a private address.

use std::{collections::BTreeMap, fmt, io, net::SocketAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use bot_bottle_core::{
    gateway_config::UpstreamConfig,
    host::{Host, HostName},
    secret::SecretRef,
    upstream_proxy::{ProxyLogin, ProxyUrl},
};
use http::StatusCode;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use zeroize::Zeroizing;

use super::{Upstream, UpstreamError, dial};
use crate::{
    host_port::Origin,
    limits::{MAX_PROXY_HEAD_BYTES, PROXY_ANSWER_TIMEOUT},
};

/// The operator's proxy. Shows no login in debug output.
pub(crate) struct Proxy {
    url: ProxyUrl,
    authorization: Option<Zeroizing<String>>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.url)
    }
}

/// The login at the proxy cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProxyLoginError {
    /// The password was not handed over.
    #[error("the upstream proxy needs the secret {0}, and nobody gave it")]
    Missing(SecretRef),
    /// It has characters that RFC 7617 section 2 forbids.
    #[error("the secret {0}, the password for the upstream proxy, is empty or has a control character")]
    Unusable(SecretRef),
}

/// No tunnel. Nothing here quotes what the proxy wrote.
#[derive(Debug, Error)]
pub(crate) enum ProxyError {
    #[error("the proxy's name does not resolve (search domains are not tried)")]
    Unresolvable,
    #[error("no connection to the proxy: {0}")]
    Unreachable(io::Error),
    #[error("the proxy cannot be connected to in time")]
    TooSlowToConnect,
    #[error("the proxy has not answered in {} seconds", PROXY_ANSWER_TIMEOUT.as_secs())]
    TooSlowToAnswer,
    #[error("the connection to the proxy broke off: {0}")]
    Broken(io::Error),
    #[error("the proxy answered with something that is not HTTP")]
    NotHttp,
    #[error("the head of the proxy's answer has more than {MAX_PROXY_HEAD_BYTES} bytes")]
    HeadTooLong,
    #[error("the proxy does not accept the login, or wants one (407); it offers: {0}")]
    Login(String),
    #[error("the proxy answered {0}")]
    Refused(StatusCode),
}

impl Proxy {
    /// The proxy of this configuration, with the password that its login names.
    pub(crate) fn new(
        config: &UpstreamConfig,
        secrets: &BTreeMap<SecretRef, Zeroizing<String>>,
    ) -> Result<Option<Self>, ProxyLoginError> {
        let Some(proxy) = &config.proxy else { return Ok(None) };
        let authorization = proxy.login.as_ref().map(|login| basic(login, secrets)).transpose()?;
        Ok(Some(Self { url: proxy.url.clone(), authorization }))
    }

    /// Whether this is the proxy's own name and port.
    fn is_at(&self, origin: &Origin) -> bool {
        self.url.host().name() == Some(&origin.host) && self.url.port() == origin.port
    }

    /// Where the proxy may be connected to. The operator named it: it may be at any address.
    async fn addresses(&self, upstream: &Upstream) -> Result<Vec<SocketAddr>, ProxyError> {
        let at = |address| SocketAddr::new(address, self.url.port());
        match self.url.host() {
            Host::Address(address) => Ok(vec![at(*address)]),
            Host::Name(name) => match upstream.config.fixed_address(name) {
                Some(fixed) => {
                    Ok(vec![SocketAddr::new(fixed.address, fixed.port.unwrap_or(self.url.port()))])
                }
                None => {
                    let found = dial::lookup(upstream, name).await;
                    Ok(dial::in_order(found.map_err(|_| ProxyError::Unresolvable)?, self.url.port()))
                }
            },
        }
    }

    /// Whether one of these addresses, all of one port, is the proxy's: a bottle that reached it as a host could ask it
    /// for anything.
    pub(super) async fn is_among(
        &self,
        addresses: &[SocketAddr],
        upstream: &Upstream,
    ) -> Result<bool, UpstreamError> {
        if addresses.iter().all(|address| address.port() != self.url.port()) {
            return Ok(false);
        }
        let own = self.addresses(upstream).await?;
        Ok(addresses.iter().any(|address| own.contains(address)))
    }
}

fn basic(
    login: &ProxyLogin,
    secrets: &BTreeMap<SecretRef, Zeroizing<String>>,
) -> Result<Zeroizing<String>, ProxyLoginError> {
    let password = match &login.password_ref {
        None => "",
        Some(reference) => {
            let missing = || ProxyLoginError::Missing(reference.clone());
            let password = secrets.get(reference).ok_or_else(missing)?.as_str();
            if password.is_empty() || password.contains(char::is_control) {
                return Err(ProxyLoginError::Unusable(reference.clone()));
            }
            password
        }
    };
    let pair = Zeroizing::new(format!("{}:{password}", login.username));
    let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
    Ok(Zeroizing::new(format!("Basic {}", encoded.as_str())))
}

/// Makes a tunnel to an upstream. What its other end says is the upstream's from the first byte on.
pub(super) async fn tunnel(
    upstream: &Upstream,
    proxy: &Proxy,
    origin: &Origin,
) -> Result<TcpStream, UpstreamError> {
    if proxy.is_at(origin) || is_local(&origin.host) {
        return Err(UpstreamError::NotPublic);
    }
    let tunnel = async {
        let addresses = proxy.addresses(upstream).await?;
        let mut stream = dial::connect(&addresses).await.map_err(|error| match error {
            UpstreamError::Unreachable(error) => ProxyError::Unreachable(error),
            _ => ProxyError::TooSlowToConnect,
        })?;
        let asked = timeout(PROXY_ANSWER_TIMEOUT, ask(&mut stream, proxy, origin)).await;
        asked.map_err(|_| ProxyError::TooSlowToAnswer)??;
        Ok(stream)
    };
    tunnel.await.map_err(|error: ProxyError| {
        let Origin { host, port, .. } = origin;
        tracing::warn!(proxy = %proxy.url, to = %format_args!("{host}:{port}"), %error, "the upstream proxy failed");
        UpstreamError::Proxy(error)
    })
}

/// A name that means the proxy's own machine to the proxy (RFC 6761 section 6.3).
fn is_local(host: &HostName) -> bool {
    host.as_str() == "localhost" || host.as_str().ends_with(".localhost")
}

async fn ask(stream: &mut TcpStream, proxy: &Proxy, origin: &Origin) -> Result<(), ProxyError> {
    let target = format!("{}:{}", origin.host, origin.port);
    let mut request = Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes());
    if let Some(value) = &proxy.authorization {
        // Its final size: a buffer that grows leaves copies of the value behind.
        let line = Zeroizing::new([b"Proxy-Authorization: ", value.as_bytes(), b"\r\n"].concat());
        request = Zeroizing::new([request.as_slice(), &line].concat());
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await.map_err(ProxyError::Broken)?;
    let mut left = MAX_PROXY_HEAD_BYTES;
    loop {
        let head = read_head(stream, &mut left).await?;
        match answer(&head)? {
            Answer::Interim => {}
            Answer::Tunnel => return Ok(()),
        }
    }
}

enum Answer {
    /// 1xx: another one follows.
    Interim,
    Tunnel,
}

/// Reads one head, and no byte of what is behind it.
async fn read_head(stream: &mut TcpStream, left: &mut usize) -> Result<Vec<u8>, ProxyError> {
    const END: &[u8] = b"\r\n\r\n";
    const START: &[u8] = b"HTTP/1.";
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let room = buffer.len().min(*left);
        if room == 0 {
            return Err(ProxyError::HeadTooLong);
        }
        // What is behind the head stays where it is, for the tunnel.
        let peeked = stream.peek(&mut buffer[..room]).await.map_err(ProxyError::Broken)?;
        if peeked == 0 {
            return Err(ProxyError::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        let before = head.len();
        head.extend_from_slice(&buffer[..peeked]);
        let from = before.saturating_sub(END.len() - 1);
        let end = head[from..].windows(END.len()).position(|four| four == END);
        if let Some(at) = end {
            head.truncate(from + at + END.len());
        }
        let taken = head.len() - before;
        stream.read_exact(&mut buffer[..taken]).await.map_err(ProxyError::Broken)?;
        *left -= taken;
        let compared = head.len().min(START.len());
        if head[..compared] != START[..compared] {
            return Err(ProxyError::NotHttp);
        }
        if end.is_some() {
            return Ok(head);
        }
    }
}

fn answer(head: &[u8]) -> Result<Answer, ProxyError> {
    const MAX_FIELDS: usize = 64;
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(ProxyError::HeadTooLong),
        Ok(_) | Err(_) => return Err(ProxyError::NotHttp),
    }
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(ProxyError::NotHttp)?;
    match status {
        StatusCode::SWITCHING_PROTOCOLS => Err(ProxyError::NotHttp),
        _ if status.is_informational() => Ok(Answer::Interim),
        // Whatever its Content-Length says: there is no body (RFC 9110 section 9.3.6).
        _ if status.is_success() => Ok(Answer::Tunnel),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(ProxyError::Login(schemes(response.headers))),
        _ => Err(ProxyError::Refused(status)),
    }
}

/// The names of the authentication schemes that the proxy offers, as far as they are words.
fn schemes(fields: &[httparse::Header<'_>]) -> String {
    const MOST: usize = 4;
    const LONGEST: usize = 16;
    let offers = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("proxy-authenticate"));
    let words = offers.map(|field| field.value.split(|byte| *byte == b' ').next().unwrap_or_default());
    let is_word = |word: &&[u8]| {
        (1..=LONGEST).contains(&word.len())
            && word.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    let named: Vec<_> = words.filter(is_word).take(MOST).map(String::from_utf8_lossy).collect();
    if named.is_empty() { "nothing".to_owned() } else { named.join(", ") }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn outcome(head: &str) -> String {
        match answer(head.as_bytes()) {
            Ok(Answer::Tunnel) => "tunnel".to_owned(),
            Ok(Answer::Interim) => "interim".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn only_a_success_is_a_tunnel() {
        for head in [
            "HTTP/1.1 200 Connection established\r\n\r\n",
            "HTTP/1.0 200\r\nProxy-Agent: x\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert_eq!(outcome(head), "tunnel", "{head}");
        }
        assert_eq!(outcome("HTTP/1.1 100 Continue\r\n\r\n"), "interim");
        for head in ["HTTP/1.1 101 Switching\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 abc\r\n\r\n"] {
            assert_eq!(outcome(head), ProxyError::NotHttp.to_string(), "{head}");
        }
        assert_eq!(outcome("HTTP/1.1 302 Found\r\n\r\n"), "the proxy answered 302 Found");
    }

    #[test]
    fn a_refused_login_names_what_is_offered_and_quotes_nothing_else() {
        let head = "HTTP/1.1 407 no\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\
                    proxy-authenticate: Basic realm=\"bWU6c2VjcmV0\"\r\nProxy-Authenticate: !x\r\n\r\n";
        let told = outcome(head);
        assert!(told.ends_with("it offers: Negotiate, NTLM, Basic"), "{told}");
    }

    /// What a head is read from, and what is left of it: every way in which the bytes can come.
    #[tokio::test]
    async fn no_byte_behind_the_head_is_taken() {
        let (head, rest) = ("HTTP/1.1 200 OK\r\nA: b\r\n\r\n", "\r\n\r\nthe tunnel's own\r\n\r\n");
        let whole = format!("{head}{rest}");
        for cut in 1..whole.len() {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
            let client = TcpStream::connect(listener.local_addr().expect("an address"));
            let (client, accepted) = tokio::join!(client, listener.accept());
            let (mut client, (mut server, _)) = (client.expect("connected"), accepted.expect("accepted"));
            server.write_all(&whole.as_bytes()[..cut]).await.expect("written");
            let mut left = MAX_PROXY_HEAD_BYTES;
            let (read, ()) = tokio::join!(read_head(&mut client, &mut left), async {
                tokio::task::yield_now().await;
                server.write_all(&whole.as_bytes()[cut..]).await.expect("written");
                server.shutdown().await.expect("shut down");
            });
            assert_eq!(read.expect("a head"), head.as_bytes(), "cut at {cut}");
            let mut tunnel = String::new();
            client.read_to_string(&mut tunnel).await.expect("the rest");
            assert_eq!(tunnel, rest, "cut at {cut}");
            assert_eq!(left, MAX_PROXY_HEAD_BYTES - head.len());
        }
    }

    #[test]
    fn a_login_shows_nothing_of_itself() {
        let login = ProxyLogin { username: "me".into(), password_ref: Some(SecretRef::new("PASSWORD")) };
        let with = |value: &str| {
            let secrets = [(SecretRef::new("PASSWORD"), Zeroizing::new(value.to_owned()))].into();
            basic(&login, &secrets)
        };
        let value = with("open sesame").expect("a login");
        // RFC 7617 section 2, by hand: base64("me:open sesame").
        assert_eq!(value.as_str(), "Basic bWU6b3BlbiBzZXNhbWU=");
        let url = "http://proxy.test:3128".parse().expect("a URL");
        let shown = format!("{:?}", Proxy { url, authorization: Some(value) });
        assert_eq!(shown, "Proxy(http://proxy.test:3128)");
        let unusable = ProxyLoginError::Unusable(SecretRef::new("PASSWORD"));
        for value in ["", "two\nlines", "a\0b"] {
            assert_eq!(with(value).as_ref(), Err(&unusable), "{value:?}");
        }
        let missing = ProxyLoginError::Missing(SecretRef::new("PASSWORD"));
        assert_eq!(basic(&login, &BTreeMap::new()), Err(missing));
    }
}
