//! What is said of engines that cannot be used.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixListener, process::CommandExt as _},
    path::Path,
    process::Command,
    thread,
};

use bot_bottle_core::error::Hint as _;
use bot_bottle_engine::{ApiVersion, ContainerStatus, Engine, EngineAddress, EngineError, EngineKind};
use bot_bottle_testkit::require_because;

use crate::fixture::with_engines;

fn address(socket: &Path) -> EngineAddress {
    EngineAddress::parse(socket.to_str().expect("UTF-8")).expect("an address")
}

/// A server that gives each connection the same answer, and returns the first lines of the requests.
fn serve(socket: &Path, answers: Vec<String>) -> thread::JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(socket).expect("bound");
    thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in answers {
            // The client looks with a connection of its own whether somebody listens.
            let first = loop {
                let (stream, _) = listener.accept().expect("accepted");
                let mut reader = BufReader::new(stream);
                let mut first = String::new();
                if reader.read_line(&mut first).is_ok_and(|size| size > 0) {
                    let mut line = String::new();
                    while reader.read_line(&mut line).is_ok_and(|size| size > 2) {
                        line.clear();
                    }
                    let mut stream = reader.into_inner();
                    stream.write_all(answer.as_bytes()).expect("answered");
                    break first;
                }
            };
            requests.push(first.trim_end().to_owned());
        }
        requests
    })
}

fn json(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The answer to `/_ping` of an engine with this API.
fn pong(version: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nApi-Version: {version}\r\ncontent-length: 2\r\n\r\nOK")
}

#[test]
fn each_way_to_fail_has_its_error_and_a_hint() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = address(&folder.path().join("missing"));
    let error = Engine::connect(&missing).expect_err("there is nothing");
    assert!(matches!(&error, EngineError::NoSocket(address) if *address == missing), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("systemctl start docker")));

    let refusing = folder.path().join("refusing");
    drop(UnixListener::bind(&refusing).expect("bound"));
    let error = Engine::connect(&address(&refusing)).expect_err("nobody listens");
    assert!(matches!(error, EngineError::ConnectionRefused(_)), "{error:?}");
    assert!(error.hint().is_some());

    for (name, answer) in [
        ("text", "SSH-2.0-OpenSSH_9.2\r\n".to_owned()),
        ("web", "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned()),
        ("json", json("{}")),
    ] {
        let socket = folder.path().join(name);
        let server = serve(&socket, vec![answer]);
        let error = Engine::connect(&address(&socket)).expect_err("no engine");
        assert!(matches!(error, EngineError::NotAnEngine { .. }), "{name}: {error:?}");
        assert!(error.hint().is_some());
        server.join().expect("no panic");
    }
}

/// Names the socket for the part of a test that runs as another user.
const SOCKET_VARIABLE: &str = "BOT_BOTTLE_TEST_SOCKET";

#[test]
fn a_socket_that_this_user_may_not_use_is_told_apart() {
    if let Some(socket) = env::var_os(SOCKET_VARIABLE) {
        let error = Engine::connect(&address(Path::new(&socket))).expect_err("it is another user's");
        assert!(matches!(error, EngineError::PermissionDenied(_)), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("`docker`")));
        return;
    }
    let missing =
        (!rustix::process::geteuid().is_root()).then(|| "only root becomes another user".to_owned());
    if !require_because("root", missing) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let permit =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    permit(folder.path(), 0o755);
    let socket = folder.path().join("socket");
    drop(UnixListener::bind(&socket).expect("bound"));
    permit(&socket, 0o600);
    // The other user may not reach the folder of the build.
    let program = folder.path().join("test");
    fs::copy(env::current_exe().expect("a program"), &program).expect("copied");
    let run = || {
        Command::new(&program)
            .args(["--exact", "connect::a_socket_that_this_user_may_not_use_is_told_apart"])
            .env(SOCKET_VARIABLE, &socket)
            .current_dir("/")
            .uid(65534)
            .gid(65534)
            .output()
            .expect("run")
    };
    let output = run();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
    permit(&socket, 0o666);
    assert!(!run().status.success(), "with the permission it is another error");
}

#[test]
fn the_newest_version_that_both_sides_know_is_spoken() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = folder.path().join("old");
    let server = serve(&old, vec![pong("1.40")]);
    let error = Engine::connect(&address(&old)).expect_err("too old");
    assert!(error.to_string().contains("has API 1.40, and 1.41 is needed"), "{error}");
    server.join().expect("no panic");

    for (version, spoken) in [("1.41", "1.41"), ("1.52", "1.52"), ("7.0", "1.53")] {
        let socket = folder.path().join(version);
        let server = serve(&socket, vec![pong(version), json(r#"{"NCPU": 3}"#)]);
        let engine = Engine::connect(&address(&socket)).expect("connected");
        assert_eq!(engine.info().expect("answered").processors, 3);
        let requests = server.join().expect("no panic");
        assert_eq!(requests[1], format!("GET /v{spoken}/info HTTP/1.0"));
    }
}

#[test]
fn states_that_only_podman_has_are_understood() {
    let folder = tempfile::tempdir().expect("a folder");
    for (text, expected) in [
        ("stopped", ContainerStatus::Exited),
        ("configured", ContainerStatus::Created),
        ("running", ContainerStatus::Running),
        ("news", ContainerStatus::Unknown),
    ] {
        let socket = folder.path().join(text);
        let answers = [
            format!(r#"{{"Id": "a", "State": {{"Status": "{text}", "StartedAt": "0001-01-01T00:00:00Z"}}}}"#),
            format!(r#"[{{"Id": "a", "Names": ["/b"], "State": "{text}", "Labels": {{"c": "d"}}}}]"#),
            "{}".to_owned(),
        ];
        let answers = [pong("1.41")].into_iter().chain(answers.iter().map(|answer| json(answer)));
        let server = serve(&socket, answers.collect());
        let engine = Engine::connect(&address(&socket)).expect("connected");
        let state = engine.container_state("a").expect("looked at");
        assert_eq!((state.status, state.started_at), (expected, None), "{text}");
        let listed = engine.containers("c=d").expect("listed");
        assert_eq!((listed[0].name.as_str(), listed[0].status), ("b", expected));
        let error = engine.containers("c=d").expect_err("no list");
        assert!(matches!(error, EngineError::Unexpected { .. }), "an empty list: {error:?}");
        let requests = server.join().expect("no panic");
        assert!(requests[2].contains("filters=%7B%22label%22%3A%5B%22c%3Dd%22%5D%7D "), "{requests:?}");
    }
}

#[test]
fn an_engine_that_ends_during_a_call_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("engine");
    let server = serve(&socket, vec![pong("1.41"), "HTTP/1.1 200".to_owned()]);
    let engine = Engine::connect(&address(&socket)).expect("connected");
    let error = engine.info().expect_err("broken off");
    assert!(matches!(error, EngineError::Gone { .. }), "{error:?}");
    server.join().expect("no panic");
    fs::remove_file(&socket).expect("removed");
    let error = engine.info().expect_err("nobody there");
    assert!(matches!(error, EngineError::Gone { .. }), "{error:?}");
    assert!(error.hint().is_some());
}

#[test]
fn an_engine_describes_itself() {
    with_engines(|fixture| {
        let info = fixture.engine.info().expect("answered");
        assert!(info.api_version >= ApiVersion { major: 1, minor: 41 }, "{info:?}");
        assert!(!info.version.is_empty() && !info.storage_driver.is_empty(), "{info:?}");
        assert!(info.processors > 0 && info.memory > 0, "{info:?}");
        assert!(matches!(info.cgroup_version, Some(1 | 2)), "{info:?}");
        if info.kind == EngineKind::Docker {
            assert!(info.runtimes.iter().any(|runtime| runtime == "runc"), "{info:?}");
        } else {
            // The tests' service of podman is an ordinary user's.
            assert!(info.is_rootless, "{info:?}");
        }
    });
}
