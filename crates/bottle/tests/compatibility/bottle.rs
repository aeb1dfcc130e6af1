//! A bottle with this test's routes, and what the host must have for a client.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use bot_bottle_testkit::{FakeUpstream, has_user_namespaces, random_hex, require, require_because};
use tempfile::TempDir;

use crate::table::Need;

/// Names the folder that holds the clients that no package of the system has, as CI fills it.
pub(crate) const CLIENTS_VARIABLE: &str = "BOT_BOTTLE_TEST_CLIENTS";

/// Everything may be asked of it.
pub(crate) const OPEN: &str = "open.test";

/// Only what is below `/open` may be asked of it.
pub(crate) const LIMITED: &str = "limited.test";

/// The folders of programs that every bottle sees; those in a user's home (nvm, pyenv) are in none.
const PROGRAMS: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// Whether this host has what a client needs; if not, says so.
pub(crate) fn has(name: &str, needs: &[Need], folder: Option<&str>) -> bool {
    let found = needs.iter().all(|need| match need {
        Need::Program(name) => PROGRAMS.iter().any(|folder| Path::new(folder).join(name).is_file()),
        Need::Command([program, arguments @ ..]) => {
            let mut command = Command::new(program);
            command.args(arguments).env("PATH", PROGRAMS.join(":")).stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        }
        Need::Command([]) => true,
    });
    let installed = folder.is_none_or(|folder| workspace(folder).is_some());
    let missing = (!found || !installed).then(|| format!("this host has no `{name}`"));
    require("userns", has_user_namespaces()) && require_because("clients", missing)
}

/// The folder of a client that CI installed.
pub(crate) fn workspace(folder: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(env::var_os(CLIENTS_VARIABLE)?).join(folder);
    folder.is_dir().then_some(folder)
}

/// An operator's home whose one bottle may ask the names of an upstream.
pub(crate) struct Operator {
    folder: TempDir,
    /// The value of `TOKEN` in the operator's environment.
    token: String,
}

impl Operator {
    pub(crate) fn new(upstream: &FakeUpstream) -> Result<Self> {
        let limited = format!("{LIMITED}\n      matches: [{{paths: [{{type: prefix, value: /open}}]}}]");
        Self::with_routes(upstream, &[&format!("{OPEN}\n      git: {{fetch: true}}"), &limited], "")
    }

    /// With routes as they are written behind `host:`, and a credential.
    pub(crate) fn with_routes(upstream: &FakeUpstream, routes: &[&str], token: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let home = folder.path().join("home");
        fs::create_dir_all(home.join("bottles"))?;
        fs::create_dir(folder.path().join("empty"))?;
        fs::write(home.join("ca.pem"), upstream.certificate())?;
        let address = upstream.address();
        let resolve: Vec<_> = upstream.hosts().map(|host| format!("{host}: \"{address}\"")).collect();
        fs::write(
            home.join("settings.yml"),
            format!(
                "egress:\n  extra_ca: [{}]\n  resolve: {{{}}}\n",
                home.join("ca.pem").display(),
                resolve.join(", ")
            ),
        )?;
        fs::write(
            home.join("bottles/clients.md"),
            format!(
                "---\nlimits: {{time: 10m}}\negress:\n  routes:\n    - host: {}\n---\n",
                routes.join("\n    - host: ")
            ),
        )?;
        Ok(Self { folder, token: token.to_owned() })
    }

    /// Runs steps, each some commands of bash, one after the other in one bottle. Returns what each printed
    /// on both streams; whether it succeeded is the last line, as `exit 0`.
    pub(crate) fn run(&self, folder: Option<&Path>, steps: &[String]) -> Result<Vec<String>> {
        let mark = format!("end of step {}", random_hex(8));
        let mut script = String::new();
        for step in steps {
            script += &format!("(\n{step}\n) 2>&1\nprintf '\\nexit %s\\n%s\\n' $? '{mark}'\n");
        }
        let output = Command::new(env!("CARGO_BIN_EXE_bot-bottle"))
            .args(["run", "--bottle", "clients", "--backend", "native", "--cwd"])
            // The clients may be installed in a folder of a checkout, which is not theirs.
            .args(["--without-git", "--", "bash", "-s"])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin")
            .env("HOME", self.folder.path())
            .env("BOT_BOTTLE_HOME", self.folder.path().join("home"))
            .env("TOKEN", &self.token)
            .current_dir(folder.unwrap_or(&self.folder.path().join("empty")))
            .stdin(fs::File::open(self.script(&script)?)?)
            .output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let mut parts: Vec<_> = printed.split(&format!("{mark}\n")).map(str::to_owned).collect();
        let rest = parts.pop().context("splitting gives one part at least")?;
        ensure!(
            parts.len() == steps.len() && rest.is_empty(),
            "{}: {printed}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(parts)
    }

    fn script(&self, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join("script");
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// Commands of bash that write a file.
pub(crate) fn writes(name: &str, text: &str) -> String {
    let end = format!("END-{}", random_hex(8));
    format!("cat > {name} <<'{end}'\n{}\n{end}", text.trim_end())
}
