//! `doctor`: checks the host's prerequisites and shows how to fix what is missing.

use std::{borrow::Cow, process::ExitCode};

use bot_bottle_core::{bottle::BackendName, error::Hint, provider};
use serde::Serialize;

use super::{
    agent,
    host_proxy::{self, HostProxy},
    prepare,
};
use crate::{
    exit::{CommandError, Failure},
    manifest_files, system,
    ui::{BAD, GOOD, Table, Ui, WARNING},
};

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Good,
    Missing,
    Broken,
}

/// Checks everything that a start needs. Fails if the native backend cannot start a bottle.
pub(super) fn run(ui: &Ui) -> Result<ExitCode, CommandError> {
    let mut checks = Vec::new();
    let host = prepare::implementation(BackendName::Native)?.prerequisites();
    for missing in &host.missing {
        checks.push(Check {
            name: "native backend".to_owned(),
            state: State::Broken,
            found: missing.problem.clone(),
            hint: Some(missing.remedy.clone()),
        });
    }
    if host.missing.is_empty() {
        checks.push(Check {
            name: "native backend".to_owned(),
            state: State::Good,
            found: "can start bottles".to_owned(),
            hint: None,
        });
    }
    for note in &host.notes {
        checks.push(Check {
            name: "native backend".to_owned(),
            state: State::Missing,
            found: note.clone(),
            hint: None,
        });
    }
    for backend in [BackendName::Docker, BackendName::Smolmachines] {
        checks.extend(other_backend(backend));
    }
    let home = prepare::home()?;
    for provider in provider::all() {
        let program = prepare::find_program(&home, provider);
        checks.push(match program {
            Ok(program) => Check {
                name: format!("{} program", provider.name()),
                state: State::Good,
                found: program.source.display().to_string(),
                hint: None,
            },
            Err(error) => Check {
                name: format!("{} program", provider.name()),
                state: State::Missing,
                found: error.to_string(),
                hint: error.hint().map(Cow::into_owned),
            },
        });
        let login = agent::login_path(provider, &system::home()?);
        let found = login.is_file();
        checks.push(Check {
            name: format!("{} login", provider.name()),
            state: if found { State::Good } else { State::Missing },
            found: if found { login.display().to_string() } else { format!("no {}", login.display()) },
            hint: None,
        });
    }
    checks.extend(upstream_proxy());
    let broken = checks.iter().any(|check| check.state == State::Broken);
    ui.result(&checks, |checks| render(checks));
    if broken {
        return Err(CommandError::new(
            Failure::Backend,
            "the native backend cannot start a bottle on this host",
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Which way the gateways go out, where this host or its settings know of a proxy.
fn upstream_proxy() -> Option<Check> {
    let check = |state, found, hint| Some(Check { name: "upstream proxy".to_owned(), state, found, hint });
    let manifest = manifest_files::load().ok()?;
    let named = manifest.settings().ok().and_then(|settings| settings.egress.upstream_proxy.as_ref());
    if let Some(proxy) = named {
        return check(State::Good, format!("gateways connect through {}", proxy.url), None);
    }
    let HostProxy { variable, proposal } = host_proxy::find()?;
    let Some(proposal) = proposal else {
        let found = format!("{variable} names a proxy that gateways cannot use; they connect directly");
        return check(
            State::Missing,
            found,
            Some("a gateway needs a proxy at `http://HOST:PORT`".to_owned()),
        );
    };
    let found =
        format!("{variable} names {}, which settings.yml does not: gateways connect directly", proposal.url);
    check(State::Missing, found, Some(proposal.advice()))
}

fn render(checks: &[Check]) -> String {
    let mut table = Table::default();
    for check in checks {
        let (mark, style) = match check.state {
            State::Good => ("ok", GOOD),
            State::Missing => ("--", WARNING),
            State::Broken => ("no", BAD),
        };
        table.row([
            (mark.to_owned(), style),
            (check.name.clone(), anstyle::Style::new()),
            (check.found.clone(), anstyle::Style::new()),
        ]);
        if let Some(hint) = &check.hint {
            table.row([
                (String::new(), style),
                (String::new(), style),
                (format!("→ {hint}"), crate::ui::HINT),
            ]);
        }
    }
    table.render()
}

/// What a backend lacks that is not needed, or what it has.
fn other_backend(backend: BackendName) -> Vec<Check> {
    let check = |state, found: String, hint| Check { name: format!("{backend} backend"), state, found, hint };
    let report = match prepare::implementation(backend) {
        Ok(backend) => backend.prerequisites(),
        Err(error) => {
            return vec![check(State::Missing, error.to_string(), error.hint().map(Cow::into_owned))];
        }
    };
    let missing = report.missing.iter();
    let missing: Vec<Check> = missing
        .map(|missing| check(State::Missing, missing.problem.clone(), Some(missing.remedy.clone())))
        .collect();
    let is_complete = missing.is_empty();
    let notes = report.notes.into_iter().filter(|_| is_complete);
    missing.into_iter().chain(notes.map(|note| check(State::Good, note, None))).collect()
}
