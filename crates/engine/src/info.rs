//! What an engine says of itself.

use std::fmt;

use bollard::models::SystemInfo;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A version of the Engine API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ApiVersion {
    /// 1 so far.
    pub major: usize,
    /// Raised with each change.
    pub minor: usize,
}

impl ApiVersion {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

/// Whose engine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// dockerd
    Docker,
    /// podman's compatible service
    Podman,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        })
    }
}

/// Which limits the engine enforces. Those that it does not are ignored by it without an error, as rootless
/// podman does where the host has cgroup v1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnforcedLimits {
    /// Of memory.
    pub memory: bool,
    /// Of swap.
    pub swap: bool,
    /// Of the number of processes.
    pub pids: bool,
    /// Of processor time.
    pub cpu: bool,
}

/// An engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineInfo {
    /// Whose.
    pub kind: EngineKind,
    /// Its own version.
    pub version: String,
    /// The version of the API that is spoken with it.
    pub api_version: ApiVersion,
    /// Whether it runs without root's rights on the host.
    pub is_rootless: bool,
    /// Whether it maps the users of all containers to others of the host (`userns-remap`).
    pub remaps_users: bool,
    /// 1 or 2; `None` if it does not say.
    pub cgroup_version: Option<u8>,
    /// `cgroupfs`, `systemd` or `none`; empty if it does not say.
    pub cgroup_driver: String,
    /// Which limits it enforces.
    pub limits: EnforcedLimits,
    /// Names of the runtimes that a container can ask for, sorted.
    pub runtimes: Vec<String>,
    /// The one that a container gets that asks for none; empty if it does not say.
    pub default_runtime: String,
    /// `overlay2` or another.
    pub storage_driver: String,
    /// Whether containers get its default seccomp filter.
    pub has_seccomp: bool,
    /// Processors that it sees.
    pub processors: u64,
    /// Bytes of memory that it sees.
    pub memory: u64,
}

impl EngineInfo {
    pub(crate) fn new(kind: EngineKind, api_version: ApiVersion, info: Value) -> serde_json::Result<Self> {
        // podman's own, beside docker's: podman 4 is rootless without naming it among the security options.
        let says_rootless = info["Rootless"].as_bool().unwrap_or(false);
        let info: SystemInfo = serde_json::from_value(info)?;
        let options = info.security_options.unwrap_or_default();
        // An option is `name=seccomp,profile=default`.
        let has = |name: &str| {
            options
                .iter()
                .any(|option| option.split(',').any(|part| part.strip_prefix("name=") == Some(name)))
        };
        let mut runtimes: Vec<_> = info.runtimes.unwrap_or_default().into_keys().collect();
        runtimes.sort();
        let is_rootless = says_rootless || has("rootless");
        let is_on = |limit: Option<bool>| limit.unwrap_or(false);
        // Rootless podman reports the limits of the kernel, and ignores them where it cannot use the cgroups.
        let has_cgroups = !(kind == EngineKind::Podman
            && is_rootless
            && info.cgroup_version.is_some_and(|version| version.to_string() == "1"));
        Ok(Self {
            kind,
            default_runtime: info.default_runtime.unwrap_or_default(),
            version: info.server_version.unwrap_or_default(),
            api_version,
            is_rootless,
            remaps_users: has("userns"),
            cgroup_version: info.cgroup_version.and_then(|version| version.to_string().parse().ok()),
            cgroup_driver: info.cgroup_driver.map(|driver| driver.to_string()).unwrap_or_default(),
            limits: EnforcedLimits {
                memory: has_cgroups && is_on(info.memory_limit),
                swap: has_cgroups && is_on(info.swap_limit),
                pids: has_cgroups && is_on(info.pids_limit),
                cpu: has_cgroups && is_on(info.cpu_cfs_quota),
            },
            runtimes,
            storage_driver: info.driver.unwrap_or_default(),
            has_seccomp: has("seccomp"),
            processors: info.ncpu.and_then(|count| count.try_into().ok()).unwrap_or_default(),
            memory: info.mem_total.and_then(|size| size.try_into().ok()).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rootless_podman_on_cgroup_v1_enforces_no_limit() {
        let read = |rootless: Value, cgroup: &str| {
            let mut info = serde_json::json!({
                "CgroupVersion": cgroup, "MemoryLimit": true, "PidsLimit": true, "CpuCfsQuota": true,
                "SwapLimit": true, "SecurityOptions": ["name=seccomp,profile=default"],
            });
            info.as_object_mut()
                .expect("an object")
                .append(rootless.as_object().cloned().as_mut().expect("one"));
            let api = ApiVersion { major: 1, minor: 41 };
            EngineInfo::new(EngineKind::Podman, api, info).expect("information")
        };
        let all = EnforcedLimits { memory: true, swap: true, pids: true, cpu: true };
        let none = EnforcedLimits { memory: false, swap: false, pids: false, cpu: false };
        let rootless = serde_json::json!({"Rootless": true});
        let of_options =
            serde_json::json!({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]});
        for rootless in [&rootless, &of_options] {
            for (cgroup, limits) in [("1", none), ("2", all)] {
                let info = read(rootless.clone(), cgroup);
                assert_eq!((info.is_rootless, info.limits), (true, limits), "{rootless} {cgroup}");
            }
        }
        for cgroup in ["1", "2"] {
            let info = read(serde_json::json!({"Rootless": false}), cgroup);
            assert_eq!((info.is_rootless, info.has_seccomp, info.limits), (false, true, all), "{cgroup}");
        }
    }

    #[test]
    fn versions_are_compared_by_number() {
        let parse = |text| ApiVersion::parse(text).expect("a version");
        assert!(parse("1.9") < parse("1.41") && parse("1.41") < parse("2.0"));
        for text in ["", "1", "1.x", "1.41.2"] {
            assert_eq!(ApiVersion::parse(text), None, "{text}");
        }
    }
}
