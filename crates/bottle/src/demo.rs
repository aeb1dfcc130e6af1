//! `demo`: runs an agent in a real bottle that works and then tries to get out. It needs no network, no
//! account and no manifest: the hosts that the agent calls are embedded, and the operator's files are written
//! into a temporary folder.

use std::{io::Write, process::ExitCode};

use bot_bottle_core::{plan::PROXY_ADDRESS, provider::GuestPaths};
use bot_bottle_probe::{
    Script, ScriptError,
    canaries::{Canaries, ContextInput},
    judge,
    operator_fixture::OperatorFixture,
    run_script,
};

use crate::{
    exit::{CommandError, Failure},
    system,
    ui::Ui,
};

mod child;
mod evidence;
mod folder;
mod result;

use evidence::Evidence;
use result::DemoResult;

/// A selection of the table, at least one attempt of each group.
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

/// Shows a bottle at work. Succeeds only if every ordinary step worked and every way out was refused.
pub(crate) fn run(ui: &Ui) -> Result<ExitCode, CommandError> {
    let name = letters(system::random::<5>()?);
    let fixture = folder::create(&system::bot_bottle_home()?, &name).map_err(CommandError::from_error)?;
    let canaries = Canaries::start(fixture.unix_socket(), &[]).map_err(CommandError::from_error)?;
    fixture.write(&canaries).map_err(CommandError::from_error)?;

    let script = Script {
        context: canaries.context(context_input(&fixture)?),
        benign_work: true,
        attempts: Some(ATTEMPTS.map(str::to_owned).to_vec()),
    };
    let script = serde_json::to_string(&script).map_err(|error| {
        CommandError::new(Failure::Internal, format!("the script cannot be written: {error}"))
    })?;
    ui.progress("Starting a bottle, with an agent in it that works and then tries to get out …");
    let ended = child::run(&fixture, canaries.credential(), &script, ui)?;
    ended.require_a_report()?;

    let judgement = judge(&ended.report, canaries.leaks());
    let evidence = Evidence::gather(&judgement, &canaries, &fixture, &ended);
    let result = DemoResult::new(judgement, evidence);
    ui.result(&result, DemoResult::text);
    Ok(if result.holds { ExitCode::SUCCESS } else { Failure::Failed.into() })
}

/// Runs the scripted agent; this is the part inside the bottle.
pub(crate) fn run_agent(script: &str) -> Result<ExitCode, CommandError> {
    let mut output = std::io::stdout().lock();
    run_script(script, &mut output).map_err(|error| {
        let failure = match error {
            ScriptError::Unreadable(_) | ScriptError::UnknownAttempt(_) => Failure::Usage,
            ScriptError::Output(_) => Failure::Failed,
        };
        CommandError::from_error(error).with_failure(failure)
    })?;
    output.flush().map_err(|error| CommandError::from_error(ScriptError::Output(error)))?;
    Ok(ExitCode::SUCCESS)
}

fn context_input(fixture: &OperatorFixture) -> Result<ContextInput, CommandError> {
    let proxy = PROXY_ADDRESS
        .parse()
        .map_err(|_| CommandError::new(Failure::Internal, format!("`{PROXY_ADDRESS}` is not an address")))?;
    let session_bus = system::variable("DBUS_SESSION_BUS_ADDRESS")
        .and_then(|address| address.strip_prefix("unix:path=").map(str::to_owned));
    let sockets = [system::variable("SSH_AUTH_SOCK"), session_bus];
    Ok(ContextInput {
        proxy,
        ca_bundle: GuestPaths::default().ca_bundle,
        host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        operator_home: fixture.operator_home(),
        bot_bottle_home: fixture.bot_bottle_home(),
        secret_file: fixture.secret_file(),
        operator_sockets: sockets.into_iter().flatten().map(Into::into).collect(),
    })
}

/// Letters and digits, one for each random byte.
fn letters<const LENGTH: usize>(random: [u8; LENGTH]) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    random.map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).iter().collect()
}
