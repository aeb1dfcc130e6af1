//! What the real program answers, as far as no guest is needed.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use bot_bottle_core::error::Hint as _;
use bot_bottle_core::gateway_config::InterceptorToken;
use bot_bottle_smolvm::{
    AllowList, EgressControl, ExecSpec, FileOwner, Interceptor, MachineSpec, MachineState, Network,
    ReadOnlyMount, RefusalKind, SmolvmError, SocketMount, User, Version,
};

use crate::fixture::{Real, failure, name};

const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// A network of either kind that this version confines.
fn network(version: Version) -> Network {
    match version.egress_control() {
        EgressControl::Interceptor => Network::Interceptor,
        EgressControl::AllowList => {
            let network = "192.0.2.0/24".parse().expect("a network");
            Network::AllowList(AllowList::new(Vec::new(), vec![network]).expect("a list"))
        }
    }
}

#[test]
fn a_machine_is_created_found_and_deleted() {
    let Some(real) = Real::find() else { return };
    let smolvm = &real.smolvm;
    assert_eq!(smolvm.machines().expect("machines"), []);
    assert_eq!(smolvm.machine(&name("one")).expect("an answer"), None);

    let spec = MachineSpec {
        mounts: vec![ReadOnlyMount { host: real.image.clone(), guest: "/mnt/image".into() }],
        sockets: vec![SocketMount { host: real.image.join("x.sock"), guest: "/run/x.sock".into() }],
        env: BTreeMap::from([("A".to_owned(), "-b=c d".to_owned())]),
        workdir: Some("/work".into()),
        user: Some(User { uid: 1000, gid: 1000 }),
        ..real.spec("one", network(smolvm.version()))
    };
    let made = smolvm.create(&spec).expect("a machine");
    assert_eq!((made.name.as_str(), &made.state, made.network), ("one", &MachineState::Created, true));
    assert_eq!((made.cpus, made.memory_mib), (1, 512));
    assert_eq!(made.labels, spec.labels);
    let isolated = smolvm.create(&real.spec("two", Network::None)).expect("a machine");
    assert!(!isolated.network);

    let mut names: Vec<_> =
        smolvm.machines().expect("machines").into_iter().map(|found| found.name).collect();
    names.sort();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(smolvm.machine(&name("one")).expect("an answer"), Some(made));

    smolvm.delete(&name("one")).expect("deleting it");
    assert_eq!(smolvm.machine(&name("one")).expect("an answer"), None);
    assert!(smolvm.machine(&name("two")).expect("an answer").is_some());
    smolvm.delete(&name("one")).expect("it is deleted already");
}

#[test]
fn the_copy_of_an_archive_is_unused_once_no_machine_is_made_of_it() {
    let Some(real) = Real::find() else { return };
    let archive = real.image.join("image.tar");
    fs::write(&archive, "not read before the first start").expect("a file");
    let made = real.smolvm.create(&MachineSpec { image: archive, ..real.spec("one", Network::None) });
    let image = made.expect("a machine").image.expect("its image");
    let hash = image.strip_prefix("local:").expect("a copy");
    let (now, day) = (SystemTime::now(), Duration::from_secs(24 * 60 * 60));
    assert_eq!(real.smolvm.unused_images(now + 2 * day).expect("a list"), [] as [PathBuf; 0]);
    real.smolvm.delete(&name("one")).expect("deleting it");
    assert_eq!(real.smolvm.unused_images(now).expect("a list"), [] as [PathBuf; 0], "it is new");
    let unused = real.smolvm.unused_images(now + 2 * day).expect("a list");
    assert!(unused.len() == 1 && unused[0].ends_with(hash) && unused[0].is_dir(), "{unused:?}");
}

#[test]
fn an_allow_list_is_kept() {
    let Some(real) = Real::find() else { return };
    let network = "192.0.2.0/24".parse().expect("a network");
    let list = AllowList::new(Vec::new(), vec![network]).expect("a list");
    let made = real.smolvm.create(&real.spec("one", Network::AllowList(list))).expect("a machine");
    assert_eq!(made.allowed_cidrs, ["192.0.2.0/24"]);
    assert!(made.network && !made.has_open_network());
}

#[test]
fn a_taken_name_is_an_error_and_the_machine_stays_as_it_was() {
    let Some(real) = Real::find() else { return };
    let made = real.smolvm.create(&real.spec("one", Network::None)).expect("a machine");
    let (error, text) = failure(real.smolvm.create(&real.spec("one", network(real.smolvm.version()))));
    assert_eq!(error.refusal(), Some(RefusalKind::NameTaken), "{text}");
    assert!(text.starts_with("creating the machine one: "), "{text}");
    assert_eq!(real.smolvm.machine(&name("one")).expect("an answer"), Some(made));
}

#[test]
fn an_unknown_machine_is_an_error_of_its_own() {
    let Some(real) = Real::find() else { return };
    let smolvm = &real.smolvm;
    let unknown = name("nope");
    let owner = FileOwner { user: User { uid: 0, gid: 0 }, mode: 0o600 };
    // `status` answers otherwise when there are other machines.
    for others in 0..2 {
        if others == 1 {
            smolvm.create(&real.spec("other", Network::None)).expect("a machine");
        }
        assert_eq!(smolvm.machine(&unknown).expect("an answer"), None);
        for (error, text) in [
            failure(smolvm.start(&unknown, None)),
            failure(smolvm.stop(&unknown, STOP_TIMEOUT)),
            failure(smolvm.data_dir(&unknown)),
            failure(smolvm.copy_in(&unknown, Path::new("/etc/hostname"), Path::new("/x"), owner)),
        ] {
            assert_eq!(error.refusal(), Some(RefusalKind::NotFound), "{text}");
            assert!(text.contains("nope"), "{text}");
        }
    }
}

#[test]
fn what_needs_a_running_machine_says_so() {
    let Some(real) = Real::find() else { return };
    let smolvm = &real.smolvm;
    smolvm.create(&real.spec("one", Network::None)).expect("a machine");
    let machine = name("one");
    // A machine that does not run is stopped already.
    let stopped = smolvm.stop(&machine, STOP_TIMEOUT).expect("a machine at rest");
    assert_eq!(stopped.state, MachineState::Created);
    let (error, text) = failure(smolvm.copy_out(&machine, Path::new("/x"), &real.image.join("x")));
    assert_eq!(error.refusal(), Some(RefusalKind::NotRunning), "{text}");
    assert_eq!(smolvm.logs(&machine, 5).expect("a log"), b"");

    // Options that the program did not know would end it with exit code 2.
    let every_option = ExecSpec {
        interactive: true,
        stream: true,
        timeout: Some(Duration::from_secs(5)),
        workdir: Some("/".into()),
        user: Some(User { uid: 1, gid: 1 }),
        env: BTreeMap::from([("A".to_owned(), "-b".to_owned())]),
        ..ExecSpec::new(["true", "--name=other"])
    };
    let mut exec = smolvm.exec(&machine, &every_option).expect("a command");
    let output = exec.output().expect("running it");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("'one' is not running"), "{output:?}");

    let (error, text) =
        failure(smolvm.wait_until_ready(&machine, &ExecSpec::new(["true"]), Duration::from_secs(60)));
    assert!(matches!(error, SmolvmError::NotReady { .. }), "{text}");
    assert!(text.contains("the machine is created") && text.contains("is not running"), "{text}");
}

#[test]
fn values_that_smolvm_refuses_make_no_machine() {
    let Some(real) = Real::find() else { return };
    let smolvm = &real.smolvm;
    let good = real.spec("one", Network::None);
    let with = |change: &dyn Fn(&mut MachineSpec)| {
        let mut spec = good.clone();
        change(&mut spec);
        failure(smolvm.create(&spec))
    };
    let little = with(&|spec| spec.resources.memory_mib = 1);
    let nowhere = with(&|spec| {
        spec.mounts = vec![ReadOnlyMount { host: "/nonexistent/folder".into(), guest: "/mnt".into() }];
    });
    let protected =
        with(&|spec| spec.mounts = vec![ReadOnlyMount { host: "/etc".into(), guest: "/mnt".into() }]);
    let no_image = with(&|spec| spec.image = "/nonexistent/image".into());
    for ((error, text), word) in [
        (little, "memory"),
        (nowhere, "/nonexistent/folder"),
        (protected, "/etc"),
        (no_image, "/nonexistent/image"),
    ] {
        assert_eq!(error.refusal(), Some(RefusalKind::Other), "{text}");
        assert!(text.starts_with("creating the machine one: ") && text.contains(word), "{text}");
    }
    assert_eq!(smolvm.machines().expect("machines"), []);
    smolvm.create(&good).expect("the same machine without a fault");
}

#[test]
fn an_open_network_is_not_started() {
    let Some(real) = Real::find() else { return };
    let smolvm = &real.smolvm;
    if smolvm.version().egress_control() == EgressControl::AllowList {
        let (error, text) = failure(smolvm.create(&real.spec("one", Network::Interceptor)));
        assert!(matches!(error, SmolvmError::Unsupported { .. }), "{text}");
        return;
    }
    smolvm.create(&real.spec("one", Network::Interceptor)).expect("a machine");
    let (error, text) = failure(smolvm.start(&name("one"), None));
    assert!(matches!(error, SmolvmError::OpenNetwork { .. }), "{text}");
    let machine = smolvm.machine(&name("one")).expect("an answer").expect("the machine");
    assert_eq!((machine.state, machine.last_exit), (MachineState::Created, None), "nothing was tried");
}

#[test]
fn a_start_without_a_usable_kvm_is_an_error_with_advice() {
    let Some(real) = Real::find() else { return };
    let smolvm = &real.smolvm;
    smolvm.create(&real.spec("one", network(smolvm.version()))).expect("a machine");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    let token = InterceptorToken::new([7; 32]);
    let interceptor = Interceptor::new(address, token).expect("an interceptor");
    let has_interceptor = smolvm.version().egress_control() == EgressControl::Interceptor;
    let started = smolvm.start(&name("one"), has_interceptor.then_some(&interceptor));
    let Err(error) = started else {
        smolvm.stop(&name("one"), STOP_TIMEOUT).expect("stopping it");
        let _ = bot_bottle_testkit::require("no-kvm", false);
        return;
    };
    let text = error.to_string();
    // A host with KVM may fail to boot the empty image, or end at the deadline of smolvm itself.
    assert!(matches!(error, SmolvmError::Refused { .. }), "{text}");
    assert!(text.starts_with("starting the machine one: "), "{text}");
    assert!(!text.contains("0707"), "the token is in {text}");
    if error.refusal() == Some(RefusalKind::NoKvm) {
        assert!(error.hint().is_some_and(|hint| hint.contains("/dev/kvm")), "{text}");
    }
    let machine = smolvm.machine(&name("one")).expect("an answer").expect("the machine");
    assert!(machine.state.is_at_rest(), "{machine:?}");
    smolvm.delete(&name("one")).expect("deleting it");
    assert_eq!(smolvm.machines().expect("machines"), []);
}

#[test]
fn machines_are_made_and_deleted_from_several_threads() {
    const THREADS: usize = 4;
    let Some(real) = Real::find() else { return };
    let smolvm = &real.smolvm;
    // All of them want one name, and each one of its own.
    let taken = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let (shared, own) = (real.spec("shared", Network::None), format!("own-{number}"));
                let own = real.spec(&own, Network::None);
                scope.spawn(move || {
                    smolvm.create(&own).expect("a machine");
                    smolvm.create(&shared).is_ok()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread")).filter(|made| *made).count()
    });
    assert_eq!(taken, 1, "one of them made the machine");
    assert_eq!(smolvm.machines().expect("machines").len(), THREADS + 1);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| smolvm.delete(&name("shared")).expect("deleting it"));
        }
    });
    assert_eq!(smolvm.machines().expect("machines").len(), THREADS);
}
