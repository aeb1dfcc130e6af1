//! Whole plans.

use std::collections::BTreeSet;

use bot_bottle_core::{
    bottle::{Bottle, EnvEntry, GitUser, Origin, Provenance, Settings},
    decision::Reason,
    gateway_config::UpstreamConfig,
    host::Host,
    plan::{BottlePlan, PlanError, ProgramSource, trust_environment},
    policy::{Headers, RequestFacts},
    provider::GuestPaths,
    secret::{SecretOrigin, SecretRef, SecretSource},
    upstream_proxy::{ProxyLogin, UpstreamProxy},
};
use serde_json::json;

use crate::fixture::{Provision, codex_login, plan_bare, plan_with, route, route_with_token};

fn said(value: &str) -> Option<Provenance<String>> {
    Some(Provenance { value: value.to_owned(), from: Origin::Bottle })
}

fn literal(plan: &BottlePlan, name: &str) -> String {
    match &plan.env[name] {
        EnvEntry::Literal(value) => value.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn a_bottle_for_claude() {
    let mut provision = Provision::with_token().prompted("Review.").headless("review this");
    let bottle = &mut provision.bottle;
    bottle.egress.routes = vec![
        route_with_token("api.github.com", "GITHUB_TOKEN"),
        route_with_token("*.example.org", "GITHUB_TOKEN"),
    ];
    bottle.env.insert("RUST_LOG".to_owned(), EnvEntry::Literal("info".to_owned()));
    bottle.env.insert("GH_USER".to_owned(), EnvEntry::HostVariable("USER".to_owned()));
    bottle.git.user = GitUser { name: said("Ada"), email: said("ada@example.org") };
    insta::assert_json_snapshot!(provision.plan().expect("a plan"));
}

#[test]
fn a_bottle_for_codex() {
    let provision = Provision::forwarding("codex", &codex_login().to_string());
    insta::assert_json_snapshot!(provision.plan().expect("a plan"));
}

#[test]
fn a_bare_command() {
    insta::assert_json_snapshot!(plan_bare(&Bottle::default()).expect("a plan"));
}

/// The way out of [`through_a_proxy`]'s settings.
fn proxy(password: &str) -> UpstreamProxy {
    let login = ProxyLogin { username: "ada".to_owned(), password_ref: Some(SecretRef::new(password)) };
    UpstreamProxy { url: "http://proxy.corp:3128".parse().expect("a URL"), login: Some(login) }
}

#[test]
fn through_a_proxy() {
    let mut bottle = Bottle::default();
    bottle.egress.routes = vec![route_with_token("api.github.com", "GITHUB_TOKEN")];
    let mut settings = Settings::default();
    settings.egress.upstream_proxy = Some(proxy("PROXY_PASSWORD"));
    settings.egress.no_proxy.push("*.corp".parse().expect("a pattern"));
    settings.egress.private.push("*.corp".parse().expect("a pattern"));
    let origin = SecretOrigin::Command(vec!["pass".to_owned(), "proxy".to_owned()]);
    let source = SecretSource { origin, renew_every: None };
    settings.secrets.insert(SecretRef::new("PROXY_PASSWORD"), source);
    let plan = plan_with(&bottle, &settings).expect("a plan");
    insta::assert_json_snapshot!(json!({
        "upstream": plan.upstream, "secrets": plan.secrets, "sources": plan.secret_sources, "notes": plan.notes,
    }));

    // The way out of a run that goes on is that of today's settings, and its policy that of its start.
    settings.egress.upstream_proxy = Some(proxy("OTHER_PASSWORD"));
    let names = |plan: &BottlePlan| plan.secrets.iter().map(ToString::to_string).collect::<Vec<_>>();
    let changed = plan.clone().with_way_out(&settings, &[]);
    assert_eq!(names(&changed), ["GITHUB_TOKEN", "OTHER_PASSWORD"]);
    assert!(changed.secret_sources.is_empty() && changed.upstream.proxy == Some(proxy("OTHER_PASSWORD")));
    let direct = changed.with_way_out(&Settings::default(), &[]);
    assert_eq!(
        (names(&direct), direct.upstream),
        (vec!["GITHUB_TOKEN".to_owned()], UpstreamConfig::default())
    );

    // What a provider brings has no other source, whatever the settings name.
    let source = SecretSource { origin: SecretOrigin::File("/token".into()), renew_every: None };
    settings.secrets.insert(SecretRef::new("GITHUB_TOKEN"), source);
    let provided = [SecretRef::new("GITHUB_TOKEN")];
    assert!(plan.clone().with_way_out(&settings, &[]).secret_sources.contains_key(&provided[0]));
    assert!(!plan.clone().with_way_out(&settings, &provided).secret_sources.contains_key(&provided[0]));

    // The password is a credential like others.
    let copied = EnvEntry::HostVariable("OTHER_PASSWORD".to_owned());
    bottle.env.insert("PASSWORD".to_owned(), copied);
    let refused = plan_with(&bottle, &settings).expect_err("it would be in the bottle");
    assert!(matches!(refused, PlanError::CredentialInEnvironment { .. }), "{refused:?}");
}

#[test]
fn a_command_takes_nothing_from_the_provider_and_says_so() {
    let plan = plan_bare(&Provision::with_token().bottle).expect("a plan");
    assert_eq!(plan.program.source, ProgramSource::Bottle);
    assert!(plan.policy.routes.is_empty() && plan.secrets.is_empty() && plan.provider.is_none());
    assert!(plan.notes.iter().any(|note| note.contains("agent_provider")), "{:?}", plan.notes);
}

#[test]
fn the_environment_of_the_bottle_wins_over_preferences() {
    let mut provision = Provision::with_token();
    for (name, value) in [("PATH", "/bin"), ("TERM", "dumb"), ("DISABLE_TELEMETRY", "0")] {
        provision.bottle.env.insert(name.to_owned(), EnvEntry::Literal(value.to_owned()));
    }
    let plan = provision.plan().expect("a plan");
    assert_eq!(literal(&plan, "PATH"), "/bin");
    assert_eq!(literal(&plan, "TERM"), "dumb");
    assert_eq!(literal(&plan, "DISABLE_TELEMETRY"), "0");
    assert_eq!(literal(&plan, "CLAUDE_CODE_OAUTH_TOKEN"), "egress-placeholder");
    assert!(
        !plan.hidden_env_names.contains(&"PATH".to_owned()),
        "the operator wrote it, the preflight shows it"
    );
    assert!(plan.hidden_env_names.contains(&"CLAUDE_CODE_OAUTH_TOKEN".to_owned()));
    assert_eq!(literal(&plan_bare(&Bottle::default()).expect("a plan"), "TERM"), "tmux-256color");
}

#[test]
fn every_variable_for_trust_names_a_file_of_the_bottle() {
    let guest = GuestPaths::default();
    let env = trust_environment(&guest);
    insta::assert_json_snapshot!(env);
    let plan = plan_bare(&Bottle::default()).expect("a plan");
    let files: BTreeSet<_> = plan.system_files.iter().map(|file| file.path.clone()).collect();
    assert_eq!(files, BTreeSet::from([guest.wgetrc, guest.apt_config]));
}

#[test]
fn a_route_for_a_host_of_the_provider_is_dropped_aloud() {
    let mut provision = Provision::with_token();
    provision.bottle.egress.routes =
        vec![route_with_token("api.anthropic.com", "STOLEN"), route("*.anthropic.com")];
    let plan = provision.plan().expect("a plan");
    let hosts: Vec<String> = plan.policy.routes.iter().map(|route| route.host.to_string()).collect();
    assert_eq!(hosts, ["api.anthropic.com", "*.anthropic.com"]);
    assert_eq!(plan.secrets.iter().map(ToString::to_string).collect::<Vec<_>>(), ["MY_CLAUDE_TOKEN"]);
    assert!(
        plan.notes.iter().any(|note| note.contains("egress.routes[api.anthropic.com] is dropped")),
        "{:?}",
        plan.notes
    );
    assert!(
        plan.notes
            .iter()
            .any(|note| note.contains("*.anthropic.com") && note.contains("console.anthropic.com")),
        "{:?}",
        plan.notes
    );
}

#[test]
fn a_manifest_may_inject_the_forwarded_login_at_another_host() {
    let token = "CODEX_HOST_CREDENTIAL_TOKEN_REF";
    let mut provision = Provision::forwarding("codex", &codex_login().to_string());
    provision.bottle.egress.routes = vec![route_with_token("us.chatgpt.com", token)];
    let plan = provision.plan().expect("a plan");
    let hosts: Vec<String> = plan.policy.routes.iter().map(|route| route.host.to_string()).collect();
    assert_eq!(hosts, ["chatgpt.com", "api.openai.com", "us.chatgpt.com"]);
    assert_eq!(plan.secrets.iter().map(ToString::to_string).collect::<Vec<_>>(), [token]);
}

/// The credential opens more than the program needs; what it does not need stays closed.
#[test]
fn routes_of_providers_are_open_for_what_the_programs_need_alone() {
    #[derive(Debug)]
    struct NoHeaders;
    impl Headers for NoHeaders {
        fn each_value(&self, _name: &str, _visit: &mut dyn FnMut(&[u8])) {}
    }
    let plan = |provision: Provision| provision.plan().expect("a plan").policy;
    let claude = plan(Provision::with_token());
    let codex = plan(Provision::forwarding("codex", &codex_login().to_string()));
    for (policy, method, host, path, expected) in [
        (&claude, "POST", "api.anthropic.com", "/v1/messages", Reason::Allowed),
        (&claude, "GET", "api.anthropic.com", "/api/claude_code/settings", Reason::Allowed),
        (&claude, "POST", "api.anthropic.com", "/api/oauth/claude_cli/create_api_key", Reason::NoMatch),
        (&claude, "POST", "api.anthropic.com", "/v1/oauth/token", Reason::NoMatch),
        (&claude, "GET", "api.anthropic.com", "/v1/files", Reason::NoMatch),
        (&claude, "POST", "api.anthropic.com", "/v1/code/triggers", Reason::NoMatch),
        (&claude, "POST", "platform.claude.com", "/v1/oauth/token", Reason::HostForbidden),
        (&codex, "GET", "chatgpt.com", "/backend-api/codex/responses", Reason::Allowed),
        (&codex, "POST", "chatgpt.com", "/backend-api/codex/responses", Reason::Allowed),
        (&codex, "GET", "chatgpt.com", "/backend-api/wham/accounts/check", Reason::Allowed),
        (&codex, "POST", "chatgpt.com", "/backend-api/wham/tasks", Reason::NoMatch),
        (&codex, "POST", "chatgpt.com", "/backend-api/codex/tasks", Reason::NoMatch),
        (&codex, "GET", "chatgpt.com", "/backend-api/conversations", Reason::NoMatch),
        (&codex, "POST", "auth.openai.com", "/oauth/token", Reason::HostForbidden),
    ] {
        let host = Host::parse(host).expect("a host");
        let headers = &NoHeaders;
        let request =
            RequestFacts { host: &host, port: 443, encrypted: true, method, path, query: None, headers };
        assert_eq!(policy.decide(&request).reason, expected, "{method} {host}{path}");
    }
}

#[test]
fn the_author_is_escaped_as_git_reads_it() {
    let mut bottle = Bottle::default();
    bottle.git.user =
        GitUser { name: said("Ada \"Countess\" \\o/ #1; Löve"), email: said("ada@example.org") };
    let plan = plan_bare(&bottle).expect("a plan");
    let file = plan.files.iter().find(|file| file.path.ends_with(".gitconfig")).expect("a file");
    assert_eq!(
        file.content,
        "[user]\n\tname = \"Ada \\\"Countess\\\" \\\\o/ #1; Löve\"\n\temail = \"ada@example.org\"\n"
    );
    assert!(plan_bare(&Bottle::default()).expect("a plan").files.is_empty());
}

#[test]
fn the_gateways_way_out_is_the_settings() {
    let mut settings = Settings::default();
    settings.egress.extra_ca.push("/home/ada/corp.pem".into());
    let fixed = serde_json::from_value(serde_json::json!({"address": "10.0.0.7"})).expect("an address");
    settings.egress.resolve.insert("api.example.org".to_owned().try_into().expect("a name"), fixed);
    let plan = plan_with(&Bottle::default(), &settings).expect("a plan");
    assert_eq!(plan.upstream.extra_ca, settings.egress.extra_ca);
    assert_eq!(plan.upstream.resolve, settings.egress.resolve);
}
