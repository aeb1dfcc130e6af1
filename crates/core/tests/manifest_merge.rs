//! Merging bottles: associative, each once, and the later one wins.

use std::fmt::Write as _;

use bot_bottle_core::{
    bottle::{Bottle, EnvEntry},
    manifest::{Manifest, SourceFile, Sources},
};
use proptest::{collection::btree_map, option, prelude::*};

/// `push.tags`, `push.force` and the number in the address.
type Remote = (Option<bool>, Option<bool>, Option<u8>);

/// The keys of one bottle, each there or not.
#[derive(Debug, Clone)]
struct Keys {
    env: std::collections::BTreeMap<String, u8>,
    routes: std::collections::BTreeMap<String, u16>,
    remotes: std::collections::BTreeMap<String, Remote>,
    settings: std::collections::BTreeMap<String, u8>,
    scalars: (Option<bool>, Option<bool>, Option<u8>, Option<u8>),
    user: (Option<u8>, Option<u8>),
    limits: (Option<u8>, Option<u8>),
}

impl Keys {
    fn yaml(&self) -> String {
        let mut yaml = String::from("env:\n");
        let mut line = |text: String| writeln!(yaml, "{text}").expect("a string grows");
        for (name, value) in &self.env {
            line(format!("  {name}: value {value}"));
        }
        line("git:\n  user:".into());
        if let Some(name) = self.user.0 {
            line(format!("    name: Ada {name}"));
        }
        if let Some(email) = self.user.1 {
            line(format!("    email: ada{email}@example.org"));
        }
        line("  remotes:".into());
        for (name, (tags, force, url)) in &self.remotes {
            line(format!("    {name}:\n      url: https://git{}.test/a\n      push:", url.unwrap_or(0)));
            for (key, value) in [("tags", tags), ("force", force)] {
                if let Some(value) = value {
                    line(format!("        {key}: {value}"));
                }
            }
        }
        line("egress:\n  routes:".into());
        for (host, port) in &self.routes {
            line(format!("    - {{host: {host}.test, ports: [{port}]}}"));
        }
        if let Some(log) = self.scalars.2 {
            line(format!("  log: {}", log % 3));
        }
        if let Some(supervise) = self.scalars.0 {
            line(format!("supervise: {supervise}"));
        }
        if let Some(backend) = self.scalars.3 {
            line(format!("backend: {}", ["native", "docker"][usize::from(backend % 2)]));
        }
        line("agent_provider:".into());
        if let Some(forward) = self.scalars.1 {
            line(format!("  forward_host_credentials: {forward}"));
        }
        line("  settings:".into());
        for (name, value) in &self.settings {
            line(format!("    {name}: {value}"));
        }
        line("limits:".into());
        if let Some(memory) = self.limits.0 {
            line(format!("  memory: {}MiB", u16::from(memory) + 1));
        }
        if let Some(pids) = self.limits.1 {
            line(format!("  pids: {}", u16::from(pids) + 1));
        }
        yaml
    }
}

fn keys() -> impl Strategy<Value = Keys> {
    let small = || any::<u8>();
    (
        btree_map("[A-D]", small(), 0..4),
        btree_map("[a-d]", 1..=u16::MAX, 0..4),
        btree_map("[a-c]", (option::of(any::<bool>()), option::of(any::<bool>()), option::of(small())), 0..3),
        btree_map("[a-c]", small(), 0..3),
        (option::of(any::<bool>()), option::of(any::<bool>()), option::of(small()), option::of(small())),
        (option::of(small()), option::of(small())),
        (option::of(small()), option::of(small())),
    )
        .prop_map(|(env, routes, remotes, settings, scalars, user, limits)| Keys {
            env,
            routes,
            remotes,
            settings,
            scalars,
            user,
            limits,
        })
}

fn manifest(bottles: &[(&str, &str, String)]) -> Manifest {
    let file = |(name, extends, yaml): &(&str, &str, String)| SourceFile {
        path: format!("/home/ada/.bot-bottle/bottles/{name}.md").into(),
        text: Ok(format!("---\nextends: [{extends}]\n{yaml}---\n")),
    };
    let bottles = bottles.iter().map(file).collect();
    Manifest::parse(&Sources { home: "/home/ada".into(), bottles, ..Sources::default() })
}

fn folded(manifest: &Manifest, names: &[&str]) -> Bottle {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    manifest.fold_bottles(&names).unwrap_or_else(|error| panic!("{error}"))
}

proptest! {
    #[test]
    fn how_bottles_are_grouped_makes_no_difference(a in keys(), b in keys(), c in keys()) {
        let manifest = manifest(&[
            ("a", "", a.yaml()),
            ("b", "", b.yaml()),
            ("c", "", c.yaml()),
            ("ab", "a, b", String::new()),
            ("bc", "b, c", String::new()),
            ("abc", "ab", c.yaml()),
        ]);
        let all = folded(&manifest, &["a", "b", "c"]);
        prop_assert_eq!(&all, &folded(&manifest, &["ab", "c"]));
        prop_assert_eq!(&all, &folded(&manifest, &["a", "bc"]));
        prop_assert_eq!(&all, &folded(&manifest, &["abc"]));
    }

    #[test]
    fn a_diamond_is_merged_once(a in keys(), b in keys(), c in keys()) {
        let manifest = manifest(&[
            ("a", "", a.yaml()),
            ("b", "a", b.yaml()),
            ("c", "a", c.yaml()),
            ("d", "b, c", String::new()),
            ("only-b", "", b.yaml()),
            ("only-c", "", c.yaml()),
        ]);
        // Merged twice, `a` would come after `b` and win over it.
        let once = folded(&manifest, &["a", "only-b", "only-c"]);
        prop_assert_eq!(&once, &folded(&manifest, &["d"]));
        prop_assert_eq!(&once, &folded(&manifest, &["b", "c"]));
        prop_assert_eq!(&once, &folded(&manifest, &["b", "c", "b", "a"]));
    }

    #[test]
    fn what_a_child_says_wins_and_the_rest_stays(parent in keys(), child in keys()) {
        let manifest = manifest(&[
            ("parent", "", parent.yaml()),
            ("child", "parent", child.yaml()),
            ("alone", "", child.yaml()),
        ]);
        let below = folded(&manifest, &["parent"]);
        let own = folded(&manifest, &["alone"]);
        let merged = folded(&manifest, &["child"]);

        for (name, value) in &merged.env {
            prop_assert_eq!(value, own.env.get(name).or(below.env.get(name)).expect("from one of them"));
        }
        prop_assert_eq!(merged.supervise, own.supervise.or(below.supervise));
        prop_assert_eq!(merged.backend, own.backend.or(below.backend));
        prop_assert_eq!(merged.limits.memory, own.limits.memory.or(below.limits.memory));
        prop_assert_eq!(merged.git.user, below.git.user.clone().overlaid(own.git.user.clone()));
        let hosts = merged.egress.routes.iter().map(|route| &route.host).collect::<std::collections::BTreeSet<_>>();
        prop_assert_eq!(hosts.len(), merged.egress.routes.len(), "one route for each host");
        for route in &merged.egress.routes {
            let of = |bottle: &Bottle| bottle.egress.routes.iter().find(|other| other.host == route.host).cloned();
            prop_assert_eq!(route, &of(&own).or(of(&below)).expect("from one of them"));
        }
        // Parents' routes come first, and a replaced one keeps its place.
        for (index, route) in below.egress.routes.iter().enumerate() {
            prop_assert_eq!(&merged.egress.routes[index].host, &route.host);
        }
    }
}

#[test]
fn remotes_merge_by_field_and_a_push_rule_does_not_reset_the_others() {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    let manifest = manifest(&[
        (
            "parent",
            "",
            format!(
                "git:\n  remotes:\n    app:\n      url: ssh://git@git.test/app\n      host_key: {key}\n      \
                 push: {{branches: [\"agent/*\"]}}\n"
            ),
        ),
        ("child", "parent", "git: {remotes: {app: {push: {force: true}}}}\n".into()),
    ]);
    let app = folded(&manifest, &["child"]).git.remotes.remove("app").expect("the remote");
    assert_eq!(app.push.branches, Some(vec!["agent/*".to_owned()]));
    assert!(app.push.force);
    assert_eq!(app.host_key.as_deref(), Some(key));
}

#[test]
fn an_empty_name_wins_over_nothing() {
    let manifest = manifest(&[
        ("parent", "", "git: {user: {name: Ada}}\nenv: {A: b}\n".into()),
        ("child", "parent", "git: {user: {name: ''}}\nenv: {A: ''}\n".into()),
    ]);
    let child = folded(&manifest, &["child"]);
    assert_eq!(child.git.user.name.map(|name| name.value).as_deref(), Some("Ada"));
    assert_eq!(child.env["A"], EnvEntry::Literal(String::new()), "an empty variable is said, not unsaid");
}

#[test]
fn contradictions_between_files_name_both() {
    let manifest = manifest(&[
        ("parent", "", "agent_provider: {auth_token: TOKEN}\n".into()),
        ("child", "parent", "agent_provider: {forward_host_credentials: true}\n".into()),
        ("mended", "child", "agent_provider: {forward_host_credentials: false}\n".into()),
    ]);
    let error = manifest.fold_bottles(&["child".into()]).expect_err("two logins").to_string();
    assert!(error.contains("bottles/child.md:3:") && error.contains("bottles/parent.md:3:"), "{error}");
    folded(&manifest, &["mended"]);
}
