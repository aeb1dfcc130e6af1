//! An engine, an image to run, and the removal of everything that a test makes.

use std::{env, fs, io::Cursor, path::PathBuf, sync::Arc, sync::Mutex, time::Duration};

use bot_bottle_engine::{
    ContainerSpec, Engine, EngineAddress, EngineEnvironment, EngineKind, Labels, attach,
};
use bot_bottle_testkit::{find_program, podman, random_hex, require_because};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The label of all objects of a fixture; its value is unique.
const LABEL: &str = "bot-bottle-engine-test";

/// For what takes a moment: a test that waits this long fails.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// An engine with an image of one program, busybox.
pub(crate) struct Fixture {
    pub(crate) engine: Engine,
    /// Unique, and in the names of all objects.
    pub(crate) id: String,
    /// Reference of the image.
    pub(crate) image: String,
}

/// Runs a test with each engine that is there.
pub(crate) fn with_engines(test: impl Fn(&Fixture)) {
    let docker = EngineAddress::find(
        &EngineEnvironment { docker_host: env::var("DOCKER_HOST").ok().as_deref(), ..Default::default() },
        std::path::Path::exists,
    );
    let docker = docker.expect("DOCKER_HOST is an address");
    let engine = Engine::connect(&docker);
    let missing = engine.as_ref().err().map(ToString::to_string).or_else(|| static_busybox().err());
    if require_because("docker", missing) {
        test(&Fixture::new(engine.expect("connected")));
    }
    let podman = podman();
    if require_because("podman", podman.as_ref().err().cloned()) {
        test(&Fixture::new(podman.expect("connected")));
    }
}

/// A busybox that runs without libraries.
fn static_busybox() -> Result<PathBuf, String> {
    let found = find_program("busybox").ok_or("this host has no `busybox`")?;
    let program = fs::read(&found).map_err(|error| format!("{}: {error}", found.display()))?;
    // A program that needs a loader names it right behind the program headers, elf(5).
    const BEGINNING: usize = 4096;
    if program[..BEGINNING.min(program.len())].windows(9).any(|bytes| bytes == b"ld-linux-") {
        return Err(format!("{} is not static", found.display()));
    }
    Ok(found)
}

impl Fixture {
    fn new(engine: Engine) -> Self {
        let id = format!("bot-bottle-test-{}", random_hex(6));
        let fixture = Self { engine, image: format!("{id}:base"), id };
        let label = format!("LABEL {LABEL}={}", fixture.id);
        let files = tar(&[
            ("bin/busybox", 0o755, &busybox()),
            ("etc/passwd", 0o644, b"root:x:0:0::/:\n"),
            // A layer of its own: podman 4 fails where one is removed that another import has just found.
            ("etc/fixture", 0o644, fixture.id.as_bytes()),
        ]);
        fixture.engine.import(&fixture.image, &[label], &mut Cursor::new(files)).expect("imported");
        fixture
    }

    pub(crate) fn labels(&self) -> Labels {
        [(LABEL.to_owned(), self.id.clone())].into()
    }

    pub(crate) fn label(&self) -> String {
        format!("{LABEL}={}", self.id)
    }

    /// A name that only this fixture uses.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.id)
    }

    /// A container that runs a script of busybox's shell, with no more rights than it takes.
    pub(crate) fn script(&self, name: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            name: self.name(name),
            image: self.image.clone(),
            entrypoint: ["/bin/busybox", "sh", "-c", script].map(str::to_owned).into(),
            environment: [("PATH".to_owned(), "/bin".to_owned())].into(),
            labels: self.labels(),
            network: "none".to_owned(),
            drop_capabilities: vec!["ALL".to_owned()],
            log_driver: "none".to_owned(),
            open_stdin: true,
            stdin_once: true,
            ..ContainerSpec::default()
        }
    }

    /// Runs a container to its end with this standard input.
    pub(crate) fn run(&self, spec: &ContainerSpec, input: &[u8]) -> Outcome {
        self.engine.create_container(spec).expect("created");
        let (stdout, stderr) = self.exchange(&spec.name, input);
        let code = self.engine.wait_container(&spec.name, LONG).expect("waited").expect("it ended");
        self.engine.remove_container(&spec.name).expect("removed");
        Outcome { code, stdout, stderr }
    }

    /// Whether the engine is podman, of which is said why the test is not for it.
    pub(crate) fn is_podman(&self, reason: &str) -> bool {
        let is_podman = self.engine.info().expect("answered").kind == EngineKind::Podman;
        !require_because("docker's own", is_podman.then(|| reason.to_owned()))
    }

    /// Attaches to a container, starts it, and reads what it writes until it ends.
    pub(crate) fn exchange(&self, container: &str, input: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let errors = Arc::new(Mutex::new(Vec::new()));
        let collect = {
            let errors = Arc::clone(&errors);
            move |piece: &[u8]| errors.lock().expect("not poisoned").extend_from_slice(piece)
        };
        let mut attachment =
            runtime.block_on(attach(self.engine.address(), container, collect)).expect("attached");
        self.engine.start_container(container).expect("started");
        let mut output = Vec::new();
        runtime.block_on(async {
            let write = async {
                // A program that does not read its input may have ended.
                let _ = attachment.stdin.write_all(input).await;
                let _ = attachment.stdin.shutdown().await;
            };
            let read = tokio::time::timeout(LONG, attachment.stdout.read_to_end(&mut output));
            let ((), read) = tokio::join!(write, read);
            read.expect("it ends").expect("read");
        });
        let errors = errors.lock().expect("not poisoned").clone();
        (output, errors)
    }
}

/// What a container wrote, and its exit code.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i64,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Outcome {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let label = self.label();
        for container in self.engine.containers(&label).unwrap_or_default() {
            let _ = self.engine.remove_container(&container.id);
        }
        for image in self.engine.images(&label).unwrap_or_default() {
            for tag in image.tags.iter().chain([&image.id]) {
                let _ = self.engine.remove_image(tag);
            }
        }
        for network in self.engine.networks(&label).unwrap_or_default() {
            let _ = self.engine.remove_network(&network.id);
        }
        for volume in self.engine.volumes(&label).unwrap_or_default() {
            let _ = self.engine.remove_volume(&volume.name);
        }
    }
}

pub(crate) fn busybox() -> Vec<u8> {
    fs::read(static_busybox().expect("a static busybox")).expect("read")
}

/// A tar archive of files with their modes.
pub(crate) fn tar(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        archive.append_data(&mut header, path, *content).expect("archived");
    }
    archive.into_inner().expect("archived")
}
