//! What each provider brings, as snapshots.

use std::collections::BTreeSet;

use bot_bottle_core::{
    error::Hint,
    host::HostName,
    plan::BottlePlan,
    policy::PathMatch,
    provider::{ExtraRoute, all, forbidden_hosts},
    secret::SecretRef,
};

use crate::fixture::{Provision, claude_login, codex_login};

#[test]
fn claude_with_a_token_on_a_terminal() {
    insta::assert_json_snapshot!(Provision::with_token().run().expect("a plan"));
}

#[test]
fn claude_with_a_token_and_a_system_prompt_headless() {
    let provision = Provision::with_token()
        .prompted("You are a careful reviewer.\nSay \"no\" often.")
        .extra(&["--model", "sonnet"])
        .headless("-review \"this\"");
    insta::assert_json_snapshot!(provision.run().expect("a plan"));
}

#[test]
fn claude_with_the_login_of_the_host() {
    let plan = Provision::forwarding("claude", &claude_login().to_string()).run().expect("a plan");
    insta::assert_json_snapshot!(plan);
    assert_eq!(plan.secrets.len(), 1);
    assert_eq!(plan.secrets[0].reference.name(), "CLAUDE_HOST_CREDENTIAL_TOKEN_REF");
    assert_eq!(claude_login()["claudeAiOauth"]["accessToken"], plan.secrets[0].value.as_str());
}

#[test]
fn codex_on_a_terminal() {
    let plan = Provision::forwarding("codex", &codex_login().to_string()).run().expect("a plan");
    insta::assert_json_snapshot!(plan);
    assert_eq!(plan.secrets.len(), 1);
    assert_eq!(plan.secrets[0].reference.name(), "CODEX_HOST_CREDENTIAL_TOKEN_REF");
    assert_eq!(codex_login()["tokens"]["access_token"], plan.secrets[0].value.as_str());
}

#[test]
fn codex_with_a_system_prompt_headless() {
    let provision = Provision::forwarding("codex", &codex_login().to_string())
        .prompted("You are a careful reviewer.\nSay \"no\" often, C:\\too \u{7f}.")
        .extra(&["--model", "gpt-large"])
        .headless("--review \"this\"");
    insta::assert_json_snapshot!(provision.run().expect("a plan"));
}

#[test]
fn a_conversation_goes_on_by_the_programs_own_options() {
    let (claude, codex) =
        (Provision::with_token, || Provision::forwarding("codex", &codex_login().to_string()));
    for (provision, words) in [
        (claude().going_on(), &["--continue"][..]),
        (claude().going_on().headless("go on"), &["--continue", "-p", "--", "go on"]),
        (codex().going_on(), &["resume", "--last"]),
        (codex().going_on().headless("go on"), &["resume", "--last", "--", "go on"]),
    ] {
        let plan = provision.run().expect("a plan");
        assert!(plan.command.ends_with(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()));
        // The login that is written again is one of the plan's files.
        let paths: Vec<_> = plan.files.iter().map(|file| &file.path).collect();
        assert!(plan.login_files.iter().all(|path| paths.contains(&path)));
        assert_eq!(plan.login_files.is_empty(), plan.provider == "claude");
    }
}

#[test]
fn an_empty_system_prompt_leaves_no_trace() {
    for provision in [Provision::with_token(), Provision::forwarding("codex", &codex_login().to_string())] {
        let plan = provision.prompted(" \n").run().expect("a plan");
        assert!(!plan.command.iter().any(|word| word.contains("prompt")), "{:?}", plan.command);
        let named = |name: &str| plan.files.iter().any(|file| file.path.ends_with(name));
        assert!(!named(".bot-bottle-prompt.txt"));
        assert!(!plan.files.iter().any(|file| file.content.contains("developer_instructions")));
    }
}

#[test]
fn packages_are_pinned_for_each_processor() {
    for provider in all() {
        for architecture in ["x86_64", "aarch64"] {
            let package = provider.package(architecture).expect("a package");
            assert!(package.integrity.starts_with("sha512-") && package.integrity.len() == 95);
            assert!(package.version.starts_with(|digit: char| digit.is_ascii_digit()));
        }
        assert_eq!(provider.package("riscv64"), None);
    }
}

#[test]
fn token_endpoints_are_forbidden_whichever_provider_a_bottle_has() {
    let hosts: Vec<String> = forbidden_hosts().iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["auth.openai.com", "console.anthropic.com", "platform.claude.com"]);
    for provision in [Provision::with_token(), Provision::forwarding("codex", &codex_login().to_string())] {
        assert_eq!(provision.plan().expect("a plan").policy.forbidden_hosts, forbidden_hosts());
    }
}

/// With these keys under `agent_provider` and nothing else.
fn with_keys(provider: &'static str, api_key: Option<&str>, base_url: Option<&str>) -> Provision {
    let mut provision = Provision { provider, ..Provision::with_token() };
    let settings = &mut provision.bottle.provider;
    settings.template = Some(provider.to_owned());
    settings.auth_token = None;
    settings.api_key = api_key.map(SecretRef::new);
    settings.base_url = base_url.map(|url| url.parse().expect("a URL"));
    provision
}

#[test]
fn an_api_key_takes_the_place_of_a_login() {
    for provider in ["claude", "codex"] {
        let plan = with_keys(provider, Some("MODEL_KEY"), None).run().expect("a plan");
        insta::assert_json_snapshot!(format!("{provider}_with_an_api_key"), plan);
        assert!(plan.secrets.is_empty() && plan.login_files.is_empty());
    }
}

#[test]
fn another_service_is_asked_in_the_place_of_the_providers_own() {
    let url = Some("https://llm.corp.example:8443/team/v1");
    for provider in ["claude", "codex"] {
        let plan = with_keys(provider, Some("MODEL_KEY"), url).run().expect("a plan");
        insta::assert_json_snapshot!(format!("{provider}_with_another_service"), plan);
        let open = with_keys(provider, None, Some("http://llm.local:11434")).run().expect("a plan");
        let [route] = &open.egress_routes[..] else { panic!("{:?}", open.egress_routes) };
        assert!(route.auth.is_none() && route.ports == BTreeSet::from([11434]));
        assert!(open.notes.iter().any(|note| note.contains("no credential")), "{:?}", open.notes);
    }
    let token = Provision::with_token();
    let mut elsewhere = Provision::with_token();
    elsewhere.bottle.provider.base_url = url.map(|url| url.parse().expect("a URL"));
    let variables = |provision: Provision| provision.run().expect("a plan").env;
    assert!(variables(token).contains_key("CLAUDE_CODE_OAUTH_TOKEN"));
    let elsewhere = variables(elsewhere);
    assert!(
        elsewhere.contains_key("ANTHROPIC_AUTH_TOKEN") && !elsewhere.contains_key("CLAUDE_CODE_OAUTH_TOKEN")
    );
}

#[test]
fn the_operator_widens_the_routes_of_a_provider_and_not_to_all_that_a_credential_opens() {
    let with_extra = |extra: &[(&str, Option<&str>)]| {
        let mut provision = Provision::with_token();
        let parsed = |(host, path): &(&str, Option<&str>)| ExtraRoute {
            host: HostName::parse(host).expect("a name"),
            path: path.map(str::to_owned),
        };
        provision.bottle.provider.extra_routes = extra.iter().map(parsed).collect();
        provision.plan()
    };
    let route_to = |plan: &BottlePlan, host: &str| {
        let found = plan.policy.routes.iter().find(|route| route.host.to_string() == host);
        found.cloned().expect("a route")
    };
    let before = route_to(&with_extra(&[]).expect("a plan"), "api.anthropic.com");
    let plan = with_extra(&[
        ("api.anthropic.com", Some("/v2/messages")),
        ("new.example.org", Some("/a")),
        ("all.example.org", None),
    ])
    .expect("a plan");
    let own = route_to(&plan, "api.anthropic.com");
    assert_eq!(own.matches.len(), before.matches.len() + 1);
    assert_eq!(own.matches.last().expect("it").paths, [PathMatch::Prefix("/v2/messages".to_owned())]);
    assert_eq!(own.auth, before.auth);
    for (host, matches) in [("new.example.org", 1), ("all.example.org", 0)] {
        let route = route_to(&plan, host);
        assert!(route.auth.is_none() && route.ports == BTreeSet::from([443]), "{route:?}");
        assert_eq!((route.matches.len(), route.owner), (matches, before.owner.clone()));
    }
    let refused = [("api.anthropic.com", None), ("platform.claude.com", Some("/v1"))];
    let errors = refused.map(|extra| with_extra(&[extra]).expect_err("too much").to_string());
    assert!(errors[0].contains("all of api.anthropic.com would be opened"), "{errors:?}");
    assert!(errors[1].contains("platform.claude.com"), "{errors:?}");
}

#[test]
fn claude_without_a_login_starts_and_codex_does_not() {
    let plan = with_keys("claude", None, None).run().expect("a plan");
    assert!(plan.egress_routes.iter().all(|route| route.auth.is_none()));
    assert!(plan.notes.iter().any(|note| note.contains("nothing logs claude in")), "{:?}", plan.notes);
    assert!(plan.env.values().all(|value| !value.contains("placeholder")), "{:?}", plan.env);
    assert!(with_keys("codex", None, None).run().is_err());
}

#[test]
fn a_credential_goes_to_no_service_that_it_is_not_for() {
    let mut messages = String::new();
    for provider in ["claude", "codex"] {
        let in_clear = with_keys(provider, Some("MODEL_KEY"), Some("http://llm.local:11434"));
        let mut of_host = Provision::forwarding(provider, "{}");
        of_host.bottle.provider.base_url = Some("https://llm.corp.example".parse().expect("a URL"));
        let mut two = Provision::forwarding(provider, "{}");
        two.bottle.provider.api_key = Some(SecretRef::new("MODEL_KEY"));
        for provision in [in_clear, of_host, two] {
            let error = provision.run().expect_err("it would go there");
            messages.push_str(&format!("{error}\n  hint: {}\n", error.hint().unwrap_or_default()));
        }
    }
    insta::assert_snapshot!(messages);
}
