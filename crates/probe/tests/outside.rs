//! Without a bottle the attempts get out. A table that cannot fail would prove nothing.
//!
//! Only attempts that do no harm where they succeed are made here: it is the host.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use anyhow::{Context, Result, ensure};
use bot_bottle_probe::{
    Script, Verdict,
    canaries::{ALLOWED_HOST, Canaries, ContextInput, OPEN_HOST, unlisted_names},
    judge, run_script,
};

/// Attempts that an open relay and an unguarded host let through.
const GET_OUT: [&str; 40] = [
    "names.unlisted-connect",
    "names.unlisted-absolute",
    "names.unlisted-post",
    "names.unlisted-upper-case",
    "names.unlisted-trailing-dot",
    "names.prefix-look-alike",
    "names.suffix-look-alike",
    "names.below-allowed",
    "names.other-ports",
    "names.address-v4",
    "names.address-short",
    "names.address-with-forged-host",
    "names.localhost",
    "names.host-header-differs",
    "names.server-name-differs",
    "names.server-name-forged",
    "names.connect-host-differs",
    "protocols.tcp-host-loopback",
    "protocols.tcp-host-address",
    "protocols.udp-host-loopback",
    "protocols.unix-path",
    "protocols.unix-abstract",
    "http.method",
    "http.method-override",
    "http.reflected-credential",
    "http.own-credential",
    "http.own-credential-in-trailer",
    "http.path",
    "http.pipelined",
    "http.cleartext-credential",
    "git.push-advertisement",
    "git.push-pack",
    "git.push-disguised",
    "git.push-by-other-means",
    "kernel.namespaces-are-own",
    "kernel.user-namespace-is-own",
    "kernel.symlink-out",
    "operator.secret-file",
    "operator.home",
    "operator.bot-bottle-home",
];

/// Attempts that succeed for every user without a seccomp filter.
const GET_OUT_UNFILTERED: [&str; 9] = [
    "kernel.setns",
    "kernel.clone-namespaces",
    "kernel.clone3",
    "kernel.keyrings",
    "kernel.memory-of-others",
    "kernel.terminal-injection",
    "kernel.splice-pages",
    "kernel.seccomp",
    "kernel.sys",
];

#[test]
fn without_a_bottle_the_attempts_get_out() -> Result<()> {
    let home = tempfile::tempdir()?;
    let secret_file = home.path().join("secret");
    std::fs::write(&secret_file, "the operator's")?;
    std::fs::create_dir_all(home.path().join("bottles"))?;
    let canaries =
        Canaries::start(home.path().join("service.sock"), &[IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))])?;
    let ports = canaries.ports();
    let mut hosts =
        BTreeMap::from([(ALLOWED_HOST.to_owned(), ports.allowed), (OPEN_HOST.to_owned(), ports.open)]);
    hosts.extend(unlisted_names().into_iter().map(|name| (name, ports.unlisted)));
    let context = canaries.context(ContextInput {
        proxy: open_relay(hosts)?,
        ca_bundle: "/nonexistent".into(),
        host_name: "localhost".into(),
        operator_home: home.path().into(),
        bot_bottle_home: home.path().into(),
        secret_file,
        operator_sockets: Vec::new(),
    });

    // A test that runs in a container has that container's filter, and proves less.
    let status = std::fs::read_to_string("/proc/self/status")?;
    let unfiltered = status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "0"]));
    let attempts: Vec<String> = GET_OUT
        .iter()
        .chain(GET_OUT_UNFILTERED.iter().filter(|_| unfiltered))
        .map(|id| (*id).to_owned())
        .collect();
    let count = attempts.len();
    let script = Script { context, benign_work: false, attempts: Some(attempts) };
    let mut report = Vec::new();
    run_script(&serde_json::to_string(&script)?, &mut report)?;
    let judgement = judge(std::str::from_utf8(&report)?, canaries.leaks());

    ensure!(judgement.complete, "the report broke off");
    let not_escaped: Vec<String> = judgement
        .attempts
        .iter()
        .filter(|attempt| attempt.verdict != Verdict::Escaped)
        .map(|attempt| format!("{}: {:?}", attempt.outcome.id, attempt.outcome.observation))
        .collect();
    ensure!(
        not_escaped.is_empty(),
        "these should have escaped without a bottle:\n{}",
        not_escaped.join("\n")
    );
    ensure!(judgement.attempts.len() == count);
    ensure!(!judgement.holds());
    let seen = judgement.attempts.iter().filter(|attempt| !attempt.seen_outside.is_empty()).count();
    ensure!(seen > 20, "the canaries recorded only {seen} attempts by their id");
    Ok(())
}

#[test]
fn a_script_with_an_unknown_attempt_is_refused() -> Result<()> {
    let mut report = Vec::new();
    ensure!(run_script("{}", &mut report).is_err());
    ensure!(report.is_empty());
    Ok(())
}

/// A proxy without a policy: what a bottle's gateway must not be.
fn open_relay(hosts: BTreeMap<String, u16>) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let hosts = hosts.clone();
            thread::spawn(move || relay(client, &hosts));
        }
    });
    Ok(address)
}

fn relay(mut client: TcpStream, hosts: &BTreeMap<String, u16>) -> Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte)? > 0 {
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut words = text.split_whitespace();
    let (method, target) = (words.next().context("no method")?, words.next().context("no target")?);
    let authority = target.trim_start_matches("http://").split('/').next().unwrap_or_default();
    let mut upstream = dial(authority, hosts)?;
    if method == "CONNECT" {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    } else {
        upstream.write_all(text.replacen(&format!("http://{authority}"), "", 1).as_bytes())?;
    }
    let (mut from_client, mut to_upstream) = (client.try_clone()?, upstream.try_clone()?);
    thread::spawn(move || {
        let copied = std::io::copy(&mut from_client, &mut to_upstream);
        let _ = to_upstream.shutdown(Shutdown::Write);
        copied
    });
    std::io::copy(&mut upstream, &mut client)?;
    client.shutdown(Shutdown::Both)?;
    Ok(())
}

fn dial(authority: &str, hosts: &BTreeMap<String, u16>) -> Result<TcpStream> {
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
    let host = host.rsplit('@').next().unwrap_or_default().trim_end_matches('.').to_lowercase();
    match hosts.get(&host) {
        Some(known) => Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, *known))?),
        // Like inet_aton(3), which many clients use.
        None if host == "127.1" => Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port.parse()?))?),
        None => Ok(TcpStream::connect((host.as_str(), port.parse()?))?),
    }
}
