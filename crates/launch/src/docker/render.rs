//! From a plan to the containers of a bottle: pure, so that tests compare whole containers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
};

use bot_bottle_core::plan::BottlePlan;
use bot_bottle_engine::{ContainerSpec, Limits, Mount, MountKind, NetworkSpec};

use crate::{
    inspect::WorkAccess,
    kernel_files::{MASKED, READ_ONLY},
};

use super::{
    hand_over::GATEWAY_USER,
    limits,
    names::{CERTIFICATES_FOLDER, HAND_OVER_FOLDER, Names, PROGRAM, PROGRAM_FOLDER},
    work::Parts,
};

/// What the agent's first process needs while it makes the bottle, and gives up before any program runs: the
/// network's address, route and redirection; the gateway's user and the agent's; the bounding set.
const CAPABILITIES: [&str; 4] = ["NET_ADMIN", "SETGID", "SETPCAP", "SETUID"];

/// Bytes of shared memory of a bottle, as on the native backend. They count as its memory.
const SHARED_MEMORY_BYTES: u64 = 2 << 30;

/// Bytes of the gateway's certificates in memory: those of the host, and the operator's own.
const CERTIFICATES_BYTES: u64 = 16 << 20;

/// Memory that the gateway may use, in bytes: four times what its own bounds let it take.
const GATEWAY_MEMORY_BYTES: u64 = 1 << 30;

/// Threads and processes of the gateway's container.
const GATEWAY_PROCESSES: u64 = 64;

/// The gateway's network.
pub(super) fn network(names: &Names) -> NetworkSpec {
    NetworkSpec {
        name: names.network.clone(),
        labels: names.labels("gateway"),
        internal: false,
        options: [].into(),
    }
}

/// The gateway's container. It has no capability, writes to no file system but that of its certificates, and holds
/// no secret that the engine could show: those come over its standard input.
pub(super) fn gateway(names: &Names, image: &str, dials: &BTreeSet<SocketAddr>) -> ContainerSpec {
    let mut command = vec!["container-gateway".to_owned()];
    command.extend(dials.iter().map(|address| format!("--dial={address}")));
    ContainerSpec {
        name: names.gateway.clone(),
        image: image.to_owned(),
        entrypoint: vec![PROGRAM.to_owned()],
        command,
        user: Some(format!("{GATEWAY_USER}:{GATEWAY_USER}")),
        // The image has no certificates of its own.
        environment: [("SSL_CERT_FILE".to_owned(), format!("{CERTIFICATES_FOLDER}/system.pem"))].into(),
        working_directory: Some("/".to_owned()),
        labels: names.labels("gateway"),
        hostname: Some("gateway".to_owned()),
        network: names.network.clone(),
        // An upstream host can be at such a port of the host's loopback.
        sysctls: unprivileged_ports(),
        limits: Limits {
            memory: Some(GATEWAY_MEMORY_BYTES),
            memory_and_swap: Some(GATEWAY_MEMORY_BYTES),
            pids: Some(GATEWAY_PROCESSES),
            shm: Some(CERTIFICATES_BYTES),
            ..Limits::default()
        },
        mounts: vec![
            // The engine fills both with what the image has there.
            volume(&names.program, PROGRAM_FOLDER, Access::ReadOnly, Content::OfImage),
            volume(&names.hand_over, HAND_OVER_FOLDER, Access::ReadWrite, Content::OfImage),
        ],
        read_only_root: true,
        ..confined()
    }
}

/// A container that never runs, with which the engine fills the volume with this binary where there is no gateway.
pub(super) fn program_filler(names: &Names, image: &str) -> ContainerSpec {
    ContainerSpec {
        name: names.gateway.clone(),
        image: image.to_owned(),
        entrypoint: vec![PROGRAM.to_owned()],
        labels: names.labels("gateway"),
        network: "none".to_owned(),
        mounts: vec![volume(&names.program, PROGRAM_FOLDER, Access::ReadOnly, Content::OfImage)],
        read_only_root: true,
        ..confined()
    }
}

/// The agent's container.
pub(super) fn agent(names: &Names, plan: &BottlePlan, parts: &Parts) -> ContainerSpec {
    let memory = plan.limits.memory.map(|size| size.0);
    let mut mounts = vec![volume(&names.program, PROGRAM_FOLDER, Access::ReadOnly, Content::Empty)];
    if parts.has_gateway {
        mounts.push(volume(&names.hand_over, HAND_OVER_FOLDER, Access::ReadWrite, Content::Empty));
    }
    if let Some((name, access)) = &parts.workspace
        && plan.guest.workspace != plan.guest.home
    {
        let access = match access {
            WorkAccess::Read => Access::ReadOnly,
            WorkAccess::Write => Access::ReadWrite,
        };
        mounts.push(volume(name, &plan.guest.workspace.to_string_lossy(), access, Content::Empty));
    }
    ContainerSpec {
        name: names.agent.clone(),
        image: parts.image.clone(),
        entrypoint: vec![PROGRAM.to_owned()],
        command: vec!["container-init".to_owned()],
        // Root until it has given up its capabilities, and no program of the image before that.
        user: Some("0:0".to_owned()),
        working_directory: Some("/".to_owned()),
        labels: names.labels("agent"),
        hostname: Some("bottle".to_owned()),
        network: "none".to_owned(),
        add_capabilities: CAPABILITIES.map(str::to_owned).into(),
        sysctls: unprivileged_ports(),
        limits: Limits {
            memory,
            memory_and_swap: memory,
            nano_cpus: plan.limits.cpus.map(limits::nano_cpus),
            pids: Some(limits::processes(&plan.limits)),
            shm: Some(SHARED_MEMORY_BYTES),
        },
        mounts,
        // All of it tells about the host, and the bottle of no other backend has it.
        masked_paths: MASKED.iter().chain(&["/sys"]).map(|path| (*path).to_owned()).collect(),
        read_only_paths: READ_ONLY.map(str::to_owned).into(),
        ..confined()
    }
}

/// Ports below 1024 are bound without CAP_NET_BIND_SERVICE, ip-sysctl: the bottle's DNS is one.
fn unprivileged_ports() -> BTreeMap<String, String> {
    [("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())].into()
}

/// What is so in both containers.
fn confined() -> ContainerSpec {
    ContainerSpec {
        drop_capabilities: vec!["ALL".to_owned()],
        security_options: vec!["no-new-privileges".to_owned()],
        open_stdin: true,
        // The link ends with its one attachment.
        stdin_once: true,
        log_driver: "none".to_owned(),
        cgroup_namespace: Some("private".to_owned()),
        stop_signal: Some("SIGKILL".to_owned()),
        ..ContainerSpec::default()
    }
}

/// Whether a volume can be written to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    ReadOnly,
    ReadWrite,
}

/// What is in a new volume.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    OfImage,
    Empty,
}

fn volume(name: &str, target: &str, access: Access, content: Content) -> Mount {
    Mount {
        target: target.to_owned(),
        read_only: access == Access::ReadOnly,
        kind: MountKind::Volume { name: name.to_owned(), no_copy: content == Content::Empty },
    }
}

/// Paths of an agent's container that have to be no links of the image: something is mounted there, or was put
/// there as root.
pub(super) fn mount_points(plan: &BottlePlan) -> Vec<String> {
    let folders =
        [Path::new(PROGRAM_FOLDER), Path::new(HAND_OVER_FOLDER), &plan.guest.workspace, &plan.guest.home];
    let mut paths: Vec<String> = folders
        .into_iter()
        .flat_map(Path::ancestors)
        .chain([Path::new("/etc")])
        .map(|path| path.to_string_lossy().into_owned())
        .filter(|path| path != "/")
        .collect();
    paths.sort();
    paths.dedup();
    paths
}
