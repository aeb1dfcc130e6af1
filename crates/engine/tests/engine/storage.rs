//! Volumes and networks.

use bot_bottle_engine::{Mount, MountKind, NetworkSpec, RefusalKind};

use crate::fixture::{LONG, with_engines};

#[test]
fn a_volume_is_made_once_and_stays_while_it_is_used() {
    with_engines(|fixture| {
        let engine = &fixture.engine;
        let name = fixture.name("volume");
        engine.create_volume(&name, &fixture.labels()).expect("made");
        let error = engine.create_volume(&name, &fixture.labels()).expect_err("it is there");
        assert_eq!(error.refusal(), Some(RefusalKind::Conflict), "{error}");
        let listed = engine.volumes(&fixture.label()).expect("listed");
        assert_eq!(listed.len(), 1);
        assert_eq!((&listed[0].name, &listed[0].labels), (&name, &fixture.labels()));
        assert!(engine.volumes(&format!("{}x", fixture.label())).expect("listed").is_empty());

        let mut container = fixture.script("user", "true");
        let kind = MountKind::Volume { name: name.clone(), no_copy: true };
        container.mounts.push(Mount { target: "/v".to_owned(), read_only: false, kind });
        engine.create_container(&container).expect("created");
        let error = engine.remove_volume(&name).expect_err("a container has it");
        assert_eq!(error.refusal(), Some(RefusalKind::Busy), "{error}");
        engine.remove_container(&container.name).expect("removed");
        engine.remove_volume(&name).expect("removed");
        engine.remove_volume(&name).expect("it is gone already");
        assert!(engine.volumes(&fixture.label()).expect("listed").is_empty());
    });
}

#[test]
fn a_network_is_made_once_and_stays_while_it_is_used() {
    with_engines(|fixture| {
        let engine = &fixture.engine;
        let spec = NetworkSpec {
            name: fixture.name("network"),
            labels: fixture.labels(),
            internal: true,
            ..NetworkSpec::default()
        };
        let id = engine.create_network(&spec).expect("made");
        let error = engine.create_network(&spec).expect_err("it is there");
        assert_eq!(error.refusal(), Some(RefusalKind::Conflict), "{error}");
        let listed = engine.networks(&fixture.label()).expect("listed");
        assert_eq!(listed.len(), 1);
        assert_eq!((&listed[0].id, &listed[0].name, &listed[0].labels), (&id, &spec.name, &spec.labels));

        let mut container = fixture.script("user", "cat");
        container.network.clone_from(&spec.name);
        engine.create_container(&container).expect("created");
        engine.start_container(&container.name).expect("started");
        let error = engine.remove_network(&spec.name).expect_err("a container is in it");
        assert_eq!(error.refusal(), Some(RefusalKind::Busy), "{error}");
        engine.kill_container(&container.name, "SIGKILL").expect("killed");
        assert_eq!(engine.wait_container(&container.name, LONG).expect("waited"), Some(137));
        engine.remove_container(&container.name).expect("removed");
        engine.remove_network(&spec.name).expect("removed");
        engine.remove_network(&spec.name).expect("it is gone already");
        assert!(engine.networks(&fixture.label()).expect("listed").is_empty());
    });
}
