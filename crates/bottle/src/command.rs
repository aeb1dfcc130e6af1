//! One file per command.

use std::process::ExitCode;

use crate::{
    arguments::{Arguments, Command},
    demo,
    exit::CommandError,
    ui::Ui,
};

mod agent;
mod cleanup;
mod commit;
pub(crate) mod container;
mod cp;
mod described;
mod diff;
mod doctor;
mod exec;
mod gateway;
mod host_proxy;
mod info;
mod init;
mod inspect;
mod list;
pub(crate) mod machine;
mod prepare;
mod provider;
mod pull;
mod quarantine;
mod resume;
mod run;
mod start;
mod stop;
mod work;

/// Runs the command.
pub(crate) fn run(arguments: Arguments, ui: &Ui) -> Result<ExitCode, CommandError> {
    match arguments.command {
        Command::Start(start) => start::run(&start, ui),
        Command::Resume(resume) => resume::run(&resume, ui),
        Command::Run(run) => run::run(&run, ui),
        Command::Exec(exec) => exec::run(&exec, ui),
        Command::Stop(stop) => stop::run(&stop, ui),
        Command::List(list) => list::run(&list, ui),
        Command::Info(info) => info::run(&info, ui),
        Command::Diff(diff) => diff::run(&diff, ui),
        Command::Pull(pull) => pull::run(&pull, ui),
        Command::Copy(copy) => cp::run(&copy, ui),
        Command::Commit(commit) => commit::run(&commit, ui),
        Command::Cleanup(cleanup) => cleanup::run(&cleanup, ui),
        Command::Init(init) => init::run(&init, ui),
        Command::Doctor => doctor::run(ui),
        Command::Gateway(gateway) => gateway::run(&gateway, ui),
        Command::Provider(provider) => provider::run(&provider, ui),
        Command::Demo => demo::run(ui),
        Command::DemoAgent(agent) => demo::run_agent(&agent.script),
        Command::Inspect(inspect) => inspect::run(&inspect, ui),
        Command::Written(written) => inspect::written(&written, ui),
        Command::ContainerGateway(gateway) => container::gateway(&gateway, ui),
        Command::ContainerLink(link) => container::link(&link),
        Command::MachineWatch => machine::watch(),
        Command::MachineUnpack => machine::unpack(),
        Command::MachineClock => machine::clock(ui),
    }
}
