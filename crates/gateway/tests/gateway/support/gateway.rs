//! A gateway in this process.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bot_bottle_core::{
    gateway_config::{FixedAddress, GatewayConfig, GatewayStart, UpstreamConfig},
    host::HostName,
    limits::ByteSize,
    policy::Policy,
    secret::SecretRef,
};
use bot_bottle_gateway::{Resolution, Resolve, ResolveError, State, spawn};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use super::upstream::TestUpstream;

/// The value that must be seen nowhere but at the upstream.
pub(crate) const SECRET: &str = "real-credential-7f3a";

/// A running gateway, and where its files are.
pub(crate) struct TestGateway {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    pub(crate) receipts: PathBuf,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) gateway: Arc<State>,
    asked: Arc<AtomicUsize>,
}

/// Answers from a table, as a name server under an attacker's control would.
#[derive(Debug, Default)]
pub(crate) struct TableResolver {
    addresses: BTreeMap<String, Vec<&'static str>>,
    asked: Arc<AtomicUsize>,
}

impl Resolve for TableResolver {
    fn resolve<'a>(&'a self, name: &'a HostName) -> Resolution<'a> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let found = self
            .addresses
            .get(name.as_str())
            .map(|addresses| addresses.iter().map(|address| address.parse().expect("an address")).collect());
        Box::pin(async move { found.ok_or(ResolveError::NotFound) })
    }
}

/// What to start a gateway with.
pub(crate) struct Setup {
    routes: Vec<Value>,
    forbidden: Vec<String>,
    resolve: BTreeMap<HostName, FixedAddress>,
    extra_ca: Vec<PathBuf>,
    resolver: TableResolver,
    receipts: Option<PathBuf>,
    receipts_bytes: Option<ByteSize>,
    folder: tempfile::TempDir,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self {
            routes: Vec::new(),
            forbidden: Vec::new(),
            resolve: BTreeMap::new(),
            extra_ca: Vec::new(),
            resolver: TableResolver::default(),
            receipts: None,
            receipts_bytes: None,
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    /// The usual: `api.test` leads to the upstream and has a credential, `open.test` leads there and has
    /// none.
    pub(crate) fn for_upstream(upstream: &TestUpstream) -> Self {
        Self::new()
            .trusting(upstream)
            .fixed("api.test", upstream.address)
            .fixed("open.test", upstream.address)
            .route(json!({"host": "api.test", "ports": [443], "owner": "manifest",
                          "auth": {"scheme": "Bearer", "token_ref": "TOKEN"}}))
            .route(json!({"host": "open.test", "ports": [80, 443], "owner": "manifest"}))
    }

    /// `open.test` leads to a server without TLS.
    pub(crate) fn plain(upstream: SocketAddr) -> Self {
        Self::new()
            .fixed("open.test", upstream)
            .route(json!({"host": "open.test", "ports": [80], "owner": "manifest"}))
    }

    pub(crate) fn route(mut self, route: Value) -> Self {
        self.routes.push(route);
        self
    }

    /// No route opens this host.
    pub(crate) fn forbidding(mut self, host: &str) -> Self {
        self.forbidden.push(host.to_owned());
        self
    }

    pub(crate) fn fixed(mut self, name: &str, address: SocketAddr) -> Self {
        let name = HostName::parse(name).expect("a name");
        self.resolve.insert(name, FixedAddress { address: address.ip(), port: Some(address.port()) });
        self
    }

    pub(crate) fn resolving(mut self, name: &str, addresses: &[&'static str]) -> Self {
        self.resolver.addresses.insert(name.into(), addresses.to_vec());
        self
    }

    pub(crate) fn trusting(mut self, upstream: &TestUpstream) -> Self {
        let path = self.folder.path().join(format!("ca-{}.pem", self.extra_ca.len()));
        std::fs::write(&path, &upstream.ca_pem).expect("written");
        self.extra_ca.push(path);
        self
    }

    pub(crate) fn trusting_file(mut self, path: &std::path::Path) -> Self {
        self.extra_ca.push(path.to_owned());
        self
    }

    pub(crate) fn receipts(mut self, path: &str) -> Self {
        self.receipts = Some(path.into());
        self
    }

    /// How many bytes all files of receipts may have.
    pub(crate) fn receipts_bytes(mut self, bytes: u64) -> Self {
        self.receipts_bytes = Some(ByteSize(bytes));
        self
    }

    pub(crate) async fn start(self) -> TestGateway {
        let receipts = self.receipts.unwrap_or_else(|| self.folder.path().join("receipts.jsonl"));
        let policy: Policy =
            serde_json::from_value(json!({"routes": self.routes, "forbidden_hosts": self.forbidden}))
                .expect("a policy");
        let config = GatewayConfig {
            name: "test-00000".into(),
            listen: Vec::new(),
            policy,
            upstream: UpstreamConfig { resolve: self.resolve, extra_ca: self.extra_ca },
            receipts: receipts.clone(),
            receipts_bytes: self.receipts_bytes,
            ca_certificate: None,
        };
        let secrets = [(SecretRef::new("TOKEN"), Zeroizing::new(SECRET.to_owned()))].into();
        let start = GatewayStart { secrets, ..GatewayStart::default() };
        let asked = Arc::clone(&self.resolver.asked);
        let gateway = State::new(&config, &start, Box::new(self.resolver)).expect("a gateway");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        spawn(&gateway, vec![listener]).expect("serving");
        let ca_pem = gateway.ready().ca_certificate;
        TestGateway { address, ca_pem, receipts, folder: self.folder, gateway, asked }
    }
}

impl TestGateway {
    /// How many names were resolved.
    pub(crate) fn names_resolved(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Every line of the receipts so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.receipts).expect("receipts");
        text.lines().map(|line| serde_json::from_str(line).expect("a receipt")).collect()
    }

    /// The decisions so far.
    pub(crate) fn receipts(&self) -> Vec<Value> {
        self.lines().into_iter().filter(|line| !line["verdict"].is_null()).collect()
    }

    /// How the exchange of a decision ended; waits for it.
    pub(crate) async fn ending(&self, decision: &Value) -> Value {
        assert_eq!(decision["verdict"], "allow", "{decision}");
        for _ in 0..2000 {
            let is_of = |line: &Value| line["exchange"] == decision["exchange"] && !line["end"].is_null();
            let endings: Vec<Value> = self.lines().into_iter().filter(is_of).collect();
            if let [ending] = &endings[..] {
                return ending.clone();
            }
            assert!(endings.is_empty(), "an exchange ends once: {endings:?}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("no ending of {decision}: {:?}", self.lines());
    }

    /// The last receipt's verdict and reason.
    pub(crate) fn last_decision(&self) -> (String, String) {
        let receipts = self.receipts();
        let last = receipts.last().expect("a receipt");
        let text = |key: &str| last[key].as_str().expect("a text").to_owned();
        (text("verdict"), text("reason"))
    }

    /// Waits until there are so many receipts.
    pub(crate) async fn wait_for_receipts(&self, count: usize) -> Vec<Value> {
        for _ in 0..2000 {
            let receipts = self.receipts();
            if receipts.len() >= count {
                return receipts;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("fewer than {count} receipts: {:?}", self.receipts());
    }

    /// Waits for a receipt with this reason: some are written when a connection ends, not when it is
    /// answered.
    pub(crate) async fn wait_for_receipt(&self, reason: &str) -> Value {
        for _ in 0..2000 {
            if let Some(found) = self.receipts().into_iter().find(|receipt| receipt["reason"] == reason) {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("no receipt with the reason {reason}: {:?}", self.receipts());
    }
}
