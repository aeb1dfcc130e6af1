//! An operator's home, and a service that wants a credential.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use anyhow::Result;
use bot_bottle_testkit::{Echo, FakeUpstream, Handler, find_program, has_user_namespaces, require};
use serde_json::Value;
use tempfile::TempDir;

/// An operator's home with a route whose credential is `API_TOKEN`.
pub(crate) struct Home {
    folder: TempDir,
    pub(crate) upstream: FakeUpstream,
}

impl Home {
    /// `None`, said aloud, where no bottle can be made.
    pub(crate) fn new() -> Result<Option<Self>> {
        Self::with(Echo)
    }

    /// The same with another service.
    pub(crate) fn with(service: impl Handler) -> Result<Option<Self>> {
        if !require("userns", has_user_namespaces()) || !require("curl", find_program("curl").is_some()) {
            return Ok(None);
        }
        let upstream = FakeUpstream::builder().host("api.test", service).start()?;
        let home = Self { folder: tempfile::tempdir()?, upstream };
        fs::create_dir_all(home.path(".bot-bottle/bottles"))?;
        fs::write(home.path("authority.pem"), home.upstream.certificate())?;
        fs::write(
            home.path(".bot-bottle/bottles/api.md"),
            "---\negress: {routes: [{host: api.test, auth: {scheme: Bearer, token_ref: API_TOKEN}}]}\n---\n",
        )?;
        Ok(Some(home))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where secrets come from, beside where the upstream is.
    pub(crate) fn secrets(&self, secrets: &str) -> Result<()> {
        let (authority, address) = (self.path("authority.pem"), self.upstream.address());
        let text = format!(
            "egress:\n  extra_ca: [{}]\n  resolve: {{api.test: \"{address}\"}}\nsecrets:\n{secrets}",
            authority.display()
        );
        Ok(fs::write(self.path(".bot-bottle/settings.yml"), text)?)
    }

    /// Runs a script in a bottle to its end.
    pub(crate) fn run(&self, options: &[&str], script: &str) -> Result<Output> {
        Ok(self.command(options, script).output()?)
    }

    pub(crate) fn command(&self, options: &[&str], script: &str) -> Command {
        let run = ["run", "--backend", "native", "--bottle", "api"];
        let mut command = self.bot_bottle(&[&run[..], options, &["--", "sh", "-c", script]].concat());
        command.env("BOT_BOTTLE_CLOCK", self.path("clock"));
        command
    }

    pub(crate) fn bot_bottle(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bot-bottle"));
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.folder.path());
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Puts a file of the operator's into the place of another, as programs that keep logins do.
    pub(crate) fn replace(&self, name: &str, content: &str) -> Result<()> {
        let (path, new) = (self.path(name), self.path("new"));
        fs::write(&new, content)?;
        Ok(fs::rename(new, path)?)
    }

    /// What the service was sent as a credential, in order.
    pub(crate) fn sent(&self) -> Vec<String> {
        let seen = self.upstream.requests();
        let sent = seen.iter().filter_map(|request| request.header("authorization"));
        sent.map(|value| value.trim_start_matches("Bearer ").to_owned()).collect()
    }

    /// All lines of receipts of the runs that are kept.
    pub(crate) fn receipts(&self) -> Result<Vec<Value>> {
        let mut lines = Vec::new();
        for run in fs::read_dir(self.path(".bot-bottle/state"))? {
            let text = fs::read_to_string(run?.path().join("receipts.jsonl")).unwrap_or_default();
            lines.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
        }
        Ok(lines)
    }
}
