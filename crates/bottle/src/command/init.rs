//! `init`: a first bottle and agent that work, for the agent programs and logins of this host.

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use bot_bottle_core::{
    error::IoContext,
    provider::{self, Provider, TokenLogin},
};
use serde::Serialize;

use super::{agent, host_proxy, prepare};
use crate::{arguments::Init, exit::CommandError, manifest_files, system, ui::Ui};

/// How a provider's agent will log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Login {
    /// By a variable with a token, which is set or must be set.
    Token { login: TokenLogin, set: bool },
    /// By the host's own login.
    Host,
}

/// Who the operator is for git on this host.
#[derive(Debug, Default)]
struct GitIdentity {
    name: Option<String>,
    email: Option<String>,
}

impl GitIdentity {
    /// Asks git for the operator's own configuration, in a folder where no repository adds its own.
    fn of_host() -> Self {
        let ask = |key: &str| {
            let mut git = Command::new("git");
            let output = git.args(["config", "--global", "--get", key]).current_dir("/").output().ok()?;
            let value = String::from_utf8(output.stdout).ok()?.trim().to_owned();
            (output.status.success() && !value.is_empty()).then_some(value)
        };
        Self { name: ask("user.name"), email: ask("user.email") }
    }

    /// The lines of a bottle's file; none where git knows nobody.
    fn frontmatter(&self) -> String {
        // A JSON string is a YAML one (YAML 1.2, section 1.3).
        let fields = [("name", &self.name), ("email", &self.email)];
        let known = fields.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        let known: Vec<_> =
            known.map(|(key, value)| format!("{key}: {}", serde_json::Value::from(value.as_str()))).collect();
        match known.as_slice() {
            [] => String::new(),
            fields => format!(
                "git:\n  user: {{{}}}   # as on this host; the agent's commits have it\n",
                fields.join(", ")
            ),
        }
    }
}

/// The written files and the next steps.
#[derive(Debug, Serialize)]
struct Written {
    files: Vec<PathBuf>,
    next: Vec<String>,
}

/// Writes the files, and overwrites existing ones only with `--force`.
pub(super) fn run(init: &Init, ui: &Ui) -> Result<ExitCode, CommandError> {
    let home = system::home()?;
    let providers = match &init.provider {
        Some(name) => vec![provider::by_name(name).ok_or_else(|| {
            let known: Vec<&str> = provider::all().iter().map(|provider| provider.name()).collect();
            CommandError::usage(format!("`{name}` is not a provider"))
                .with_hint(format!("use one of: {}", known.join(", ")))
        })?],
        None => {
            let found: Vec<_> =
                provider::all().into_iter().filter(|provider| has_login(*provider, &home)).collect();
            if found.is_empty() { vec![provider::all()[0]] } else { found }
        }
    };

    let root = system::bot_bottle_home()?;
    let identity = GitIdentity::of_host();
    let mut files = Vec::new();
    let mut next = Vec::new();
    for provider in providers {
        let login = login(provider, &home);
        files.push((
            root.join(format!("bottles/{}.md", provider.name())),
            bottle_file(provider, login, &identity),
        ));
        files.push((root.join(format!("agents/{}-developer.md", provider.name())), agent_file(provider)));
        if let Login::Token { login: TokenLogin { variable, command }, set: false } = login {
            next.push(format!("make a token with `{command}` and export it as {variable}"));
        }
        if prepare::find_program(&prepare::home()?, provider).is_err() {
            next.push(format!("bot-bottle provider install {}", provider.name()));
        }
        next.push(format!("cd YOUR-PROJECT && bot-bottle start {}-developer --cwd", provider.name()));
    }
    let mut settings = None;
    if let Some(proposal) = host_proxy::find().and_then(|found| found.proposal) {
        let path = root.join("settings.yml");
        let manifest = manifest_files::load()?;
        let is_named = manifest.settings().is_ok_and(|settings| settings.egress.upstream_proxy.is_some());
        if path.symlink_metadata().is_err() {
            next.splice(..0, proposal.password_step());
            settings = Some((path, proposal.settings_file()));
        } else if !is_named {
            next.insert(0, proposal.advice());
        }
    }
    if !init.force
        && let Some((there, _)) = files.iter().find(|(path, _)| path.symlink_metadata().is_ok())
    {
        return Err(CommandError::failed(format!("{} is already there", there.display()))
            .with_hint("pass `--force` to write over it"));
    }
    // Never over one that is there: it has more in it than this.
    files.extend(settings);
    for (path, text) in &files {
        write(path, text).io_context(|| format!("{} cannot be written", path.display()))?;
    }
    let written = Written { files: files.into_iter().map(|(path, _)| path).collect(), next };
    ui.result(&written, |written| {
        let mut text: String =
            written.files.iter().map(|file| format!("wrote {}\n", file.display())).collect();
        text.push_str("\nNext:\n");
        written.next.iter().for_each(|step| text.push_str(&format!("  {step}\n")));
        text
    });
    Ok(ExitCode::SUCCESS)
}

fn has_login(provider: &dyn Provider, home: &Path) -> bool {
    agent::login_path(provider, home).is_file()
        || matches!(login(provider, home), Login::Token { set: true, .. })
}

/// Prefers a token over the host's login, because it can be created for this purpose and revoked.
fn login(provider: &dyn Provider, home: &Path) -> Login {
    let on_host = agent::login_path(provider, home).is_file();
    match provider.token_login() {
        Some(login) => {
            let set = system::variable(login.variable).is_some();
            if set || !on_host { Login::Token { login, set } } else { Login::Host }
        }
        None => Login::Host,
    }
}

fn bottle_file(provider: &dyn Provider, login: Login, identity: &GitIdentity) -> String {
    let login = match login {
        Login::Token { login, .. } => {
            format!("auth_token: {}   # the NAME of the variable, never the token", login.variable)
        }
        Login::Host => {
            format!("forward_host_credentials: true   # the gateway uses ~/{}", provider.credential_file())
        }
    };
    format!(
        "---\n\
         agent_provider:\n\
         \x20 template: {}\n\
         \x20 {login}\n\
         {}\
         egress:\n\
         \x20 routes: []                  # what the agent may reach besides its model; empty: nothing\n\
         limits: {{memory: 8GiB, pids: 2048, time: 8h}}\n\
         ---\n\
         Written by `bot-bottle init`. A bottle is the boundary: only files in this folder can draw one.\n",
        provider.name(),
        identity.frontmatter()
    )
}

fn agent_file(provider: &dyn Provider) -> String {
    format!(
        "---\n\
         bottle: {}\n\
         ---\n\
         You work on the project in your workspace. It is a copy: the operator fetches what you finish.\n\
         What you may reach on the network is limited; a refusal says what was refused and why.\n",
        provider.name()
    )
}

/// Writes a file that only the operator can read, in folders that only they can enter.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
