//! Upstreams that close an HTTP/2 connection (GOAWAY, RFC 9113 section 6.8) while requests are on it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::support::{
    client::{https1, refusal, request, text},
    gateway::{Setup, TestGateway},
    upstream::certified,
};

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM_AND_HEADERS: u8 = 5;

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;

/// What the upstream says at the second request of its first connection, before it closes it.
#[derive(Debug, Clone, Copy)]
struct Goodbye {
    last_stream: u32,
    code: u32,
}

async fn send(stream: &mut TlsStream<TcpStream>, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
    let frame = [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat();
    stream.write_all(&frame).await.expect("written");
    stream.flush().await.expect("flushed");
}

/// The next frame that begins a request: its stream.
async fn next_request(stream: &mut TlsStream<TcpStream>) -> Option<u32> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("a length")];
        stream.read_exact(&mut payload).await.ok()?;
        if head[3] == SETTINGS && head[4] == 0 {
            send(stream, SETTINGS, 1, 0, &[]).await;
        }
        if head[3] == HEADERS {
            return Some(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        }
    }
}

/// The upstream, and how many requests it has seen.
async fn upstream(goodbye: Goodbye) -> (TestGateway, Arc<AtomicUsize>) {
    let (config, ca) = certified(&["api.test"], &[b"h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        let mut is_first = true;
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.expect("TLS");
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).await.expect("a preface");
            send(&mut stream, SETTINGS, 0, 0, &[]).await;
            let says_goodbye = std::mem::take(&mut is_first);
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let mut number = 0;
                while let Some(id) = next_request(&mut stream).await {
                    counted.fetch_add(1, Ordering::SeqCst);
                    number += 1;
                    if says_goodbye && number == 2 {
                        let last = goodbye.last_stream.to_be_bytes();
                        send(&mut stream, GOAWAY, 0, 0, &[last, goodbye.code.to_be_bytes()].concat()).await;
                        let _ = stream.shutdown().await;
                        return;
                    }
                    // `:status: 200`, RFC 7541 appendix A.
                    send(&mut stream, HEADERS, END_STREAM_AND_HEADERS, id, &[0x88]).await;
                }
            });
        }
    });
    let gateway = Setup::new()
        .trusting_pem(&ca)
        .fixed("api.test", address)
        .route(json!({"host": "api.test", "ports": [443], "owner": "manifest"}))
        .start()
        .await;
    let mut client = https1(&gateway, "api.test").await;
    let response = client.send_request(request("GET", "api.test", "/", "")).await.expect("a response");
    assert_eq!(response.status(), 200, "{goodbye:?}");
    text(response).await;
    (gateway, requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_processed_is_sent_again_and_nothing_else() {
    // The first request has stream 1, the second stream 3.
    for (last_stream, code, method, body, is_sent_again) in [
        (1, NO_ERROR, "GET", "", true),
        (1, NO_ERROR, "POST", "", true),
        // It may have been processed: once more only where that does no harm.
        (3, NO_ERROR, "GET", "", true),
        (3, NO_ERROR, "DELETE", "", true),
        (3, NO_ERROR, "POST", "", false),
        (3, INTERNAL_ERROR, "POST", "", false),
        (0x7fff_ffff, NO_ERROR, "POST", "", false),
        // Its body may be on its way, and is not kept.
        (1, NO_ERROR, "POST", "body", false),
    ] {
        let goodbye = Goodbye { last_stream, code };
        let (gateway, requests) = upstream(goodbye).await;
        let mut client = https1(&gateway, "api.test").await;
        let response = client.send_request(request(method, "api.test", "/", body)).await.expect("a response");
        let seen = requests.load(Ordering::SeqCst);
        if is_sent_again {
            assert_eq!((response.status().as_u16(), seen), (200, 3), "{goodbye:?} {method}");
        } else {
            assert_eq!((response.status().as_u16(), seen), (502, 2), "{goodbye:?} {method} {body}");
            assert_eq!(refusal(response).await["reason"], "upstream_protocol");
        }
    }
}
