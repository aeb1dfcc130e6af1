//! Each call as the program gets it.

use std::{collections::BTreeMap, path::PathBuf};

use super::*;
use crate::{AllowList, Resources, User};

const NEWEST: Version = Version::NEWEST_TESTED;

fn name() -> MachineName {
    MachineName::new("bottle-1").expect("a name")
}

fn rendered(call: &Call<'_>, version: Version) -> String {
    let arguments = call.arguments(version, Path::new("/state"));
    arguments.iter().map(|word| word.to_string_lossy().into_owned() + "\n").collect()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn smallest(network: Network) -> MachineSpec {
    MachineSpec {
        name: name(),
        image: PathBuf::from("/image/rootfs"),
        resources: Resources { cpus: 2, memory_mib: 4096, storage_gib: 20, overlay_gib: 10 },
        network,
        mounts: Vec::new(),
        sockets: Vec::new(),
        labels: BTreeMap::new(),
        env: BTreeMap::new(),
        workdir: None,
        user: None,
        workload: Vec::new(),
        name_server: None,
    }
}

#[test]
fn create_with_an_interceptor() {
    let spec = MachineSpec {
        mounts: vec![ReadOnlyMount { host: "/host/ca".into(), guest: "/run/bottle/ca".into() }],
        sockets: vec![SocketMount { host: "/host/git.sock".into(), guest: "/run/bottle/git.sock".into() }],
        labels: pairs(&[("bottle", "1"), ("kind", "a b")]),
        env: pairs(&[("A", "-b"), ("EMPTY", "")]),
        workdir: Some("/work".into()),
        user: Some(User { uid: 1000, gid: 1001 }),
        workload: vec!["/opt/watch".to_owned(), "a b".to_owned()],
        name_server: Some(std::net::Ipv4Addr::LOCALHOST.into()),
        ..smallest(Network::Interceptor)
    };
    insta::assert_snapshot!(rendered(&Call::Create(&spec), NEWEST));
}

#[test]
fn create_without_a_network() {
    insta::assert_snapshot!(rendered(&Call::Create(&smallest(Network::None)), NEWEST));
}

#[test]
fn create_with_an_allow_list() {
    let list =
        AllowList::new(vec!["example.org".to_owned()], vec!["192.0.2.0/24".parse().expect("a network")]);
    let spec = smallest(Network::AllowList(list.expect("a list")));
    insta::assert_snapshot!(rendered(&Call::Create(&spec), Version::OLDEST));
}

#[test]
fn start_and_stop() {
    let name = name();
    let address = "127.0.0.1:4000".parse().expect("an address");
    let stop = Call::Stop { name: &name, timeout: Duration::from_millis(1500) };
    let calls = [
        rendered(&Call::Start { name: &name, interceptor: Some(address) }, NEWEST),
        rendered(&Call::Start { name: &name, interceptor: None }, Version::OLDEST),
        rendered(&stop, NEWEST),
        rendered(&Call::Delete(&name), NEWEST),
    ];
    insta::assert_snapshot!(calls.join("\n"));
}

#[test]
fn questions() {
    let name = name();
    let calls = [
        rendered(&Call::Version, NEWEST),
        rendered(&Call::List, NEWEST),
        rendered(&Call::Status(&name), NEWEST),
        rendered(&Call::DataDir(&name), NEWEST),
        rendered(&Call::Logs { name: &name, lines: 20 }, NEWEST),
    ];
    insta::assert_snapshot!(calls.join("\n"));
}

#[test]
fn exec() {
    let name = name();
    let all = ExecSpec {
        interactive: true,
        tty: true,
        timeout: Some(Duration::from_millis(1)),
        workdir: Some("/work".into()),
        user: Some(User { uid: 0, gid: 0 }),
        env: pairs(&[("TERM", "xterm")]),
        ..ExecSpec::new(["sh", "-c", "--name=other"])
    };
    let streaming = ExecSpec { stream: true, ..ExecSpec::new(["make"]) };
    let calls = [
        rendered(&Call::Exec { name: &name, spec: &ExecSpec::new(["true"]) }, NEWEST),
        rendered(&Call::Exec { name: &name, spec: &streaming }, NEWEST),
        rendered(&Call::Exec { name: &name, spec: &all }, NEWEST),
    ];
    insta::assert_snapshot!(calls.join("\n"));
}

#[test]
fn copies() {
    let name = name();
    let owner = FileOwner { user: User { uid: 1000, gid: 1001 }, mode: 0o640 };
    let (host, guest) = (Path::new("/host/file"), Path::new("/guest/file"));
    let calls = [
        rendered(&Call::CopyIn { name: &name, from: host, to: guest, owner }, NEWEST),
        rendered(&Call::CopyOut { name: &name, from: guest, to: host }, NEWEST),
    ];
    insta::assert_snapshot!(calls.join("\n"));
}
