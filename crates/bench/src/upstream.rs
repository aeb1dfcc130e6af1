//! What is asked for through the proxies: a TLS server with an answer for each row.

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    header::{CONTENT_LENGTH, CONTENT_TYPE},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::authority::Files;

/// Bytes of the large upload and download.
pub(crate) const LARGE: usize = 100 * 1024 * 1024;

/// How long after one event the next is sent.
pub(crate) const EVENT_PERIOD: Duration = Duration::from_millis(10);

const CHUNK: usize = 64 * 1024;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves until the process is killed.
pub(crate) async fn serve(files: &Files, address: SocketAddr, http2: bool) -> Result<()> {
    let certificate = CertificateDer::from_pem_slice(&fs::read(files.upstream())?)?;
    let key = PrivateKeyDer::from_pem_slice(&fs::read(files.upstream_key())?)?;
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if http2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(address).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            socket.set_nodelay(true)?;
            let stream = TokioIo::new(acceptor.accept(socket).await?);
            // A client that leaves is how every measurement ends.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(stream, service_fn(answer)).await;
            anyhow::Ok(())
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    Ok(match request.uri().path() {
        "/upload" => {
            let mut body = request.into_body();
            let mut received = 0;
            while let Some(Ok(frame)) = body.frame().await {
                received += frame.data_ref().map_or(0, Bytes::len);
            }
            Response::new(Full::from(received.to_string()).boxed_unsync())
        }
        "/download" => {
            let chunk = Bytes::from(vec![b'x'; CHUNK]);
            let chunks = std::iter::repeat_n(chunk, LARGE / CHUNK).map(|chunk| Ok(Frame::data(chunk)));
            let mut response = Response::new(StreamBody::new(stream::iter(chunks)).boxed_unsync());
            response.headers_mut().insert(CONTENT_LENGTH, LARGE.into());
            response
        }
        "/events" => events(EVENT_PERIOD),
        // One event, and then nothing for as long as anybody measures.
        "/idle" => events(Duration::from_secs(24 * 60 * 60)),
        _ => {
            Response::new(Full::from(&b"{\"object\":\"answer\",\"text\":\"a short one\"}"[..]).boxed_unsync())
        }
    })
}

/// Server-sent events, each with the time of its sending.
fn events(period: Duration) -> Response<Body> {
    let events = stream::unfold(false, move |started| async move {
        if started {
            tokio::time::sleep(period).await;
        }
        Some((Ok(Frame::data(format!("data: {}\n\n", now().as_nanos()).into())), true))
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/event-stream"));
    response
}

/// The clock that the processes of a run share.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
