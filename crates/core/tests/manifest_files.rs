//! Which file counts, which is broken, and whom that hurts.

use bot_bottle_core::{
    bottle::Origin,
    manifest::{AgentOrigin, MAX_FILE_BYTES, MAX_PROBLEMS, Manifest, SourceFile, Sources},
};

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.into(), text: Ok(text.to_owned()) }
}

fn bottle(name: &str, yaml: &str) -> SourceFile {
    file(&format!("/home/ada/.bot-bottle/bottles/{name}.md"), &format!("---\n{yaml}\n---\n"))
}

fn agent(name: &str, yaml: &str) -> SourceFile {
    file(&format!("/home/ada/.bot-bottle/agents/{name}.md"), &format!("---\n{yaml}\n---\nYou help.\n"))
}

fn cwd_agent(name: &str, yaml: &str) -> SourceFile {
    file(&format!("/src/repo/.bot-bottle/agents/{name}.md"), &format!("---\n{yaml}\n---\nYou help.\n"))
}

fn manifest(bottles: Vec<SourceFile>, home_agents: Vec<SourceFile>, cwd_agents: Vec<SourceFile>) -> Manifest {
    Manifest::parse(&Sources {
        home: "/home/ada".into(),
        bottles,
        home_agents,
        cwd_agents,
        ..Sources::default()
    })
}

fn refusal(manifest: &Manifest, agent: &str, bottles: &[&str]) -> String {
    let bottles: Vec<String> = bottles.iter().map(|name| (*name).to_owned()).collect();
    manifest.bottle_for(agent, &bottles).expect_err("a refusal").to_string()
}

#[test]
fn the_agent_overlays_the_author_and_each_field_says_where_it_is_from() {
    let manifest = manifest(
        vec![bottle("dev", "git: {user: {name: Ada, email: ada@example.org}}\nenv: {A: b}")],
        vec![agent("reviewer", "bottle: dev\ngit: {user: {email: reviewer@example.org, name: ''}}")],
        vec![],
    );
    let effective = manifest.bottle_for("reviewer", &[]).expect("a bottle");
    let name = effective.bottle.git.user.name.expect("a name");
    let email = effective.bottle.git.user.email.expect("an address");
    assert_eq!((name.value.as_str(), name.from), ("Ada", Origin::Bottle));
    assert_eq!((email.value.as_str(), email.from), ("reviewer@example.org", Origin::Agent));
    assert_eq!(effective.bottle_names, ["dev"]);
    assert_eq!(effective.agent.prompt, "You help.");
    assert_eq!(effective.bottle.env.len(), 1);
}

#[test]
fn bottles_that_were_chosen_replace_those_of_the_agent() {
    let manifest = manifest(
        vec![bottle("dev", "env: {A: dev}"), bottle("other", "env: {B: other}")],
        vec![agent("a", "bottle: [dev, missing]"), agent("free", "")],
        vec![],
    );
    let effective =
        manifest.bottle_for("a", &["other".into(), "dev".into(), "other".into()]).expect("a bottle");
    assert_eq!(effective.bottle_names, ["other", "dev"]);
    assert_eq!(effective.bottle.env.len(), 2);
    let nothing_chosen = refusal(&manifest, "free", &[]);
    assert!(
        nothing_chosen.contains("--bottle") && nothing_chosen.contains("`dev`, `other`"),
        "{nothing_chosen}"
    );
    assert!(manifest.agent("free").is_ok_and(|agent| agent.bottles.is_empty()));
}

#[test]
fn an_agent_of_the_home_wins_and_says_so() {
    let manifest = manifest(
        vec![bottle("dev", "")],
        vec![agent("same", "bottle: dev\nskills: [mine]")],
        vec![cwd_agent("same", "bottle: dev\nskills: [theirs]"), cwd_agent("theirs", "bottle: dev")],
    );
    assert_eq!(manifest.agent("same").expect("the agent").skills, ["mine"]);
    let warnings = manifest.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("/home/ada/.bot-bottle/agents/same.md")
            && warnings[0].contains("/src/repo/.bot-bottle/agents/same.md"),
        "{warnings:?}"
    );
    let origins: Vec<_> = manifest.agents().into_iter().map(|agent| (agent.name, agent.origin)).collect();
    assert_eq!(origins, [("same".into(), AgentOrigin::Home), ("theirs".into(), AgentOrigin::Cwd)]);
}

#[test]
fn a_broken_agent_of_the_home_does_not_let_one_of_the_cwd_in() {
    let manifest = manifest(
        vec![bottle("dev", "")],
        vec![agent("same", "botle: dev")],
        vec![cwd_agent("same", "bottle: dev")],
    );
    assert!(refusal(&manifest, "same", &[]).contains("/home/ada/.bot-bottle/agents/same.md:2:1"));
}

#[test]
fn a_boundary_in_the_cwd_is_warned_about() {
    let manifest = Manifest::parse(&Sources {
        ignored: vec!["/src/repo/.bot-bottle/bottles".into(), "/src/repo/.bot-bottle/settings.yml".into()],
        ..Sources::default()
    });
    assert_eq!(manifest.warnings().len(), 2);
    assert!(manifest.warnings().iter().all(|warning| warning.contains("is not read")));
    assert_eq!(manifest.settings().map(|settings| settings.backend), Ok(None));
}

#[test]
fn files_whose_stem_is_no_name_are_warned_about() {
    let manifest = manifest(
        vec![
            bottle("Dev", ""),
            bottle("9", ""),
            bottle("a_b", ""),
            bottle("ok", ""),
            bottle(&"a".repeat(65), ""),
            bottle("\u{1b}[2J", ""),
        ],
        vec![],
        vec![],
    );
    assert_eq!(manifest.bottles().len(), 1);
    assert_eq!(manifest.warnings().len(), 5, "{:?}", manifest.warnings());
    assert!(!manifest.warnings().concat().contains(char::is_control), "{:?}", manifest.warnings());
}

#[test]
fn a_broken_file_only_hurts_who_needs_it() {
    let unreadable = SourceFile {
        path: "/home/ada/.bot-bottle/bottles/secret.md".into(),
        text: Err("permission denied".into()),
    };
    let manifest = manifest(
        vec![
            bottle("good", ""),
            bottle("broken", "egres: {}"),
            bottle("child", "extends: broken\nbackned: x"),
            unreadable,
        ],
        vec![
            agent("a", "bottle: good"),
            agent("b", "bottle: child\nskils: []"),
            agent("c", "bottle: secret"),
        ],
        vec![],
    );
    assert!(manifest.bottle_for("a", &[]).is_ok());
    let all = refusal(&manifest, "b", &[]);
    for place in ["agents/b.md:3:1", "bottles/broken.md:2:1", "bottles/child.md:3:1"] {
        assert!(all.contains(place), "{place} is missing in:\n{all}");
    }
    assert!(refusal(&manifest, "c", &[]).contains("secret.md"));
    assert!(refusal(&manifest, "c", &[]).contains("permission denied"));
    let broken =
        |name: &str| manifest.agents().iter().any(|agent| agent.name == name && agent.error.is_some());
    assert_eq!([broken("a"), broken("b"), broken("c")], [false, true, true]);
    let bottles = manifest.bottles();
    let child = bottles.iter().find(|bottle| bottle.name == "child").expect("listed");
    assert_eq!(child.extends, ["broken"]);
    assert!(child.error.is_some());
}

#[test]
fn circles_and_missing_parents_name_the_chain_and_the_place() {
    let manifest = manifest(
        vec![
            bottle("a", "extends: b"),
            bottle("b", "extends: [base, c]"),
            bottle("c", "env: {}\nextends:\n  - a"),
            bottle("base", ""),
            bottle("orphan", "extends: bsae"),
        ],
        vec![agent("x", "bottle: orphn")],
        vec![],
    );
    let circle = manifest.fold_bottles(&["a".into()]).expect_err("a circle").to_string();
    assert!(circle.contains("a → b → c → a") && circle.contains("bottles/c.md:4:5"), "{circle}");
    let from_c = manifest.fold_bottles(&["c".into()]).expect_err("a circle").to_string();
    assert!(from_c.contains("c → a → b → c"), "{from_c}");
    let missing = manifest.fold_bottles(&["orphan".into()]).expect_err("no parent").to_string();
    assert!(missing.contains("orphan.md:2:10") && missing.contains("did you mean `base`?"), "{missing}");
    assert!(refusal(&manifest, "x", &[]).contains("did you mean `orphan`?"));
    assert!(refusal(&manifest, "x", &["bas"]).contains("did you mean `base`?"));
    assert!(refusal(&manifest, "xx", &[]).contains("did you mean `x`?"));
}

#[test]
fn a_long_chain_of_parents_is_no_problem() {
    let name = |n: usize| format!("b{n}");
    let bottles = (0..3000)
        .map(|n| {
            bottle(
                &name(n),
                &format!(
                    "extends: [{}]\nenv: {{A: \"{n}\"}}",
                    if n == 0 { String::new() } else { name(n - 1) }
                ),
            )
        })
        .collect();
    let manifest = manifest(bottles, vec![], vec![]);
    let last = manifest.fold_bottles(&[name(2999)]).expect("a bottle");
    assert_eq!(
        serde_json::to_value(&last.env["A"]).expect("serialisable"),
        serde_json::json!({"literal": "2999"})
    );
}

#[test]
fn files_and_their_problems_are_bounded() {
    let at_limit = format!("---\n---\n{}", " ".repeat(MAX_FILE_BYTES - 8));
    let over = format!("{at_limit} ");
    let keys: String = (0..MAX_PROBLEMS + 20).map(|n| format!("wrong{n}: x\n")).collect();
    let nodes = format!("env: {{A: [{}]}}", "a,".repeat(bot_bottle_core::manifest::MAX_NODES));
    let manifest = manifest(
        vec![
            file("/b/at.md", &at_limit),
            file("/b/over.md", &over),
            bottle("many", &keys),
            bottle("nodes", &nodes),
        ],
        vec![],
        vec![],
    );
    assert!(manifest.fold_bottles(&["at".into()]).is_ok());
    let error = |name: &str| manifest.fold_bottles(&[name.to_owned()]).expect_err("a limit");
    assert!(error("over").to_string().contains("at most 262144 are read"), "{}", error("over"));
    assert_eq!(error("many").diagnostics.len(), MAX_PROBLEMS + 1);
    assert!(
        error("many")
            .to_string()
            .ends_with("there are 20 more problems in this file\n --> /home/ada/.bot-bottle/bottles/many.md")
    );
    assert_eq!(error("nodes").diagnostics.len(), 1);
}

#[test]
fn messages_are_safe_to_print_and_show_no_pasted_secret() {
    let secrets = ["ghp_0123456789abcdefghijABCDEFGHIJ012345", "sk-ant-oat01-abcdef", "me:hunter2@"];
    let yaml = format!(
        "agent_provider: {{auth_token: {}}}\negress:\n  routes:\n    - {{host: a.test, auth: {{shceme: Bearer, token_ref: {}}}}}\n\
         git: {{remotes: {{app: {{url: \"https://{}git.test/a\"}}}}}}\n\"\\e[31m\": \"\u{202e}x\"\n",
        secrets[1], secrets[0], secrets[2]
    );
    let manifest = manifest(vec![bottle("dev", &yaml)], vec![], vec![]);
    let error = manifest.fold_bottles(&["dev".into()]).expect_err("problems");
    assert_eq!(error.diagnostics.len(), 6, "{error}");
    let json = serde_json::to_string(&error).expect("serialisable");
    for text in [error.to_string(), json] {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in:\n{text}");
        }
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(!text.contains('\u{202e}'), "{text:?}");
    }
}

#[test]
fn diagnostics_are_data() {
    let manifest = manifest(vec![bottle("dev", "supervise: true\negres: {}")], vec![], vec![]);
    let error = manifest.fold_bottles(&["dev".into()]).expect_err("a problem");
    let json = serde_json::to_value(&error).expect("serialisable");
    assert_eq!(json[0]["position"]["line"], 3);
    assert_eq!(json[0]["position"]["column"], 1);
    assert_eq!(json[0]["position"]["source_line"], "egres: {}");
    assert_eq!(json[0]["hint"], "did you mean `egress`?");
    assert_eq!(json[0]["accepted"][0], "extends");
}
