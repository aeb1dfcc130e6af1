//! Secrets that come from a command or a file of the operator's, in a real native bottle.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use anyhow::{Result, ensure};
use bot_bottle_testkit::{
    Echo, FakeUpstream, Needle, find_program, has_user_namespaces, random_secret, require, search_tree,
};
use tempfile::TempDir;

/// An operator's home with a route whose credential is `API_TOKEN`.
struct Home {
    folder: TempDir,
    upstream: FakeUpstream,
}

impl Home {
    /// `None`, said aloud, where no bottle can be made.
    fn new() -> Result<Option<Self>> {
        if !require("userns", has_user_namespaces()) || !require("curl", find_program("curl").is_some()) {
            return Ok(None);
        }
        let upstream = FakeUpstream::builder().host("api.test", Echo).start()?;
        let home = Self { folder: tempfile::tempdir()?, upstream };
        fs::create_dir_all(home.path(".bot-bottle/bottles"))?;
        fs::write(home.path("authority.pem"), home.upstream.certificate())?;
        fs::write(
            home.path(".bot-bottle/bottles/api.md"),
            "---\negress: {routes: [{host: api.test, auth: {scheme: Bearer, token_ref: API_TOKEN}}]}\n---\n",
        )?;
        Ok(Some(home))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where secrets come from, beside where the upstream is.
    fn secrets(&self, secrets: &str) -> Result<()> {
        let (authority, address) = (self.path("authority.pem"), self.upstream.address());
        let text = format!(
            "egress:\n  extra_ca: [{}]\n  resolve: {{api.test: \"{address}\"}}\nsecrets:\n{secrets}",
            authority.display()
        );
        Ok(fs::write(self.path(".bot-bottle/settings.yml"), text)?)
    }

    fn run(&self, options: &[&str], script: &str) -> Result<Output> {
        let run = ["run", "--backend", "native", "--bottle", "api"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_bot-bottle"));
        command.args([&run[..], options, &["--", "sh", "-c", script]].concat());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.folder.path());
        Ok(command.current_dir(self.folder.path()).stdin(Stdio::null()).output()?)
    }
}

#[test]
fn a_secret_comes_from_a_command_or_a_file_each_time_that_a_bottle_starts() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let token = home.path("token");
    let command = format!(
        "  API_TOKEN: {{command: [sh, -c, \"echo x >> asked; cat {}\"]}}\n  OTHER: {{command: [sh, -c, \"echo x >> \
         other\"]}}\n",
        token.display()
    );
    home.secrets(&command)?;
    let shown = home.run(&["--dry-run"], "true")?;
    let preflight = String::from_utf8_lossy(&shown.stdout).into_owned();
    ensure!(
        shown.status.success() && preflight.contains("API_TOKEN comes from the command `sh`"),
        "{shown:?}"
    );
    ensure!(!home.path("asked").exists(), "nothing is started that needs it");

    let values = [random_secret("first_"), random_secret("second_"), random_secret("third_")];
    for (number, value) in values.iter().enumerate() {
        fs::write(&token, format!("{value}\n"))?;
        if number == 2 {
            home.secrets("  API_TOKEN: {file: ~/token}\n")?;
        }
        let output = home.run(&[], "env; curl -sS -m 60 -o /dev/null https://api.test/")?;
        ensure!(output.status.success(), "{output:?}");
        let printed = String::from_utf8([output.stdout, output.stderr].concat())?;
        ensure!(!printed.contains(value.as_str()), "{printed}");
    }
    let seen = home.upstream.requests();
    let sent: Vec<_> = seen.iter().filter_map(|request| request.header("authorization")).collect();
    let expected: Vec<_> = values.iter().map(|value| format!("Bearer {value}")).collect();
    ensure!(sent == expected, "{sent:?}");
    ensure!(fs::read_to_string(home.path("asked"))?.lines().count() == 2, "once for each bottle");
    ensure!(!home.path("other").exists(), "no route refers to it");
    let needles: Vec<_> = values.iter().map(|value| Needle::new("a secret", value)).collect();
    let found = search_tree(&home.path(".bot-bottle/state"), &[], &needles);
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}

#[test]
fn a_source_without_a_value_is_refused_before_anything_starts() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    for (source, why) in [
        ("command: [sh, -c, \"echo hidden-value; exit 3\"]", "it failed (exit status: 3)"),
        ("command: [sh, -c, \"echo hidden-value; echo hidden-value\"]", "it gave several lines"),
        ("command: [sh, -c, \"echo Bearer hidden-value\"]", "holds the scheme"),
        ("command: [sh, -c, \"echo \\\\\\\"hidden-value\\\\\\\"\"]", "holds quotes"),
        ("command: [no-such-program]", "it cannot be started"),
        ("file: ~/no-such-file", "No such file"),
    ] {
        home.secrets(&format!("  API_TOKEN: {{{source}}}\n"))?;
        let output = home.run(&[], "true")?;
        let message = String::from_utf8(output.stderr.clone())?;
        ensure!(output.status.code() == Some(1) && message.contains("API_TOKEN"), "{source}: {output:?}");
        ensure!(message.contains(why) && !message.contains("hidden-value"), "{source}: {message}");
        ensure!(message.lines().filter(|line| line.starts_with("error")).count() == 1, "{source}: {message}");
        let left = fs::read_dir(home.path(".bot-bottle/state")).into_iter().flatten().flatten();
        ensure!(left.count() == 0, "{source}: something was started");
    }
    Ok(())
}
