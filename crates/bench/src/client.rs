//! An HTTP/1.1 client that costs little, so that what is measured is the proxy.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::upstream::{LARGE, now};

/// Where requests go.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) upstream: SocketAddr,
    pub(crate) proxy: Option<SocketAddr>,
    tls: TlsConnector,
}

impl Target {
    pub(crate) fn new(upstream: SocketAddr, proxy: Option<SocketAddr>) -> Self {
        let mut config = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(aws_lc_rs::default_provider())))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Each connection is to cost a whole handshake.
        config.resumption = Resumption::disabled();
        Self { upstream, proxy, tls: TlsConnector::from(Arc::new(config)) }
    }

    /// A new connection for requests to a host.
    pub(crate) async fn connect(&self, host: &str) -> Result<Connection> {
        let authority = format!("{host}:{}", self.upstream.port());
        let mut socket = TcpStream::connect(self.proxy.unwrap_or(self.upstream)).await?;
        socket.set_nodelay(true)?;
        if self.proxy.is_some() {
            let connect = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
            socket.write_all(connect.as_bytes()).await?;
            let mut received = Vec::new();
            let length = read_head(&mut socket, &mut received).await?;
            ensure!(length == received.len(), "the proxy spoke before TLS");
            ensure_success(&received)?;
        }
        let stream = self.tls.connect(ServerName::try_from(host.to_owned())?, socket).await?;
        Ok(Connection { stream, authority, received: Vec::with_capacity(64 * 1024) })
    }
}

/// A kept-alive connection.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    authority: String,
    received: Vec<u8>,
}

impl Connection {
    /// A whole GET. Returns how many bytes the body had.
    pub(crate) async fn get(&mut self, path: &str) -> Result<usize> {
        self.ask(path).await?;
        self.read_response().await
    }

    /// Sends the large body.
    pub(crate) async fn upload(&mut self) -> Result<()> {
        let head =
            format!("POST /upload HTTP/1.1\r\nhost: {}\r\ncontent-length: {LARGE}\r\n\r\n", self.authority);
        self.stream.write_all(head.as_bytes()).await?;
        let chunk = vec![b'x'; 64 * 1024];
        for _ in 0..LARGE / chunk.len() {
            self.stream.write_all(&chunk).await?;
        }
        self.stream.flush().await?;
        self.read_response().await?;
        Ok(())
    }

    /// Asks for server-sent events, and reads the head of the response.
    pub(crate) async fn subscribe(&mut self, path: &str) -> Result<()> {
        self.ask(path).await?;
        let head = read_head(&mut self.stream, &mut self.received).await?;
        ensure_success(&self.received)?;
        self.received.drain(..head);
        Ok(())
    }

    /// Waits for an event. Returns how many seconds it was on its way.
    pub(crate) async fn event(&mut self) -> Result<f64> {
        loop {
            let text = String::from_utf8_lossy(&self.received);
            if let Some((before, _)) = text.split_once("\n\n") {
                let (_, sent) = before.rsplit_once("data: ").context("not an event")?;
                let on_its_way = now().as_nanos().saturating_sub(sent.trim().parse()?);
                let length = before.len() + 2;
                self.received.drain(..length);
                return Ok(on_its_way as f64 / 1e9);
            }
            ensure!(self.stream.read_buf(&mut self.received).await? > 0, "the events ended");
        }
    }

    async fn ask(&mut self, path: &str) -> Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.authority);
        self.stream.write_all(request.as_bytes()).await?;
        Ok(self.stream.flush().await?)
    }

    async fn read_response(&mut self) -> Result<usize> {
        let head = read_head(&mut self.stream, &mut self.received).await?;
        ensure_success(&self.received)?;
        let length = content_length(&self.received[..head])?;
        let mut read = self.received.len() - head;
        self.received.clear();
        while read < length {
            let more = self.stream.read_buf(&mut self.received).await?;
            ensure!(more > 0, "the response ended after {read} of {length} bytes");
            read += more;
            self.received.clear();
        }
        Ok(read)
    }
}

/// Reads until a head is complete. Returns how long it is.
async fn read_head(stream: &mut (impl AsyncRead + Unpin), received: &mut Vec<u8>) -> Result<usize> {
    loop {
        if let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            return Ok(end + 4);
        }
        ensure!(stream.read_buf(received).await? > 0, "the connection ended before a response");
    }
}

fn ensure_success(head: &[u8]) -> Result<()> {
    let line =
        String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    ensure!(line.split(' ').nth(1) == Some("200"), "answered with {line:?}");
    Ok(())
}

fn content_length(head: &[u8]) -> Result<usize> {
    for line in String::from_utf8_lossy(head).lines() {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            return Ok(value.trim().parse()?);
        }
    }
    bail!("a response without a length: {:?}", String::from_utf8_lossy(head))
}

/// The proxies sign with authorities of their own, some of which exist only once they run. The handshake's
/// signatures are verified, as they cost time in every client.
#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
