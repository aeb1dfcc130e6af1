//! The parts that this executable plays when a test starts it again.

use std::{
    fs::File,
    io::Write,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
};

use bot_bottle_core::{
    bottle::{Agent, BackendName, Bottle, EffectiveBottle},
    error::Hint,
    gateway_config::GatewayStart,
    identity::Identity,
    plan::BottlePlan,
};
use bot_bottle_launch::{
    backend::Backend,
    cleanup, client,
    error::ExecError,
    home::BotBottleHome,
    host::programs::FoundProgram,
    inspect::{InspectRequest, WorkAccess},
    native::Native,
    renewal::RenewalRequest,
    request::{
        AgentExit, Beginning, ExecRequest, FaultKind, FaultMoment, FaultPoint, LaunchEvent, LaunchRequest,
        ProgramStatus, ResumableAgent, Step, Terminal,
    },
};
use serde::{Deserialize, Serialize};

use crate::recording::Recording;

/// What a launcher of a test is told, in a file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) plan: BottlePlan,
    pub(crate) environment: std::collections::BTreeMap<String, String>,
    pub(crate) home: PathBuf,
    pub(crate) operator_home: Option<PathBuf>,
    pub(crate) terminal: Terminal,
    pub(crate) fault: Option<(Step, FaultMoment, FaultKind)>,
    pub(crate) program: Option<FoundProgram>,
    pub(crate) secrets: GatewayStart,
    pub(crate) executable: PathBuf,
    /// The folder of the agent's conversations, for a run that can be resumed.
    pub(crate) conversations: Option<PathBuf>,
    /// Whether a run that ended goes on.
    pub(crate) is_resumed: bool,
    /// In the place of a native bottle.
    pub(crate) recording: Option<Recording>,
}

/// Plays a part, if the arguments name one.
pub(crate) fn play(arguments: &[String]) -> Option<ExitCode> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [_, "sandbox-init", control] => {
            bot_bottle_launch::sandbox_init(control.parse().expect("a descriptor"))
        }
        [_, "gateway", "--control-fd", control, "--config", config] => Some(gateway(control, config)),
        [_, "launch-order", order] => Some(launch(Path::new(order))),
        [_, "exec-order", home, identity, terminal, command @ ..] => {
            Some(exec(home, identity, terminal, command))
        }
        [_, "stop-order", home, identity] => {
            let identity: Identity = identity.parse().expect("an identity");
            Some(done(client::stop(&BotBottleHome::new(home), &identity)))
        }
        [_, "inspect-order", home, identity, access, script] => Some(inspect(home, identity, access, script)),
        [_, "shell", script, ..] => {
            let error = std::os::unix::process::CommandExt::exec(
                std::process::Command::new("/bin/sh").args(["-c", script]),
            );
            Some(done(Err(error)))
        }
        [_, "wait-for-input", ..] => {
            println!("waiting");
            Some(done(std::io::stdin().read_line(&mut String::new()).map(|_| ())))
        }
        [_, "cleanup-order", home] => {
            let home = BotBottleHome::new(home);
            let leftovers = cleanup::plan(&home).expect("planned");
            println!("{}", serde_json::to_string(&leftovers).expect("JSON"));
            Some(done(cleanup::apply(&home, &leftovers)))
        }
        _ => None,
    }
}

fn done<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(70)
        }
    }
}

fn gateway(control: &str, config: &str) -> ExitCode {
    let control = bot_bottle_launch::take_control(control.parse().expect("a descriptor"));
    let config = bot_bottle_gateway::read_config(Path::new(config)).expect("a configuration");
    done(bot_bottle_gateway::serve_controlled(&config, UnixStream::from(control)))
}

fn launch(order: &Path) -> ExitCode {
    let order: Order = serde_json::from_reader(File::open(order).expect("an order")).expect("an order");
    let request = LaunchRequest {
        plan: order.plan,
        secrets: order.secrets,
        renewal: RenewalRequest::default(),
        environment: order.environment,
        program: order.program,
        home: BotBottleHome::new(order.home.clone()),
        operator_home: order.operator_home,
        executable: order.executable,
        terminal: order.terminal,
        beginning: if order.is_resumed { Beginning::Resumed } else { Beginning::New },
        agent: order.conversations.map(|conversations| ResumableAgent {
            effective: EffectiveBottle {
                agent: Agent::default(),
                bottle_names: Vec::new(),
                bottle: Bottle::default(),
            },
            conversations,
        }),
        fault: order.fault.map(|(step, when, kind)| FaultPoint { step, when, kind }),
    };
    let backend = order.recording.as_ref().map_or(&Native as &dyn Backend, |recording| recording);
    let events = order.home.join("events");
    let mut log = File::create(events).expect("a log");
    let exit = bot_bottle_launch::launch(backend, request, &mut |event: LaunchEvent| {
        writeln!(log, "{event:?}").expect("logged");
    });
    match exit {
        Ok(exit) => {
            if let Some(ended_by) = &exit.ended_by {
                eprintln!("ended by {ended_by:?}");
            }
            ExitCode::from(exit.code())
        }
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(70)
        }
    }
}

fn exec(home: &str, identity: &str, terminal: &str, command: &[&str]) -> ExitCode {
    let request = ExecRequest {
        command: command.iter().map(ToString::to_string).collect(),
        environment: [("FROM_EXEC".to_owned(), "yes".to_owned())].into(),
        working_directory: None,
    };
    let terminal = if terminal == "pty" { Terminal::Pty } else { Terminal::Pipes };
    let identity: Identity = identity.parse().expect("an identity");
    code(client::exec(&BotBottleHome::new(home), &identity, &request, terminal))
}

fn inspect(home: &str, identity: &str, access: &str, script: &str) -> ExitCode {
    let request = InspectRequest {
        run: identity.parse().expect("an identity"),
        identity: "look-aaaaa".parse().expect("an identity"),
        backend: BackendName::Native,
        arguments: vec!["shell".to_owned(), script.to_owned()],
        access: if access == "write" { WorkAccess::Write } else { WorkAccess::Read },
        needs_home: false,
        time: None,
        home: BotBottleHome::new(home),
        operator_home: None,
        executable: std::env::current_exe().expect("this executable"),
    };
    let mut output = |bytes: &[u8]| std::io::stdout().write_all(bytes);
    match bot_bottle_launch::inspect(&Native, &request, &mut std::io::stdin(), &mut output) {
        Ok(inspected) => {
            eprintln!("{}", inspected.error);
            ExitCode::from(match inspected.status {
                ProgramStatus::Exited(code) => code,
                ProgramStatus::Signalled(signal) => 128 + signal,
            })
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(70)
        }
    }
}

fn code(exit: Result<AgentExit, ExecError>) -> ExitCode {
    match exit {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(70)
        }
    }
}
