//! What a test of the docker backend needs: an engine, a bot-bottle without libraries, and an image.

use std::{
    env, fs,
    io::Cursor,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use bot_bottle_engine::{BuildSpec, Engine, EngineAddress, EngineEnvironment};

use crate::{
    agents::InstalledAgent,
    require::{find_program, require_because},
};

/// A statically linked bot-bottle to be tested instead of the one that [`DockerHost::find`] builds.
const STATIC_VARIABLE: &str = "BOT_BOTTLE_TEST_STATIC";

/// Address of a podman service, for tests on it.
const PODMAN_VARIABLE: &str = "BOT_BOTTLE_TEST_PODMAN";

/// A tar archive of a Debian root file system with git and curl.
const ROOTFS_VARIABLE: &str = "BOT_BOTTLE_TEST_ROOTFS";

/// The image with busybox alone.
const BUSYBOX_IMAGE: &str = "bot-bottle-test:busybox";

/// The image with one step, of which only matters that it can be built.
const BUILD_IMAGE: &str = "bot-bottle-test:build";

/// Label of the images of tests. They stay, for the next test.
const LABEL: &str = "LABEL bot-bottle-test=image";

/// A host with a container engine.
#[derive(Debug, Clone)]
pub struct DockerHost {
    /// A bot-bottle that runs in any container.
    pub program: PathBuf,
    /// An image with busybox as every one of its programs.
    pub image: String,
}

impl DockerHost {
    /// Finds the engine, builds the program and makes the image, once for all tests of an executable. Where there
    /// is none, the test is skipped with the reason.
    #[must_use]
    pub fn find() -> Option<Self> {
        static FOUND: OnceLock<Result<DockerHost, String>> = OnceLock::new();
        let found = FOUND.get_or_init(Self::prepare);
        require_because("docker", found.as_ref().err().cloned()).then(|| found.clone().ok()).flatten()
    }

    /// The same on the podman service that [`PODMAN_VARIABLE`] names.
    #[must_use]
    pub fn find_podman() -> Option<Self> {
        static FOUND: OnceLock<Result<DockerHost, String>> = OnceLock::new();
        let found = FOUND.get_or_init(|| Self::on(&podman()?));
        require_because("podman", found.as_ref().err().cloned()).then(|| found.clone().ok()).flatten()
    }

    fn prepare() -> Result<Self, String> {
        Self::on(&engine()?)
    }

    pub(crate) fn on(engine: &Engine) -> Result<Self, String> {
        Ok(Self { image: busybox_image(engine)?, program: static_program()? })
    }

    /// Whether the engine can run the steps of a Dockerfile, which it does in its default network. Where it cannot,
    /// the test is skipped with the reason.
    #[must_use]
    pub fn builds(&self) -> bool {
        static REASON: OnceLock<Option<String>> = OnceLock::new();
        let reason = REASON.get_or_init(|| build_a_step(&self.image).err());
        require_because("docker-build", reason.clone())
    }

    /// An image of a whole distribution, from [`ROOTFS_VARIABLE`]; skipped with the reason where there is none.
    #[must_use]
    pub fn distribution(&self) -> Option<String> {
        let import = || -> Result<String, String> {
            let path =
                env::var(ROOTFS_VARIABLE).map_err(|_| format!("{ROOTFS_VARIABLE} names no archive"))?;
            let metadata = fs::metadata(&path).map_err(|error| format!("{path}: {error}"))?;
            let reference = format!("bot-bottle-test:rootfs-{}", metadata.len());
            let engine = engine()?;
            if engine.image(&reference).is_err() {
                let mut file = fs::File::open(&path).map_err(|error| format!("{path}: {error}"))?;
                let imported = engine.import(&reference, &[LABEL.to_owned()], &mut file);
                imported.map_err(|error| error.to_string())?;
            }
            Ok(reference)
        };
        let imported = import();
        require_because("rootfs", imported.as_ref().err().cloned()).then(|| imported.ok()).flatten()
    }
}

impl DockerHost {
    /// An image of the distribution with an agent program, which its `PATH` finds.
    ///
    /// # Errors
    /// When the image cannot be built.
    pub fn with_agent(distribution: &str, name: &str, agent: &InstalledAgent) -> anyhow::Result<String> {
        const INSIDE: &str = "/opt/agent-program";
        let version = agent.folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let base = distribution.rsplit_once(':').map_or(distribution, |(_, tag)| tag);
        let reference = format!("bot-bottle-test:{name}-{version}-{base}");
        let engine = engine().map_err(anyhow::Error::msg)?;
        if engine.image(&reference).is_ok() {
            return Ok(reference);
        }
        let program = agent.executable.strip_prefix(&agent.folder)?;
        let folder = program.parent().unwrap_or(Path::new("")).display();
        let dockerfile = format!(
            "FROM {distribution}\nCOPY program {INSIDE}\nENV PATH={INSIDE}/{folder}:/usr/local/bin:/usr/bin:/bin\n\
             {LABEL}\n"
        );
        let mut context = tar::Builder::new(tempfile::tempfile()?);
        context.follow_symlinks(false);
        let mut header = tar::Header::new_gnu();
        header.set_size(dockerfile.len() as u64);
        header.set_mode(0o644);
        context.append_data(&mut header, "Dockerfile", dockerfile.as_bytes())?;
        context.append_dir_all("program", &agent.folder)?;
        let mut context = context.into_inner()?;
        std::io::Seek::rewind(&mut context)?;
        let spec = BuildSpec { tag: reference.clone(), ..BuildSpec::default() };
        engine.build(&spec, &mut context, &mut |_| {})?;
        Ok(reference)
    }
}

/// The engine that `DOCKER_HOST` names, or the one at its usual socket.
///
/// # Errors
/// Why there is none.
pub fn engine() -> Result<Engine, String> {
    let host = env::var("DOCKER_HOST").ok();
    let environment = EngineEnvironment { docker_host: host.as_deref(), ..EngineEnvironment::default() };
    let address = EngineAddress::find(&environment, Path::exists).map_err(|error| error.to_string())?;
    Engine::connect(&address).map_err(|error| error.to_string())
}

/// The podman service that [`PODMAN_VARIABLE`] names.
///
/// # Errors
/// Why there is none.
pub fn podman() -> Result<Engine, String> {
    let named = env::var(PODMAN_VARIABLE);
    let named = named.map_err(|_| format!("{PODMAN_VARIABLE} names no service of podman"))?;
    let address = EngineAddress::parse(&named).map_err(|error| error.to_string())?;
    Engine::connect(&address).map_err(|error| error.to_string())
}

fn build_a_step(image: &str) -> Result<(), String> {
    let dockerfile = format!("FROM {image}\nRUN true\n");
    let mut header = tar::Header::new_gnu();
    header.set_size(dockerfile.len() as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    let appended = archive.append_data(&mut header, "Dockerfile", dockerfile.as_bytes());
    let archive = appended.and_then(|()| archive.into_inner()).map_err(|error| error.to_string())?;
    let spec = BuildSpec { tag: BUILD_IMAGE.to_owned(), no_cache: true, ..BuildSpec::default() };
    let built = engine()?.build(&spec, &mut archive.as_slice(), &mut |_| {});
    built.map(drop).map_err(|error| error.to_string())
}

fn busybox_image(engine: &Engine) -> Result<String, String> {
    if engine.image(BUSYBOX_IMAGE).is_ok() {
        return Ok(BUSYBOX_IMAGE.to_owned());
    }
    let path = find_program("busybox").ok_or("this host has no `busybox` (Debian: busybox-static)")?;
    let program = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let list = Command::new(&path).arg("--list").output().map_err(|error| error.to_string())?;
    let mut archive = tar::Builder::new(Vec::new());
    let mut write = || -> std::io::Result<()> {
        for (folder, mode) in
            [("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("usr", 0o755), ("usr/bin", 0o755)]
        {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            header.set_mode(mode);
            archive.append_data(&mut header, folder, std::io::empty())?;
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(program.len() as u64);
        header.set_mode(0o755);
        archive.append_data(&mut header, "bin/busybox", program.as_slice())?;
        for name in String::from_utf8_lossy(&list.stdout).lines().filter(|name| *name != "busybox") {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, format!("bin/{name}"), "/bin/busybox")?;
        }
        Ok(())
    };
    write().map_err(|error| error.to_string())?;
    let archive = archive.into_inner().map_err(|error| error.to_string())?;
    let imported = engine.import(BUSYBOX_IMAGE, &[LABEL.to_owned()], &mut Cursor::new(archive));
    imported.map_err(|error| error.to_string())?;
    Ok(BUSYBOX_IMAGE.to_owned())
}

/// A bot-bottle without libraries. The first build takes minutes: it compiles every dependency anew.
///
/// # Errors
/// When it cannot be built.
pub fn static_program() -> Result<PathBuf, String> {
    if let Some(named) = env::var_os(STATIC_VARIABLE) {
        return Ok(named.into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("/"));
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // What cargo sets for tests would make it build everything again.
    let mut build = Command::new(cargo);
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_")) {
        build.env_remove(name);
    }
    let built = build
        .args(["build-static", "--quiet", "--message-format=json-render-diagnostics"])
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    // A program that does not compile is a failure of the test and no property of the host.
    assert!(built.status.success(), "`cargo build-static` failed");
    let messages = String::from_utf8_lossy(&built.stdout);
    let mut executables = messages.lines().rev().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executables.next().ok_or_else(|| "`cargo build-static` named no executable".to_owned())
}
