//! A specification in the engine's own terms.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount as EngineMount, MountType,
    MountVolumeOptions, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use super::{ContainerSpec, Mount, MountKind};
use crate::{EngineKind, Labels};

/// What no container of podman's can write to unless it is told otherwise, containers-common's
/// `DefaultReadOnlyPaths`. It takes no other list: what is not in it is masked.
const PODMAN_READ_ONLY: [&str; 6] =
    ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub(super) fn container(spec: &ContainerSpec, engine: EngineKind) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        entrypoint: filled(&spec.entrypoint),
        cmd: filled(&spec.command),
        user: spec.user.clone(),
        env: Some(spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        working_dir: spec.working_directory.clone(),
        labels: Some(map(&spec.labels)),
        hostname: spec.hostname.clone(),
        open_stdin: Some(spec.open_stdin),
        stdin_once: Some(spec.stdin_once),
        attach_stdin: Some(spec.open_stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(spec.tty),
        stop_signal: spec.stop_signal.clone(),
        // The image's check would run programs in the container that nobody asked for.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..Default::default() }),
        host_config: Some(host_config(spec, engine)),
        ..Default::default()
    }
}

fn host_config(spec: &ContainerSpec, engine: EngineKind) -> HostConfig {
    let tmpfs: HashMap<_, _> = spec.mounts.iter().filter_map(tmpfs).collect();
    let ulimit = |limit: &super::Ulimit| ResourcesUlimits {
        name: Some(limit.name.clone()),
        soft: Some(signed(limit.soft)),
        hard: Some(signed(limit.hard)),
    };
    HostConfig {
        network_mode: Some(spec.network.clone()),
        dns: filled(&spec.dns),
        cap_drop: filled(&spec.drop_capabilities),
        cap_add: filled(&spec.add_capabilities),
        group_add: filled(&spec.groups),
        security_opt: filled(&security_options(spec, engine)),
        sysctls: Some(map(&spec.sysctls)).filter(|sysctls| !sysctls.is_empty()),
        memory: spec.limits.memory.map(signed),
        memory_swap: spec.limits.memory_and_swap.map(signed),
        nano_cpus: spec.limits.nano_cpus.map(signed),
        pids_limit: spec.limits.pids.map(signed),
        shm_size: spec.limits.shm.map(signed),
        ulimits: Some(spec.ulimits.iter().map(ulimit).collect()),
        mounts: Some(spec.mounts.iter().filter_map(|found| mount(found, &spec.labels)).collect()),
        tmpfs: Some(tmpfs).filter(|tmpfs| !tmpfs.is_empty()),
        readonly_rootfs: Some(spec.read_only_root),
        log_config: (!spec.log_driver.is_empty())
            .then(|| HostConfigLogConfig { typ: Some(spec.log_driver.clone()), config: None }),
        runtime: spec.runtime.clone(),
        userns_mode: spec.user_namespace.clone(),
        cgroupns_mode: spec.cgroup_namespace.as_deref().and_then(|mode| mode.parse().ok()),
        masked_paths: filled(&spec.masked_paths),
        readonly_paths: filled(&spec.read_only_paths),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        annotations: Some(map(&spec.annotations)).filter(|annotations| !annotations.is_empty()),
        init: Some(false),
        privileged: Some(false),
        auto_remove: Some(false),
        ..Default::default()
    }
}

/// What podman's compatible API has in another place: it ignores `MaskedPaths` and `ReadonlyPaths`, and has an option
/// of its own for the first, podman-run(1). What is masked there is masked besides podman's own list.
fn security_options(spec: &ContainerSpec, engine: EngineKind) -> Vec<String> {
    let mut options = spec.security_options.clone();
    if engine == EngineKind::Podman {
        let read_only = spec.read_only_paths.iter().filter(|path| !PODMAN_READ_ONLY.contains(&path.as_str()));
        let masked: Vec<&str> = spec.masked_paths.iter().chain(read_only).map(String::as_str).collect();
        if !masked.is_empty() {
            options.push(format!("mask={}", masked.join(":")));
        }
    }
    options
}

/// The engine makes a volume that is not there, with the labels of the container, so that it is found as that is.
fn mount(mount: &Mount, labels: &Labels) -> Option<EngineMount> {
    let (typ, source, volume_options) = match &mount.kind {
        MountKind::Volume { name, no_copy } => {
            let labels = labels.clone().into_iter().collect();
            let options =
                MountVolumeOptions { no_copy: Some(*no_copy), labels: Some(labels), ..Default::default() };
            (MountType::VOLUME, name, Some(options))
        }
        MountKind::Bind { source } => (MountType::BIND, source, None),
        MountKind::Tmpfs { .. } => return None,
    };
    Some(EngineMount {
        target: Some(mount.target.clone()),
        source: Some(source.clone()),
        typ: Some(typ),
        read_only: Some(mount.read_only),
        volume_options,
        ..Default::default()
    })
}

/// Not as an [`EngineMount`], which can say neither `exec` nor the owner before API 1.46.
fn tmpfs(mount: &Mount) -> Option<(String, String)> {
    let MountKind::Tmpfs { size, mode, exec, owner } = &mount.kind else { return None };
    let access = if mount.read_only { "ro" } else { "rw" };
    let exec = if *exec { "exec" } else { "noexec" };
    let mut options = format!("{access},nosuid,nodev,{exec},size={size},mode={mode:o}");
    if let Some((user, group)) = owner {
        options += &format!(",uid={user},gid={group}");
    }
    Some((mount.target.clone(), options))
}

fn filled(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

fn map(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.clone().into_iter().collect()
}

/// The engine's numbers are signed, and -1 is no limit.
fn signed(number: u64) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
