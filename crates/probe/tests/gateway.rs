//! The attempts on names, HTTP and Git against the real gateway without a bottle around it. Only the policy
//! blocks them here; the same attempts get out through an open relay (`outside.rs`).

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use anyhow::{Context, Result, ensure};
use bot_bottle_core::{
    gateway_config::{FixedAddress, GatewayConfig, GatewayStart, UpstreamConfig},
    host::{HostName, HostPattern},
    policy::Policy,
    secret::SecretRef,
};
use bot_bottle_gateway::{Resolution, Resolve, ResolveError, State};
use bot_bottle_probe::{
    Group, Script,
    canaries::{ALLOWED_HOST, Canaries, ContextInput, OPEN_HOST, unlisted_names},
    judge, run_script, table,
};
use zeroize::Zeroizing;

/// A resolver that records every query and knows no name.
#[derive(Debug, Clone, Default)]
struct RecordingResolver(Arc<Mutex<Vec<String>>>);

impl Resolve for RecordingResolver {
    fn resolve<'a>(&'a self, name: &'a HostName) -> Resolution<'a> {
        self.0.lock().expect("no test panics with it").push(name.to_string());
        Box::pin(async { Err(ResolveError::NotFound) })
    }
}

#[test]
fn the_gateway_blocks_every_attempt_on_its_policy() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let canaries = Canaries::start(folder.path().join("service.sock"), &[])?;
    let extra_ca = folder.path().join("embedded-ca.pem");
    std::fs::write(&extra_ca, canaries.ca_certificate())?;
    let config = GatewayConfig {
        name: "probe-00000".into(),
        listen: Vec::new(),
        policy: policy()?,
        upstream: UpstreamConfig {
            resolve: resolve(&canaries)?,
            extra_ca: vec![extra_ca],
            ..UpstreamConfig::default()
        },
        receipts: folder.path().join("receipts.jsonl"),
        receipts_bytes: None,
        ca_certificate: None,
    };
    let resolver = RecordingResolver::default();
    let (proxy, ca_certificate) = start_gateway(config, resolver.clone(), canaries.credential())?;
    let ca_bundle = folder.path().join("bundle.pem");
    std::fs::write(&ca_bundle, ca_certificate)?;

    let context = canaries.context(ContextInput {
        proxy,
        ca_bundle,
        host_name: "build-host".into(),
        operator_home: folder.path().into(),
        bot_bottle_home: folder.path().into(),
        secret_file: folder.path().join("secret"),
        operator_sockets: Vec::new(),
    });
    let attempts = table::all()
        .filter(|(group, _)| matches!(group, Group::Names | Group::Http | Group::Git))
        .map(|(_, attempt)| attempt.id.to_owned())
        .chain(["dns.over-https".to_owned()])
        .collect();
    // The ordinary work writes its result where it runs. This is the only test of its process.
    std::env::set_current_dir(folder.path())?;
    let mut report = Vec::new();
    let script = Script { context, benign_work: true, attempts: Some(attempts) };
    run_script(&serde_json::to_string(&script)?, &mut report)?;
    let judgement = judge(std::str::from_utf8(&report)?, canaries.leaks());

    let problems: Vec<String> = judgement
        .attempts
        .iter()
        .filter(|attempt| attempt.verdict != bot_bottle_probe::Verdict::Blocked)
        .map(|attempt| format!("{attempt:#?}"))
        .collect();
    ensure!(problems.is_empty(), "not blocked:\n{}", problems.join("\n"));
    ensure!(judgement.unattributed.is_empty(), "seen outside: {:#?}", judgement.unattributed);
    ensure!(judgement.complete, "the report broke off");
    for step in judgement.steps.iter().filter(|step| !step.id.starts_with("workspace.")) {
        ensure!(step.worked, "{step:?}");
    }
    ensure!(canaries.calls().iter().any(|call| call.authenticated), "the credential was not injected");
    let asked = resolver.0.lock().expect("no test panics with it").clone();
    ensure!(asked.is_empty(), "names that no route allows went to a resolver: {asked:?}");
    let receipts = std::fs::read_to_string(folder.path().join("receipts.jsonl"))?;
    ensure!(!receipts.contains(canaries.credential()), "the credential is in the receipts");
    Ok(())
}

fn policy() -> Result<Policy> {
    let routes = serde_json::json!({"routes": [
        {
            "host": ALLOWED_HOST, "ports": [80, 443], "owner": "manifest",
            "auth": {"scheme": "Bearer", "token_ref": "DEMO_API_TOKEN"},
            "matches": [{"paths": [{"type": "prefix", "value": "/v1/"}], "methods": ["GET", "POST"]}]
        },
        {"host": OPEN_HOST, "ports": [80, 443], "owner": "manifest"}
    ]});
    serde_json::from_value(routes).context("the policy of the test")
}

fn resolve(canaries: &Canaries) -> Result<BTreeMap<HostPattern, FixedAddress>> {
    let ports = canaries.ports();
    let mut names = vec![(ALLOWED_HOST.to_owned(), ports.allowed), (OPEN_HOST.to_owned(), ports.open)];
    names.extend(unlisted_names().into_iter().map(|name| (name, ports.unlisted)));
    names
        .into_iter()
        .map(|(name, port)| {
            let address = FixedAddress { address: Ipv4Addr::LOCALHOST.into(), port: Some(port) };
            Ok((name.parse()?, address))
        })
        .collect()
}

/// Runs until the test's process ends.
fn start_gateway(
    config: GatewayConfig,
    resolver: RecordingResolver,
    credential: &str,
) -> Result<(SocketAddr, String)> {
    let (sender, ready) = mpsc::channel();
    let credential = Zeroizing::new(credential.to_owned());
    thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let secrets = [(SecretRef::new("DEMO_API_TOKEN"), credential)].into();
            let gateway = State::new(
                &config,
                &GatewayStart { secrets, ..GatewayStart::default() },
                Box::new(resolver),
            )?;
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            let certificate = gateway.ready().ca_certificate;
            bot_bottle_gateway::spawn(&gateway, vec![listener])?;
            sender.send((address, certificate))?;
            std::future::pending().await
        })
    });
    ready.recv().context("the gateway did not start")
}
