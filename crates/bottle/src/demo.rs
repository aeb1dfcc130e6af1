//! `demo`: an agent at work in a real bottle, and a dozen ways out refused. It needs no network, no account and
//! no manifest: the hosts that the agent calls are embedded, and what the operator would have written is written
//! into a folder of its own, which is gone afterwards.

use std::{io::Write, process::ExitCode};

use bot_bottle_core::{plan::PROXY_ADDRESS, provider::GuestPaths};
use bot_bottle_probe::{
    Script, ScriptError, judge, run_script,
    setting::Setting,
    stage::{Places, Stage, StageOptions},
};

use crate::{
    edge,
    exit::{CommandError, Failure},
    ui::Ui,
};

mod child;
mod evidence;
mod setting;
mod telling;

use evidence::Evidence;

/// The host that the agent works with, and that a credential is injected for.
const ALLOWED_HOST: &str = "api.demo.test";

/// A host without a credential.
const OPEN_HOST: &str = "pages.demo.test";

/// A host that no route names.
const UNLISTED_HOST: &str = "attacker.test";

/// The most telling attempts of the table.
const ATTEMPTS: [&str; 16] = [
    "names.unlisted-connect",
    "names.address-with-forged-host",
    "names.server-name-forged",
    "names.localhost",
    "dns.public-udp",
    "protocols.tcp-public",
    "protocols.tcp-host-loopback",
    "protocols.udp-host-loopback",
    "protocols.unix-path",
    "http.path",
    "http.cleartext-credential",
    "git.push-pack",
    "kernel.mount",
    "kernel.namespaces-of-first-process",
    "operator.secret-file",
    "operator.credential-in-files",
];

/// Shows a bottle at work. Succeeds only if every honest step worked and every way out was refused.
pub(crate) fn run(ui: &Ui) -> Result<ExitCode, CommandError> {
    let credential = format!("demo_{}", letters(edge::random::<40>()?));
    let mark = format!("mark-{}", letters(edge::random::<20>()?));
    let name = letters(edge::random::<5>()?);
    let setting = setting::make(&edge::bot_bottle_home()?, &name).map_err(CommandError::failed)?;

    let stage = Stage::start(StageOptions {
        allowed_host: ALLOWED_HOST.to_owned(),
        open_host: OPEN_HOST.to_owned(),
        unlisted_host: UNLISTED_HOST.to_owned(),
        credential: credential.clone(),
        mark,
        unix_socket: setting.unix_socket(),
        abstract_socket: format!("bot-bottle-demo-{name}"),
        host_addresses: Vec::new(),
    })
    .map_err(|error| CommandError::failed(format!("the demo cannot be set up: {error}")))?;
    setting.write(&stage).map_err(CommandError::failed)?;

    let script = Script {
        scene: stage.scene(places(&setting)?),
        honest: true,
        attempts: Some(ATTEMPTS.map(str::to_owned).to_vec()),
    };
    let script = serde_json::to_string(&script).map_err(|error| {
        CommandError::new(Failure::Internal, format!("the script cannot be written: {error}"))
    })?;
    ui.progress("Starting a bottle, with an agent in it that works and then tries to get out …");
    let ended = child::run(&setting, &credential, &script, ui)?;
    ended.require_a_report()?;

    let judgement = judge(&ended.report, stage.sightings());
    let evidence = Evidence::gather(&judgement, &stage, &setting, &ended, &credential);
    let telling = telling::Telling::new(judgement, evidence);
    ui.result(&telling, telling::Telling::text);
    Ok(if telling.holds { ExitCode::SUCCESS } else { Failure::Failed.into() })
}

/// Plays the agent, inside the bottle.
pub(crate) fn run_agent(script: &str) -> Result<ExitCode, CommandError> {
    let mut output = std::io::stdout().lock();
    run_script(script, &mut output).map_err(|error| match error {
        ScriptError::Unreadable(_) | ScriptError::UnknownAttempt(_) => CommandError::usage(error),
        ScriptError::Output(_) => CommandError::failed(error),
    })?;
    output.flush().map_err(|error| CommandError::failed(ScriptError::Output(error)))?;
    Ok(ExitCode::SUCCESS)
}

fn places(setting: &Setting) -> Result<Places, CommandError> {
    let proxy = PROXY_ADDRESS
        .parse()
        .map_err(|_| CommandError::new(Failure::Internal, format!("`{PROXY_ADDRESS}` is not an address")))?;
    let session_bus = edge::variable("DBUS_SESSION_BUS_ADDRESS")
        .and_then(|address| address.strip_prefix("unix:path=").map(str::to_owned));
    let sockets = [edge::variable("SSH_AUTH_SOCK"), session_bus];
    Ok(Places {
        proxy,
        ca_bundle: GuestPaths::default().ca_bundle,
        host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        operator_home: setting.operator_home(),
        bot_bottle_home: setting.bot_bottle_home(),
        secret_file: setting.secret_file(),
        operator_sockets: sockets.into_iter().flatten().map(Into::into).collect(),
    })
}

/// Letters and digits, one for each random byte.
fn letters<const LENGTH: usize>(random: [u8; LENGTH]) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    random.map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).iter().collect()
}
