//! What smolvm says of its machines.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer};

/// A machine, as `ls --json` and `status --json` show it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: MachineState,
    /// The process of its virtual machine.
    pub pid: Option<u32>,
    /// Its image, in smolvm's words.
    pub image: Option<String>,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Whether it has a network.
    pub network: bool,
    /// By which its owner finds it again.
    #[serde(default, deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// When it was created, in seconds since 1970.
    pub created_at: Option<u64>,
    /// Hosts that it may reach; empty without an allow list.
    #[serde(default, deserialize_with = "null_is_default")]
    pub allowed_hosts: Vec<String>,
    /// Networks that it may reach, those included that allowed hosts stand for.
    #[serde(default, deserialize_with = "null_is_default")]
    pub allowed_cidrs: Vec<String>,
    /// How its virtual machine ended the last time.
    pub last_exit: Option<LastExit>,
}

/// What a machine does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum MachineState {
    /// It was never started, or no start succeeded.
    Created,
    /// It runs.
    Running,
    /// It was stopped, or ended.
    Stopped,
    /// Its process lives, but what is in it does not answer.
    Unreachable,
    /// Another one, such as `paused`.
    Other(String),
}

/// How a virtual machine ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LastExit {
    /// `exited`, or by what else it ended.
    pub cause: Option<String>,
    /// The exit code of its process.
    pub exit_code: Option<i32>,
}

impl Machine {
    /// Whether it has a network that nothing confines, unless it is started with an interceptor.
    #[must_use]
    pub fn has_open_network(&self) -> bool {
        self.network && self.allowed_hosts.is_empty() && self.allowed_cidrs.is_empty()
    }
}

impl MachineState {
    /// Whether nothing of the machine runs.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        matches!(self, Self::Created | Self::Stopped)
    }
}

impl From<String> for MachineState {
    fn from(text: String) -> Self {
        match text.as_str() {
            "created" => Self::Created,
            "running" => Self::Running,
            "stopped" => Self::Stopped,
            "unreachable" => Self::Unreachable,
            _ => Self::Other(text),
        }
    }
}

impl fmt::Display for MachineState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Unreachable => "unreachable",
            Self::Other(text) => return formatter.write_str(&bot_bottle_core::printable::printable(text)),
        })
    }
}

/// smolvm writes `null` for some lists that are empty, and leaves out others.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_answers_are_read() {
        let text = include_str!("../tests/recorded/ls.json");
        let machines: Vec<Machine> = serde_json::from_str(text).expect("machines");
        let [failed, confined] = machines.as_slice() else { panic!("{machines:?}") };
        assert_eq!((failed.name.as_str(), &failed.state), ("b1", &MachineState::Created));
        assert_eq!(failed.labels.get("bottle").map(String::as_str), Some("x"));
        let exit = LastExit { cause: Some("exited".to_owned()), exit_code: Some(1) };
        assert_eq!(failed.last_exit, Some(exit));
        assert!(confined.network && !confined.has_open_network() && !failed.has_open_network());
        assert_eq!(confined.allowed_hosts, ["localhost"]);
        assert_eq!(confined.allowed_cidrs, ["10.0.0.0/8", "127.0.0.1/32"]);
        let text = include_str!("../tests/recorded/status.json");
        let machine: Machine = serde_json::from_str(text).expect("a machine");
        assert_eq!((machine.state, machine.cpus, machine.memory_mib), (MachineState::Running, 1, 512));
        assert!(machine.pid.is_some());
    }

    #[test]
    fn a_machine_without_its_network_is_not_read() {
        let mut machine: serde_json::Value =
            serde_json::from_str(include_str!("../tests/recorded/status.json")).expect("a machine");
        assert!(serde_json::from_value::<Machine>(machine.clone()).is_ok());
        machine.as_object_mut().expect("an object").remove("network");
        assert!(serde_json::from_value::<Machine>(machine).is_err());
    }
}
