//! The proxy of a company: CONNECT to the names that it knows, with or without a login.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bot_bottle_core::{
    secret::SecretRef,
    upstream_proxy::{ProxyLogin, UpstreamProxy},
};
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use super::client::read_head;

/// The user name at every proxy here.
pub(crate) const USER: &str = "corp-user-51c0";

/// A running proxy.
pub(crate) struct ConnectProxy {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

/// What the proxy does with a request.
#[derive(Debug, Clone, Default)]
struct Rules {
    /// By `host:port`; for others it answers 403.
    hosts: BTreeMap<String, SocketAddr>,
    /// The value of `Proxy-Authorization` without which it answers 407.
    login: Option<String>,
}

impl ConnectProxy {
    /// Knows these names on the ports 80 and 443, all of them at one address.
    pub(crate) async fn start(names: &[&str], upstream: SocketAddr) -> Self {
        Self::start_with(names, upstream, None).await
    }

    /// The same, and wants this value of `Proxy-Authorization`.
    pub(crate) async fn with_login(names: &[&str], upstream: SocketAddr, login: &str) -> Self {
        Self::start_with(names, upstream, Some(login.to_owned())).await
    }

    async fn start_with(names: &[&str], upstream: SocketAddr, login: Option<String>) -> Self {
        let ports = |name: &&str| [80, 443].map(|port| (format!("{name}:{port}"), upstream));
        let rules = Rules { hosts: names.iter().flat_map(ports).collect(), login };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn({
            let asked = Arc::clone(&asked);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, rules.clone(), Arc::clone(&asked)));
                }
            }
        });
        Self { address, asked }
    }

    /// The heads of the requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").clone()
    }

    /// How a gateway is told of it.
    pub(crate) fn setting(&self) -> UpstreamProxy {
        proxy_at(self.address)
    }

    /// The same with the login of [`USER`], whose password is `PROXY_PASSWORD`.
    pub(crate) fn setting_with_login(&self) -> UpstreamProxy {
        let password_ref = Some(SecretRef::new("PROXY_PASSWORD"));
        UpstreamProxy {
            login: Some(ProxyLogin { username: USER.to_owned(), password_ref }),
            ..self.setting()
        }
    }
}

/// A proxy at an address.
pub(crate) fn proxy_at(address: SocketAddr) -> UpstreamProxy {
    UpstreamProxy { url: format!("http://{address}").parse().expect("a URL"), login: None }
}

async fn serve(mut client: TcpStream, rules: Rules, asked: Arc<Mutex<Vec<String>>>) {
    let head = read_head(&mut client).await;
    asked.lock().expect("not poisoned").push(head.clone());
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let login = head.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: "));
    let refusal = match rules.hosts.get(target) {
        _ if rules.login.is_some() && login != rules.login.as_deref() => {
            // As some proxies do it: with what they were given in it.
            let given = login.unwrap_or_default();
            format!(
                "HTTP/1.1 407 {given}\r\nProxy-Authenticate: Basic realm=\"{given}\"\r\nX-Echo: {given}\r\n\
                 Content-Length: {}\r\n\r\n{given}",
                given.len()
            )
        }
        Some(upstream) => {
            let mut upstream = TcpStream::connect(upstream).await.expect("the upstream");
            upstream.set_nodelay(true).expect("nodelay");
            client.set_nodelay(true).expect("nodelay");
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.expect("written");
            let _ = copy_bidirectional(&mut client, &mut upstream).await;
            return;
        }
        None => "HTTP/1.1 403 Forbidden by policy\r\nContent-Length: 9\r\n\r\nforbidden".to_owned(),
    };
    let _ = client.write_all(refusal.as_bytes()).await;
}
