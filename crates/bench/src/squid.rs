//! squid, which terminates TLS ("bumps" connections) where it is built with OpenSSL.

use std::{
    env, fs,
    net::SocketAddr,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{
    authority::Files,
    contender::{HOSTS, host},
};

/// The program that is installed, and the one that it has certificates made by.
#[derive(Clone, Debug)]
pub(crate) struct Squid {
    program: PathBuf,
    certificate_generator: PathBuf,
}

/// Whom squid runs as where the bench is run by root: it refuses to be root itself.
const NOBODY: u32 = 65534;

impl Squid {
    /// The one on `PATH` or in `/usr/sbin`, which is not on the `PATH` of every user; `None` if there is none that
    /// can terminate TLS.
    pub(crate) fn installed() -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        let program = folders.map(|folder| folder.join("squid")).find(|path| path.is_file())?;
        // It tells the options of its build, among them where the programs that belong to it are.
        let told = Command::new(&program).arg("-v").output().ok()?.stdout;
        let told = String::from_utf8_lossy(&told);
        let mut options = told.split(|character: char| character == '\'' || character.is_whitespace());
        let folder = options.find_map(|option| option.strip_prefix("--libexecdir="))?;
        let certificate_generator = Path::new(folder).join("security_file_certgen");
        certificate_generator.is_file().then_some(Self { program, certificate_generator })
    }

    /// How it is started, with an empty database of certificates.
    pub(crate) fn command(
        &self,
        files: &Files,
        address: SocketAddr,
        upstream: SocketAddr,
    ) -> Result<Command> {
        let folder = files.folder().join("squid");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        let hosts: String =
            (0..HOSTS).map(|number| format!("{} {}\n", upstream.ip(), host(number))).collect();
        fs::write(folder.join("hosts"), hosts)?;
        let settings = folder.join("squid.conf");
        fs::write(&settings, self.settings(files, &folder, address))?;
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            chown(&folder, Some(NOBODY), Some(NOBODY))?;
            fs::set_permissions(files.folder(), fs::Permissions::from_mode(0o711))?;
        }
        let command = |program: &Path| {
            let mut command = Command::new(program);
            if is_root {
                command.uid(NOBODY).gid(NOBODY);
            }
            command
        };
        let made = command(&self.certificate_generator)
            .args(["-c", "-s"])
            .arg(folder.join("certificates"))
            .args(["-M", "16MB"])
            .stdout(Stdio::null())
            .status()
            .context("squid's certificate generator cannot be started")?;
        ensure!(made.success(), "squid's database of certificates cannot be made");
        let mut squid = command(&self.program);
        squid.args(["-N", "-d", "1", "-f"]).arg(settings);
        Ok(squid)
    }

    /// Connections are bumped at the first step: the certificate is made for the name in CONNECT before the
    /// upstream is asked anything, as the other proxies do. Nothing is cached, and each request is a line of the
    /// access log.
    fn settings(&self, files: &Files, folder: &Path, address: SocketAddr) -> String {
        let (authority, key) = (files.authority(), files.authority_key());
        let (authority, key) = (authority.display(), key.display());
        let (generator, folder) = (self.certificate_generator.display(), folder.display());
        format!(
            "http_port {address} ssl-bump tls-cert={authority} tls-key={key}
sslcrtd_program {generator} -s {folder}/certificates -M 16MB
ssl_bump bump all
tls_outgoing_options cafile={authority}
http_access allow all
hosts_file {folder}/hosts
cache deny all
access_log stdio:{folder}/access.log
cache_log /dev/null
coredump_dir {folder}
pid_filename none
pinger_enable off
shutdown_lifetime 0 seconds
"
        )
    }
}
