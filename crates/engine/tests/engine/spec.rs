//! That each part of a specification has its effect inside.

use std::{collections::BTreeMap, fs::Permissions, os::unix::fs::PermissionsExt as _};

use bot_bottle_engine::{Mount, MountKind, Ulimit};

use crate::fixture::with_engines;

fn mount(target: &str, read_only: bool, kind: MountKind) -> Mount {
    Mount { target: target.to_owned(), read_only, kind }
}

/// `name value` lines.
fn values(text: &str) -> BTreeMap<&str, &str> {
    text.lines().map(|line| line.split_once(' ').unwrap_or((line, ""))).collect()
}

#[test]
fn a_confined_container_is_confined() {
    with_engines(|fixture| {
        if fixture.is_podman("podman 4 makes the root of an imported archive without one read-only") {
            return;
        }
        let script = r#"
            status() { grep "^$1:" /proc/self/status | tr -d '\t' | cut -d: -f2; }
            echo user $(id -u):$(id -g)
            echo groups $(id -G)
            echo capabilities $(status CapEff) $(status CapBnd)
            echo privileges $(status NoNewPrivs)
            echo host $(hostname)
            echo folder $(pwd)
            echo variable $VARIABLE
            echo devices $(ls /sys/class/net)
            echo files $(ulimit -n)
            echo port $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)
            echo root $(echo x 2>/dev/null >/x && echo written || echo refused)
        "#;
        let mut spec = fixture.script("confined", script);
        let open = fixture.run(&spec, b"").text();
        let open = values(&open);
        assert_eq!((open["user"], open["privileges"], open["root"]), ("0:0", "0", "written"), "{open:?}");

        spec.user = Some("1234:2345".to_owned());
        spec.groups = vec!["777".to_owned()];
        spec.hostname = Some("bottle".to_owned());
        spec.working_directory = Some("/bin".to_owned());
        spec.environment.insert("VARIABLE".to_owned(), "a = b".to_owned());
        spec.security_options = vec!["no-new-privileges".to_owned()];
        spec.sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "5".to_owned());
        spec.ulimits = vec![Ulimit { name: "nofile".to_owned(), soft: 99, hard: 100 }];
        spec.read_only_root = true;
        let outcome = fixture.run(&spec, b"");
        let confined = outcome.text();
        let confined = values(&confined);
        let expected = [
            ("user", "1234:2345"),
            ("groups", "2345 777"),
            ("capabilities", "0000000000000000 0000000000000000"),
            ("privileges", "1"),
            ("host", "bottle"),
            ("folder", "/bin"),
            ("variable", "a = b"),
            ("devices", "lo"),
            ("files", "99"),
            ("port", "5"),
            ("root", "refused"),
        ];
        assert_eq!(confined, expected.into(), "{outcome:?}");

        spec.add_capabilities = vec!["NET_ADMIN".to_owned()];
        spec.user = Some("0:0".to_owned());
        let outcome = fixture.run(&spec, b"").text();
        // CAP_NET_ADMIN is bit 12, capabilities(7).
        assert_eq!(values(&outcome)["capabilities"], "0000000000001000 0000000000001000");
    });
}

#[test]
fn mounts_are_what_they_are_asked_to_be() {
    with_engines(|fixture| {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("file"), "of the host").expect("written");
        // For a rootless engine, which is another user.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("set");
        let volume = fixture.name("volume");
        fixture.engine.create_volume(&volume, &fixture.labels()).expect("made");
        let of_volume = |target, read_only, no_copy| {
            mount(target, read_only, MountKind::Volume { name: volume.clone(), no_copy })
        };

        let mut writer = fixture.script("writer", "ls /other; echo kept > /other/file");
        let tmpfs = |exec| MountKind::Tmpfs { size: 4096 * 1024, mode: 0o1750, exec, owner: None };
        writer.mounts = vec![of_volume("/other", false, true)];
        let outcome = fixture.run(&writer, b"");
        assert_eq!((outcome.code, outcome.text().as_str()), (0, ""), "{outcome:?}");

        let source = folder.path().to_str().expect("UTF-8").to_owned();
        let script = r#"
            try() { "$@" 2>/dev/null && echo yes || echo no; }
            echo volume $(cat /v/file) $(try touch /v/x)
            echo bind $(cat /b/file) $(try touch /b/x)
            cp /bin/busybox /exec/busybox; cp /bin/busybox /noexec/busybox
            echo exec $(try /exec/busybox true) noexec $(try /noexec/busybox true)
            echo mode $(stat -c %a /exec)
            echo size $(try dd if=/dev/zero of=/noexec/large bs=1024 count=5000)
        "#;
        let mut reader = fixture.script("reader", script);
        reader.mounts = vec![
            of_volume("/v", true, true),
            mount("/b", true, MountKind::Bind { source }),
            mount("/exec", false, tmpfs(true)),
            mount("/noexec", false, tmpfs(false)),
        ];
        let outcome = fixture.run(&reader, b"");
        let text = outcome.text();
        let seen = values(&text);
        let expected = [
            ("volume", "kept no"),
            ("bind", "of the host no"),
            ("exec", "yes noexec no"),
            ("mode", "1750"),
            ("size", "no"),
        ];
        assert_eq!(seen, expected.into(), "{outcome:?}");
        reader.mounts.iter_mut().for_each(|mount| mount.read_only = false);
        let text = fixture.run(&reader, b"").text();
        assert_eq!((values(&text)["volume"], values(&text)["bind"]), ("kept yes", "of the host yes"));

        reader.mounts[1].kind = MountKind::Bind { source: "/no-such-folder-of-the-host".to_owned() };
        let error = fixture.engine.create_container(&reader).expect_err("it does not exist");
        assert!(error.to_string().contains("/no-such-folder-of-the-host"), "{error}");
    });
}

#[test]
fn an_empty_volume_is_filled_from_the_image_unless_it_is_told_not_to_be() {
    with_engines(|fixture| {
        if fixture.is_podman("podman 4 ignores `no_copy`") {
            return;
        }
        for (no_copy, expected) in [(false, "passwd\n"), (true, "")] {
            let name = fixture.name(&format!("volume-{no_copy}"));
            fixture.engine.create_volume(&name, &fixture.labels()).expect("made");
            let mut spec = fixture.script("lister", "ls /etc | grep passwd");
            spec.mounts = vec![mount("/etc", false, MountKind::Volume { name, no_copy })];
            assert_eq!(fixture.run(&spec, b"").text(), expected, "{no_copy}");
        }
    });
}

#[test]
fn a_volume_that_is_not_there_is_made_with_the_labels_of_its_container() {
    with_engines(|fixture| {
        if fixture.is_podman("podman 4 ignores the labels of a volume that is not there") {
            return;
        }
        let name = fixture.name("late");
        let mut spec = fixture.script("late", "true");
        spec.mounts = vec![mount("/v", false, MountKind::Volume { name: name.clone(), no_copy: true })];
        fixture.engine.create_container(&spec).expect("created");
        let volumes = fixture.engine.volumes(&fixture.label()).expect("listed");
        assert_eq!(volumes.iter().map(|volume| &volume.name).collect::<Vec<_>>(), [&name]);
    });
}

#[test]
fn limits_that_the_engine_enforces_hold() {
    with_engines(|fixture| {
        let enforced = fixture.engine.info().expect("answered").limits;
        // The shell ends when it cannot fork.
        let script = "i=0; while [ $i -lt 20 ]; do sleep 60 & i=$((i+1)); done; echo begun";
        let mut spec = fixture.script("pids", script);
        if enforced.pids {
            spec.limits.pids = Some(5);
            let outcome = fixture.run(&spec, b"");
            assert!(outcome.code != 0 && outcome.text().is_empty(), "{outcome:?}");
            spec.limits.pids = Some(100);
            assert_eq!(fixture.run(&spec, b"").text(), "begun\n");
        }
        if enforced.memory {
            // `tail` keeps what has no line end.
            let mut spec = fixture.script("memory", "dd if=/dev/zero bs=1M count=200 | tail | wc -c");
            spec.limits.memory = Some(64 << 20);
            spec.limits.memory_and_swap = Some(64 << 20);
            let outcome = fixture.run(&spec, b"");
            assert!(!outcome.text().contains("209715200"), "{outcome:?}");
            spec.limits.memory = Some(1 << 30);
            spec.limits.memory_and_swap = Some(1 << 30);
            assert!(fixture.run(&spec, b"").text().contains("209715200"));
        }
    });
}
