//! From a plan to a machine: pure, so that tests compare whole machines.

use std::path::PathBuf;

use bot_bottle_core::plan::BottlePlan;
use bot_bottle_smolvm::{AllowList, EgressControl, MachineSpec, Network, ReadOnlyMount, SocketMount};

use crate::init::spec::NAME_SERVER;

use super::{
    limits,
    names::{LIFE_SOCKET, Names, PROGRAM, PROGRAM_FOLDER, RUN_LABEL},
};

/// The machine of a plan. It has no folder of the host but the one with this binary, no variable and no secret: what
/// the agent is given comes over the link.
pub(super) fn machine(
    names: &Names,
    plan: &BottlePlan,
    image: PathBuf,
    control: EgressControl,
) -> MachineSpec {
    let network = match control {
        EgressControl::Interceptor => Network::Interceptor,
        // What is reached is up to the namespace in which smolvm runs, which has the gateway alone.
        EgressControl::AllowList => Network::AllowList(AllowList::every_address()),
    };
    MachineSpec {
        name: names.machine.clone(),
        image,
        resources: limits::resources(&plan.limits),
        network,
        // Where smolvm runs, the gateway answers there.
        name_server: Some((*NAME_SERVER.ip()).into()),
        mounts: vec![ReadOnlyMount { host: names.program_folder.clone(), guest: PROGRAM_FOLDER.into() }],
        sockets: vec![SocketMount { host: names.life_socket.clone(), guest: LIFE_SOCKET.into() }],
        labels: [(RUN_LABEL.to_owned(), names.identity.clone())].into(),
        env: [].into(),
        workdir: None,
        // Root: it switches the machine off.
        user: None,
        workload: vec![PROGRAM.to_owned(), "machine-watch".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use bot_bottle_core::{
        bottle::BackendName,
        limits::{ByteSize, Limits},
        plan::{BOTTLE_ADDRESS, Program, ProgramSource},
    };
    use bot_bottle_smolvm::{MachineName, Resources};

    use super::*;

    #[test]
    fn a_machine_has_nothing_of_the_host_but_this_program_and_one_socket() {
        let names = Names {
            machine: MachineName::new("bot-bottle-agent-aaaaa-1").expect("a name"),
            identity: "agent-aaaaa".to_owned(),
            program_folder: "/home/me/.bot-bottle/state/agent-aaaaa/program".into(),
            life_socket: "/home/me/.bot-bottle/state/agent-aaaaa/life".into(),
        };
        let program = Program { command: vec!["true".to_owned()], source: ProgramSource::Bottle };
        let identity = names.identity.parse().expect("an identity");
        let plan = BottlePlan {
            limits: Limits { memory: Some(ByteSize(1 << 30)), cpus: Some(1.0), ..Limits::default() },
            ..BottlePlan::for_program(identity, BackendName::Smolmachines, program)
        };
        let expected = MachineSpec {
            name: names.machine.clone(),
            image: "/images/debian.tar".into(),
            resources: Resources { cpus: 1, memory_mib: 1024, storage_gib: 20, overlay_gib: 20 },
            network: Network::Interceptor,
            mounts: vec![ReadOnlyMount {
                host: "/home/me/.bot-bottle/state/agent-aaaaa/program".into(),
                guest: "/opt/bot-bottle/agent".into(),
            }],
            sockets: vec![SocketMount {
                host: "/home/me/.bot-bottle/state/agent-aaaaa/life".into(),
                guest: "/run/bot-bottle/life".into(),
            }],
            labels: [("bot-bottle.run".to_owned(), "agent-aaaaa".to_owned())].into(),
            env: [].into(),
            workdir: None,
            user: None,
            workload: vec!["/opt/bot-bottle/agent/bot-bottle".to_owned(), "machine-watch".to_owned()],
            name_server: Some(BOTTLE_ADDRESS.into()),
        };
        let image = || PathBuf::from("/images/debian.tar");
        assert_eq!(machine(&names, &plan, image(), EgressControl::Interceptor), expected);
        let older = machine(&names, &plan, image(), EgressControl::AllowList);
        let network = Network::AllowList(AllowList::every_address());
        assert_eq!(older, MachineSpec { network, ..expected });
    }
}
