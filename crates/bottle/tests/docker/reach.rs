//! What of the host, the engine and other containers can be reached from a bottle.

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bot_bottle_engine::ContainerSpec;
use bot_bottle_testkit::random_hex;

use crate::fixture::Home;

/// A service of the host at every address, which greets and records who comes.
struct Service {
    port: u16,
    greeting: String,
    /// What clients have sent.
    heard: Arc<Mutex<Vec<String>>>,
    ends: Arc<AtomicBool>,
}

impl Service {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind(("0.0.0.0", 0))?;
        let (port, greeting) = (listener.local_addr()?.port(), format!("HOST-{}", random_hex(8)));
        let (heard, ends) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        thread::spawn({
            let (greeting, heard, ends) = (greeting.clone(), Arc::clone(&heard), Arc::clone(&ends));
            move || {
                for stream in listener.incoming().flatten() {
                    if ends.load(Ordering::Relaxed) {
                        return;
                    }
                    let (mut stream, mut said) = (stream, [0; 256]);
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                    let _ = stream.write_all(greeting.as_bytes());
                    let count = stream.read(&mut said).unwrap_or(0);
                    let said = String::from_utf8_lossy(&said[..count]).into_owned();
                    heard.lock().expect("not poisoned").push(said);
                }
            }
        });
        Ok(Self { port, greeting, heard, ends })
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("not poisoned").clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = std::net::TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// The host's address on the way out. Nothing is sent: connecting a datagram socket only chooses one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[test]
fn neither_the_host_nor_other_containers_are_reached() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let (service, mark) = (Service::start()?, random_hex(8));
    // A container of the operator's on the engine's default network, which serves the same greeting.
    let other = ContainerSpec {
        name: format!("bot-bottle-test-{mark}"),
        image: home.host.image.clone(),
        entrypoint: ["sh", "-c"].map(str::to_owned).into(),
        command: vec![format!("while :; do echo {} | nc -l -p 8080; done", service.greeting)],
        network: "bridge".to_owned(),
        log_driver: "none".to_owned(),
        ..ContainerSpec::default()
    };
    home.engine.create_container(&other)?;
    let removed = RemoveOnDrop(&home, other.name.clone());
    home.engine.start_container(&other.name)?;
    let shown = home.engine.inspect_container(&other.name)?;
    let text = |pointer: &str| shown.pointer(pointer).and_then(|value| value.as_str()).map(str::to_owned);
    let address = text("/NetworkSettings/IPAddress").context("an address")?;
    let bridge = text("/NetworkSettings/Gateway").context("the bridge's address")?;

    let port = service.port;
    let mut targets =
        vec![format!("{bridge} {port}"), format!("{address} 8080"), "169.254.169.254 80".to_owned()];
    targets.extend(own_address().map(|own| format!("{own} {port}")));
    let lines: Vec<String> = targets
        .iter()
        .map(|target| format!("echo {mark}-$WHO | nc -w 3 {target} 2>&1 | head -c 300 | tr -d '\\000'; echo"))
        .collect();
    let resolver = "nslookup -timeout=2 example.org 127.0.0.11 2>&1 | head -n 5";
    let script = format!("{}; {resolver}", lines.join("; "));

    // The control: an ordinary container reaches the host's service and the other container.
    let control = ContainerSpec {
        name: format!("bot-bottle-test-{mark}-control"),
        command: vec![format!("export WHO=control; {}", lines.join("; "))],
        ..other.clone()
    };
    home.engine.create_container(&control)?;
    let control_removed = RemoveOnDrop(&home, control.name.clone());
    home.engine.start_container(&control.name)?;
    home.engine.wait_container(&control.name, crate::fixture::LONG)?;
    ensure!(service.heard().iter().any(|said| said.contains("control")), "{:?}", service.heard());

    let said = home.succeeds(&mut home.run(&[], &format!("export WHO=bottle; {script}")))?;
    ensure!(!said.contains(&service.greeting), "something was reached: {said}");
    ensure!(!service.heard().iter().any(|said| said.contains("bottle")), "{:?}", service.heard());
    ensure!(!said.contains("Name:\texample.org"), "the engine's resolver answered: {said}");
    drop((removed, control_removed));
    Ok(())
}

#[test]
fn ten_bottles_at_once_are_ten_bottles() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let children: Result<Vec<_>> = (0..10)
        .map(|number| {
            let mut command = home.run(&[], &format!("echo {number} > ~/number; sleep 1; cat ~/number"));
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            Ok((number, command.spawn()?))
        })
        .collect();
    for (number, child) in children? {
        let output = child.wait_with_output()?;
        ensure!(output.status.success() && output.stdout == format!("{number}\n").as_bytes(), "{output:?}");
    }
    Ok(())
}

/// Removes a container.
struct RemoveOnDrop<'a>(&'a Home, String);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        let _ = self.0.engine.remove_container(&self.1);
    }
}
