//! The proxies that are measured beside each other, each as a process of its own.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    authority::{DOMAIN, Files},
    squid::Squid,
};

/// How many hosts the row of 6,000 hosts asks for.
pub(crate) const HOSTS: usize = 6_000;

/// The name of one of the hosts.
pub(crate) fn host(number: usize) -> String {
    format!("h{number}.{DOMAIN}")
}

/// What stands between client and upstream.
#[derive(Clone, Debug)]
pub(crate) enum Contender {
    /// Nothing.
    Direct,
    /// `bot-bottle gateway --config`.
    Gateway(PathBuf),
    /// This program, as in `bare.rs`.
    Hudsucker,
    /// `mitmdump`.
    Mitmproxy(PathBuf),
    /// squid, as in `squid.rs`.
    Squid(Squid),
}

/// Where `mitmdump` is, if not on `PATH`.
const MITMDUMP: &str = "MITMDUMP";

impl Contender {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Gateway(_) => "gateway",
            Self::Hudsucker => "hudsucker",
            Self::Mitmproxy(_) => "mitmproxy",
            Self::Squid(_) => "squid",
        }
    }

    /// mitmproxy, if it is installed.
    pub(crate) fn mitmproxy() -> Option<Self> {
        let named = env::var_os(MITMDUMP).map(PathBuf::from);
        let path = env::var_os("PATH").unwrap_or_default();
        let found = named.into_iter().chain(env::split_paths(&path).map(|folder| folder.join("mitmdump")));
        found.into_iter().find(|path| path.is_file()).map(Self::Mitmproxy)
    }

    /// Starts it, and waits until it accepts connections.
    pub(crate) fn start(&self, files: &Files, upstream: SocketAddr) -> Result<Running> {
        if matches!(self, Self::Direct) {
            return Ok(Running { process: None, address: None });
        }
        let address = free_address()?;
        let mut command = match self {
            Self::Direct | Self::Hudsucker => {
                let mut command = this_program("hudsucker", files.folder())?;
                command.arg(address.to_string()).arg(upstream.to_string());
                command
            }
            Self::Gateway(program) => {
                let path = files.folder().join("gateway.json");
                fs::write(&path, gateway_config(files, address, upstream).to_string())?;
                let mut command = Command::new(program);
                command.args(["gateway", "--config"]).arg(path);
                command
            }
            Self::Mitmproxy(program) => mitmproxy_command(program, files, address, upstream)?,
            Self::Squid(squid) => squid.command(files, address, upstream)?,
        };
        let log = fs::File::create(files.folder().join(format!("{}.log", self.name())))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().with_context(|| format!("{} cannot be started", self.name()))?;
        Running { process: Some(process), address: Some(address) }.accepting(self.name(), files.folder())
    }
}

/// The upstream, in a process of its own.
pub(crate) fn start_upstream(files: &Files, http2: bool) -> Result<(Running, SocketAddr)> {
    let address = free_address()?;
    let mut command = this_program("upstream", files.folder())?;
    command.arg(address.to_string()).stdin(Stdio::null());
    if http2 {
        command.arg("--http2");
    }
    let running = Running { process: Some(command.spawn()?), address: Some(address) };
    Ok((running.accepting("upstream", files.folder())?, address))
}

/// A process that is ended when this is dropped.
pub(crate) struct Running {
    process: Option<Child>,
    pub(crate) address: Option<SocketAddr>,
}

impl Running {
    /// `None` where nothing stands between.
    pub(crate) fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    fn accepting(mut self, name: &str, folder: &Path) -> Result<Self> {
        let address = self.address.context("nothing to wait for")?;
        // mitmproxy takes seconds where the machine is busy.
        for _ in 0..600 {
            if TcpStream::connect(address).is_ok() {
                return Ok(self);
            }
            if let Some(process) = &mut self.process {
                let ended = process.try_wait()?;
                let log = folder.join(format!("{name}.log"));
                ensure!(ended.is_none(), "{name} ended: {}", fs::read_to_string(log).unwrap_or_default());
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("{name} does not accept connections")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(process) = &mut self.process else { return };
        // squid leaves its shared memory behind where it is killed.
        let _ = kill_process(Pid::from_child(process), Signal::TERM);
        for _ in 0..100 {
            if !matches!(process.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// The configuration that docs/egress.md describes for a gateway alone: one route for all hosts of the bench.
fn gateway_config(files: &Files, address: SocketAddr, upstream: SocketAddr) -> Value {
    let resolve: serde_json::Map<String, Value> =
        (0..HOSTS).map(|number| (host(number), json!({"address": upstream.ip()}))).collect();
    json!({
        "name": "bench",
        "listen": [address],
        "receipts": files.folder().join("receipts.jsonl"),
        "policy": {"routes": [{"host": format!("*.{DOMAIN}"), "ports": [upstream.port()], "owner": "manifest"}]},
        "upstream": {"resolve": resolve, "extra_ca": [files.authority()]},
    })
}

/// Without a script, mitmproxy would hold every body until it is complete, and would look the hosts up. That
/// is answered below it: where a script changes the address of a connection, mitmproxy does not use the
/// connection again.
fn mitmproxy_command(
    program: &Path,
    files: &Files,
    address: SocketAddr,
    upstream: SocketAddr,
) -> Result<Command> {
    let script = files.folder().join("mitmproxy.py");
    fs::write(
        &script,
        MITMPROXY_SCRIPT.replace("DOMAIN", DOMAIN).replace("UPSTREAM", &upstream.ip().to_string()),
    )?;
    let mut command = Command::new(program);
    command
        .arg("--quiet")
        .args(["--listen-host", &address.ip().to_string(), "--listen-port", &address.port().to_string()])
        .arg("--set")
        .arg(format!("confdir={}", files.folder().join("mitmproxy").display()))
        .arg("--set")
        .arg(format!("ssl_verify_upstream_trusted_ca={}", files.authority().display()))
        .args(["--set", "connection_strategy=lazy", "--scripts"])
        .arg(script);
    Ok(command)
}

const MITMPROXY_SCRIPT: &str = r"
import socket

real = socket.getaddrinfo

def getaddrinfo(host, *rest, **named):
    return real('UPSTREAM' if str(host).endswith('.DOMAIN') else host, *rest, **named)

socket.getaddrinfo = getaddrinfo

def requestheaders(flow):
    flow.request.stream = True

def responseheaders(flow):
    flow.response.stream = True
";

fn this_program(part: &str, folder: &Path) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(part).arg(folder);
    Ok(command)
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
