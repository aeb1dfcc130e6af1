//! An image cannot remove a boundary: whatever it has, a bottle of it is refused, or is one like any other.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
};

use anyhow::{Context, Result, ensure};
use bot_bottle_testkit::{Echo, FakeUpstream, random_secret};

use crate::{
    fixture::Home,
    images::{home_with, own_line, remove, run},
};

/// Writes down who runs it, and goes on as a shell. Every name that something of ours could call is one of these.
const MARKER: &str = r#"#!/bin/busybox sh
/bin/busybox echo "$0 $(/bin/busybox id -u) $(/bin/busybox grep CapEff /proc/self/status)" >> /marks/all
exec /bin/busybox sh "$@"
"#;

/// What an image can have of files, and everything that its configuration can say.
fn hostile(own_line: &str) -> String {
    format!(
        r#"FROM bot-bottle-test:busybox
{own_line}
RUN printf 'root::0:0:root:/root:/bin/sh\nother::0:0::/root:/bin/sh\nevil::1000:0::/root:/bin/sh\n' > /etc/passwd \
 && printf 'root:x:0:\n' > /etc/group && mkdir -p /root /suid /evil && mkdir -m 1777 /marks \
 && echo /evil/evil.so > /etc/ld.so.preload && touch /evil/evil.so && mknod /evil/disk b 8 0 && chmod 666 /evil/disk \
 && cp /bin/busybox /suid/su && chmod 4755 /suid/su
USER 12345
# Outside a bottle this file makes whoever calls it root.
RUN test "$(/suid/su root -c 'id -u')" = 0
USER 0
COPY marker /evil/bot-bottle
RUN chmod 755 /evil/bot-bottle && for name in nft ip mount su useradd ld.so; do cp /evil/bot-bottle /evil/$name; done \
 && rm /bin/sh && cp /evil/bot-bottle /bin/sh && busybox rm -f /marks/all
ENV LD_PRELOAD=/evil/evil.so LD_LIBRARY_PATH=/evil PATH=/evil:/bin HTTPS_PROXY=http://192.0.2.1:1 HOME=/evil \
    BOT_BOTTLE_HOME=/evil BOT_BOTTLE_FAULT=before:attach BOT_BOTTLE_LOG=trace
ENTRYPOINT ["/bin/sh", "-c", "exit 9"]
CMD ["/bin/sh"]
HEALTHCHECK --interval=1s CMD /bin/sh -c true
ONBUILD RUN exit 1
STOPSIGNAL SIGWINCH
VOLUME ["/home/agent", "/home/agent/workspace", "/opt", "/opt/bot-bottle/agent", "/run", "/run/bot-bottle/listeners"]
WORKDIR /evil
USER 12345
"#
    )
}

/// Addresses of this host at which a container could reach it.
fn host_addresses() -> Result<Vec<Ipv4Addr>> {
    let table = fs::read_to_string("/proc/net/fib_trie")?;
    let mut found = Vec::new();
    let mut last = None;
    for line in table.lines().map(str::trim) {
        match line.strip_prefix("|-- ") {
            Some(address) => last = address.parse::<Ipv4Addr>().ok(),
            None if line == "/32 host LOCAL" => found.extend(last.filter(|address| !address.is_loopback())),
            None => {}
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

#[test]
fn a_bottle_of_a_hostile_image_is_one_like_any_other() -> Result<()> {
    let own = own_line();
    let Some(home) = home_with(&hostile(&own))? else { return Ok(()) };
    home.write("bottles/tools/marker", MARKER)?;
    let upstream = FakeUpstream::builder().host("api.test", Echo).start()?;
    let authority = home.project().join("authority.pem");
    fs::write(&authority, upstream.certificate())?;
    let (authority, address) = (authority.display(), upstream.address());
    home.write(
        "settings.yml",
        format!("egress:\n  extra_ca: [{authority}]\n  resolve: {{api.test: \"{address}\"}}\n"),
    )?;
    home.write("bottles/open.md", "---\negress: {routes: [{host: api.test}]}\n---\n")?;

    // Whoever reaches this host at any address of it is seen.
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    let addresses = host_addresses()?;
    let address = addresses.first().context("this host has an address besides its loopback")?;
    TcpStream::connect((*address, port)).context("the listener is reached from the host")?;
    listener.accept()?;
    listener.set_nonblocking(true)?;

    let dials: String = addresses
        .iter()
        .map(|address| format!("echo hello | nc -w 5 {address} {port} >/dev/null 2>&1; "))
        .collect();
    let ask = |host: &str| {
        format!(
            "printf 'GET http://{host}/echo HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n' \
             | nc -w 20 127.0.0.1 3128 | head -n 1; "
        )
    };
    let script = format!(
        "echo user $(id -u) $(id -g) $(id -G); echo home $HOME; pwd; grep -E '^(Cap|NoNewPrivs)' /proc/self/status; \
         /suid/su root -c 'echo became $(id -u)' 2>&1; cat /evil/disk 2>&1; {dials}\
         echo allowed $({}); echo other $({}); \
         nslookup api.test 2>&1 | grep 198.19. ; nslookup other.test 2>&1 | grep NXDOMAIN; \
         touch /opt/x /run/x /opt/bot-bottle/agent/x 2>&1; cat /marks/all",
        ask("api.test"),
        ask("other.test"),
    );
    let mut command =
        home.command(&["run", "--bottle", "built", "--bottle", "open", "--", "sh", "-c", &script]);
    let said = home.succeeds(&mut command)?;
    let has = |text: &str| said.lines().any(|line| line.contains(text));
    ensure!(has("user 1000 1000 1000") && has("home /home/agent") && has("/home/agent/workspace"), "{said}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        ensure!(has(&format!("{set}:\t0000000000000000")), "{set}: {said}");
    }
    ensure!(has("NoNewPrivs:\t1") && has("must be suid") && !has("became"), "{said}");
    ensure!(has("can't open '/evil/disk': Operation not permitted"), "{said}");
    ensure!(has("allowed HTTP/1.1 200") && has("other HTTP/1.1 403"), "{said}");
    ensure!(has("198.19.") && has("NXDOMAIN"), "{said}");
    for place in ["/opt/x", "/run/x"] {
        ensure!(has(&format!("touch: {place}: Permission denied")), "{place}: {said}");
    }
    ensure!(has("touch: /opt/bot-bottle/agent/x: Read-only file system"), "{said}");
    ensure!(listener.accept().is_err(), "the bottle reached an address of the host");
    // The shell that ran the script was one of the markers.
    let marks: Vec<&str> =
        said.lines().filter(|line| line.contains("CapEff") && line.starts_with('/')).collect();
    ensure!(!marks.is_empty(), "{said}");
    for mark in marks {
        ensure!(mark.ends_with(" 1000 CapEff:\t0000000000000000"), "{mark}");
    }
    home.clean_up()?;
    remove(&home, &own)
}

#[test]
fn a_link_where_something_of_ours_goes_is_refused() -> Result<()> {
    let own = own_line();
    let Some(home) = home_with("FROM scratch\n")? else { return Ok(()) };
    let folders = [
        "/opt",
        "/opt/bot-bottle",
        "/opt/bot-bottle/agent",
        "/run",
        "/home",
        "/home/agent",
        "/home/agent/workspace",
    ];
    let tables = ["/etc/passwd", "/etc/group"];
    for path in folders.iter().chain(&tables) {
        let step = format!(
            "mkdir -p {path}; mkdir -p $(dirname /there{path}); mv {path} /there{path}; ln -s /there{path} {path}"
        );
        home.write("bottles/tools/Dockerfile", format!("FROM bot-bottle-test:busybox\n{own}RUN {step}\n"))?;
        home.refused(&mut run(&home, "true"), 1, &[&format!("has a link at {path}\n"), "tools/Dockerfile"])?;
    }
    let step = format!("mkdir -p {} && touch {}", folders.join(" "), tables.join(" "));
    home.write("bottles/tools/Dockerfile", format!("FROM bot-bottle-test:busybox\n{own}RUN {step}\n"))?;
    ensure!(home.succeeds(&mut run(&home, "id -u"))? == "1000\n", "the same places without links");
    remove(&home, &own)
}

#[test]
fn what_is_neither_file_nor_folder_is_refused_before_anything_opens_it() -> Result<()> {
    use tar::EntryType::{Directory, Fifo, Regular, Symlink};
    let Some(home) = Home::new()? else { return Ok(()) };
    let image = format!("bot-bottle-test:{}", random_secret("odd-"));
    let busybox = fs::read(bot_bottle_testkit::find_program("busybox").context("busybox")?)?;
    for (path, kind, refusal) in [
        // The engine and its runtime read both tables before they start a program.
        ("etc/passwd", Fifo, Some("has no ordinary file at /etc/passwd")),
        ("etc/passwd", Directory, Some("has no ordinary file at /etc/passwd")),
        ("etc/group", Fifo, Some("has no ordinary file at /etc/group")),
        ("etc/group", Symlink, Some("has a link at /etc/group")),
        ("etc/resolv.conf", Directory, Some("has no ordinary file at /etc/resolv.conf")),
        ("opt", Fifo, Some("folder")),
        ("opt/bot-bottle/agent", Regular, Some("folder")),
        ("etc/bot-bottle/ca.pem", Fifo, Some("/etc/bot-bottle/ca.pem")),
        // The engine mounts a file over what the image has there.
        ("etc/resolv.conf", Fifo, None),
        ("etc/resolv.conf", Symlink, None),
        // The engine makes a folder of it.
        ("etc", Symlink, None),
        ("etc/passwd", Regular, None),
    ] {
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |path: &str, kind, content: &[u8]| -> Result<()> {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o755);
            header.set_size(content.len() as u64);
            if kind == Symlink {
                return Ok(archive.append_link(&mut header, path, "/dev/zero")?);
            }
            Ok(archive.append_data(&mut header, path, content)?)
        };
        add("bin/busybox", Regular, &busybox)?;
        add(path, kind, &[])?;
        home.engine.import(
            &image,
            &["LABEL bot-bottle-test=odd".to_owned()],
            &mut archive.into_inner()?.as_slice(),
        )?;
        let arguments = [
            "run",
            "--backend",
            "docker",
            "--image",
            &image,
            "--",
            "busybox",
            "head",
            "-n1",
            "/etc/resolv.conf",
        ];
        let output = home.command(&arguments).output()?;
        let message = String::from_utf8_lossy(&output.stderr);
        let what = format!("{path} {kind:?}: {output:?}");
        match refusal {
            Some(text) => {
                ensure!(!output.status.success() && message.contains(text), "{what}");
                ensure!(message.lines().filter(|line| line.starts_with("error")).count() == 1, "{what}");
            }
            None => {
                ensure!(output.status.success() && output.stdout == b"nameserver 198.18.255.1\n", "{what}")
            }
        }
        home.is_empty()?;
        home.engine.remove_image(&image)?;
    }
    Ok(())
}
