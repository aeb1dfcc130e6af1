//! A gateway in this process.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bot_bottle_core::{
    gateway_config::{
        FixedAddress, GatewayConfig, GatewayStart, InterceptorToken, ListenerKind, UpstreamConfig,
    },
    host::HostName,
    limits::ByteSize,
    policy::Policy,
    secret::SecretRef,
    upstream_proxy::UpstreamProxy,
};
use bot_bottle_gateway::{Resolution, Resolve, ResolveError, State, read_config, serve_alone, spawn};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use super::{launcher::Launcher, upstream::TestUpstream};

/// The value that must be seen nowhere but at the upstream.
pub(crate) const SECRET: &str = "real-credential-7f3a";

/// The same, of characters that mean something in a URL: the value of `ODD_TOKEN`.
pub(crate) const ODD_SECRET: &str = "odd/cre+den=tial&key=%41#7f3a";

/// A running gateway, and where its files are.
pub(crate) struct TestGateway {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    pub(crate) receipts: PathBuf,
    pub(crate) folder: tempfile::TempDir,
    served: Served,
    asked: Arc<AtomicUsize>,
}

/// Where a gateway runs.
enum Served {
    Here(Arc<State>),
    InProcess(Child),
    Controlled {
        _launcher: Launcher,
    },
    /// By a launcher that the test has.
    Launched,
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Self::InProcess(process) = self {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The configuration of a gateway in a process of its own.
const CONFIG_VARIABLE: &str = "BOT_BOTTLE_TEST_GATEWAY";

/// What a test's own executable does as the process of a gateway: see [`Setup::start_process`].
#[test]
#[ignore = "a part of other tests"]
fn gateway_process() {
    let path = std::env::var_os(CONFIG_VARIABLE).expect("a configuration");
    let config = read_config(path.as_ref()).expect("a configuration");
    serve_alone(&config, start(), |ready, addresses| {
        let told = json!({"ca": ready.ca_certificate, "address": addresses[0]});
        // Not println!, which the test harness may capture.
        writeln!(std::io::stdout(), "\n{told}").expect("told");
    })
    .expect("serving");
}

/// The value of `OTHER_TOKEN`.
pub(crate) const OTHER_SECRET: &str = "other-credential-5b2e";

fn start() -> GatewayStart {
    let secret = |name: &str, value: &str| (SecretRef::new(name), Zeroizing::new(value.to_owned()));
    let secrets =
        [secret("TOKEN", SECRET), secret("ODD_TOKEN", ODD_SECRET), secret("OTHER_TOKEN", OTHER_SECRET)]
            .into();
    GatewayStart { secrets, ..GatewayStart::default() }
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
    upstream: UpstreamConfig,
    password: Option<String>,
    resolver: TableResolver,
    receipts: Option<PathBuf>,
    receipts_bytes: Option<ByteSize>,
    expires: BTreeMap<SecretRef, u64>,
    folder: tempfile::TempDir,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self {
            routes: Vec::new(),
            forbidden: Vec::new(),
            upstream: UpstreamConfig::default(),
            password: None,
            resolver: TableResolver::default(),
            receipts: None,
            receipts_bytes: None,
            expires: BTreeMap::new(),
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
        let fixed = FixedAddress { address: address.ip(), port: Some(address.port()) };
        self.upstream.resolve.insert(name.parse().expect("a pattern"), fixed);
        self
    }

    /// These names may resolve to private addresses.
    pub(crate) fn private(mut self, patterns: &[&str]) -> Self {
        self.upstream.private = patterns.iter().map(|text| text.parse().expect("a pattern")).collect();
        self
    }

    /// Everything leaves through this proxy, but for these names.
    pub(crate) fn through(mut self, proxy: UpstreamProxy, no_proxy: &[&str]) -> Self {
        self.upstream.proxy = Some(proxy);
        self.upstream.no_proxy = no_proxy.iter().map(|text| text.parse().expect("a pattern")).collect();
        self
    }

    /// The value of the secret `PROXY_PASSWORD`.
    pub(crate) fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    pub(crate) fn resolving(mut self, name: &str, addresses: &[&'static str]) -> Self {
        self.resolver.addresses.insert(name.into(), addresses.to_vec());
        self
    }

    pub(crate) fn trusting(self, upstream: &TestUpstream) -> Self {
        self.trusting_pem(&upstream.ca_pem)
    }

    pub(crate) fn trusting_pem(mut self, ca: &str) -> Self {
        let path = self.folder.path().join(format!("ca-{}.pem", self.upstream.extra_ca.len()));
        std::fs::write(&path, ca).expect("written");
        self.upstream.extra_ca.push(path);
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

    /// The secret of this name ends then, in seconds since 1970.
    pub(crate) fn expiring(mut self, name: &str, at: u64) -> Self {
        self.expires.insert(SecretRef::new(name), at);
        self
    }

    fn message(&self) -> GatewayStart {
        let mut start = GatewayStart { expires: self.expires.clone(), ..start() };
        let password = self.password.clone().map(|value| (SecretRef::new("PROXY_PASSWORD"), value.into()));
        start.secrets.extend(password);
        start
    }

    fn config(&self) -> GatewayConfig {
        let receipts = self.receipts.clone();
        let receipts = receipts.unwrap_or_else(|| self.folder.path().join("receipts.jsonl"));
        let policy: Policy =
            serde_json::from_value(json!({"routes": self.routes, "forbidden_hosts": self.forbidden}))
                .expect("a policy");
        GatewayConfig {
            name: "test-00000".into(),
            listen: Vec::new(),
            policy,
            upstream: self.upstream.clone(),
            receipts,
            receipts_bytes: self.receipts_bytes,
            ca_certificate: None,
        }
    }

    /// Starts a gateway in a process of its own, whose memory is nobody else's.
    pub(crate) fn start_process(self) -> TestGateway {
        let config = GatewayConfig { listen: vec![([127, 0, 0, 1], 0).into()], ..self.config() };
        let path = self.folder.path().join("gateway.json");
        std::fs::write(&path, serde_json::to_vec(&config).expect("JSON")).expect("written");
        let mut process = Command::new(std::env::current_exe().expect("this test"))
            .args(["support::gateway::gateway_process", "--exact", "--ignored", "--nocapture"])
            .env(CONFIG_VARIABLE, path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut said = BufReader::new(process.stdout.take().expect("piped")).lines();
        let told = said.by_ref().map_while(Result::ok).find(|line| line.starts_with('{'));
        let told = told.expect("it serves");
        // What else it says about itself as a test has to go somewhere.
        std::thread::spawn(move || said.for_each(drop));
        let told: Value = serde_json::from_str(&told).expect("JSON");
        let text = |key: &str| told[key].as_str().expect("text").to_owned();
        TestGateway {
            address: text("address").parse().expect("an address"),
            ca_pem: text("ca"),
            receipts: config.receipts,
            folder: self.folder,
            served: Served::InProcess(process),
            asked: Arc::default(),
        }
    }

    /// Starts a gateway whose clients come from smolvm's interceptor with this token.
    pub(crate) fn start_intercepted(self, token: InterceptorToken) -> TestGateway {
        let (config, listeners) = (self.config(), vec![ListenerKind::Interceptor]);
        let receipts = config.receipts.clone();
        let start = GatewayStart { listeners, interceptor_token: Some(token), ..start() };
        let launcher = Launcher::start_with(config, &start);
        TestGateway {
            address: launcher.address,
            ca_pem: launcher.ready.ca_certificate.clone(),
            receipts,
            folder: self.folder,
            served: Served::Controlled { _launcher: launcher },
            asked: Arc::default(),
        }
    }

    /// Starts a gateway with a launcher, which the test plays.
    pub(crate) fn start_launched(self) -> (TestGateway, Launcher) {
        let config = self.config();
        let receipts = config.receipts.clone();
        let start = GatewayStart { listeners: vec![ListenerKind::Proxy], ..self.message() };
        let launcher = Launcher::start_with(config, &start);
        let gateway = TestGateway {
            address: launcher.address,
            ca_pem: launcher.ready.ca_certificate.clone(),
            receipts,
            folder: self.folder,
            served: Served::Launched,
            asked: Arc::default(),
        };
        (gateway, launcher)
    }

    pub(crate) async fn start(self) -> TestGateway {
        let (config, start) = (self.config(), self.message());
        let receipts = config.receipts.clone();
        let asked = Arc::clone(&self.resolver.asked);
        let gateway = State::new(&config, &start, Box::new(self.resolver)).expect("a gateway");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        spawn(&gateway, vec![listener]).expect("serving");
        let ca_pem = gateway.ready().ca_certificate;
        TestGateway { address, ca_pem, receipts, folder: self.folder, served: Served::Here(gateway), asked }
    }
}

impl TestGateway {
    /// What a gateway in this process shares among its connections.
    pub(crate) fn state(&self) -> &State {
        self.shared_state()
    }

    pub(crate) fn shared_state(&self) -> &Arc<State> {
        let Served::Here(state) = &self.served else { panic!("the gateway is in another process") };
        state
    }

    /// Resident bytes of a gateway in a process of its own, proc(5).
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process_id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// The process of a gateway that has one of its own.
    pub(crate) fn process_id(&self) -> u32 {
        let Served::InProcess(process) = &self.served else { panic!("the gateway is in this process") };
        process.id()
    }

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
