//! Clients, from a raw socket to HTTP/2.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::gateway::TestGateway;

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the gateway's port.
pub(crate) async fn connect(gateway: &TestGateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.address).await.expect("a connection");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

/// A tunnel, whose CONNECT has to be granted.
pub(crate) async fn tunnel(gateway: &TestGateway, target: &str) -> TcpStream {
    let mut stream = connect(gateway).await;
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let answer = read_head(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    stream
}

/// TLS in a tunnel, trusting the bottle's CA alone.
pub(crate) async fn tls(
    gateway: &TestGateway,
    target: &str,
    server_name: &str,
    alpn: &[&[u8]],
) -> TlsStream<TcpStream> {
    tls_on(gateway, tunnel(gateway, target).await, server_name, alpn).await.expect("a handshake")
}

/// TLS on a stream, trusting the bottle's CA alone.
pub(crate) async fn tls_on(
    gateway: &TestGateway,
    stream: TcpStream,
    server_name: &str,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let config = client_config(gateway, alpn);
    let name = ServerName::try_from(server_name.to_owned()).expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// TLS that trusts the bottle's CA alone.
pub(crate) fn client_config(gateway: &TestGateway, alpn: &[&[u8]]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(gateway.ca_pem.as_bytes()).expect("a certificate");
    roots.add(ca).expect("a CA");
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

/// A connection of HTTP/1.1.
pub(crate) struct Http1(http1::SendRequest<Full<Bytes>>);

impl Http1 {
    /// Sends a request as soon as the answer before it has been read: a connection carries one at a time.
    pub(crate) async fn send_request(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        self.0.ready().await?;
        self.0.send_request(request).await
    }
}

/// HTTP/1.1 through TLS in a tunnel to `host:443`.
pub(crate) async fn https1(gateway: &TestGateway, host: &str) -> Http1 {
    http1_on(tls(gateway, &format!("{host}:443"), host, &[b"http/1.1"]).await).await
}

/// HTTP/1.1 on a stream.
pub(crate) async fn http1_on<S>(stream: S) -> Http1
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(stream))
        .await
        .expect("a handshake");
    tokio::spawn(connection.with_upgrades());
    Http1(sender)
}

/// HTTP/2 through TLS in a tunnel to `host:443`.
pub(crate) async fn https2(gateway: &TestGateway, host: &str) -> http2::SendRequest<Full<Bytes>> {
    let stream = tls(gateway, &format!("{host}:443"), host, &[b"h2"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    http2_on(stream).await
}

/// HTTP/2 on a stream.
pub(crate) async fn http2_on<S, B>(stream: S) -> http2::SendRequest<B>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let (sender, connection) =
        http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    sender
}

/// A request of HTTP/1.1 in a tunnel.
pub(crate) fn request(method: &str, host: &str, path: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("Host", host)
        .body(Full::new(body.into()))
        .expect("a request")
}

/// A request of HTTP/2.
pub(crate) fn request2(method: &str, host: &str, path: &str, body: &'static str) -> Request<Full<Bytes>> {
    let uri = format!("https://{host}{path}");
    Request::builder().method(method).uri(uri).body(Full::new(body.into())).expect("a request")
}

/// The whole body as text.
pub(crate) async fn text(response: Response<Incoming>) -> String {
    let body = timeout(PATIENCE, response.into_body().collect()).await.expect("in time").expect("a body");
    String::from_utf8(body.to_bytes().to_vec()).expect("text")
}

/// The body of a refusal.
pub(crate) async fn refusal(response: Response<Incoming>) -> Value {
    assert_eq!(response.headers()["content-type"], "application/json");
    serde_json::from_str(&text(response).await).expect("JSON")
}

/// Everything up to the end of the head.
pub(crate) async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        let length = timeout(PATIENCE, stream.read(&mut byte)).await.expect("in time").unwrap_or(0);
        if length == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Sends bytes and reads until the other side closes.
pub(crate) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> String {
    stream.write_all(bytes).await.expect("written");
    stream.flush().await.expect("flushed");
    read_to_end(stream).await
}

/// Reads until the other side closes.
pub(crate) async fn read_to_end<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut answer = Vec::new();
    // A connection may end without a TLS closure; what came before counts.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("in time");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The body of a raw response.
pub(crate) fn raw_refusal(answer: &str) -> Value {
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("no JSON ({error}) in {answer:?}"))
}
