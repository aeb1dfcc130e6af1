//! What refuses to start, and what it says.

use bot_bottle_core::{
    bottle::{
        BackendName, Bottle, Budget, EgressLog, EnvEntry, GitRemote, GitUser, OnExceeded, Origin, Provenance,
        Settings,
    },
    error::Hint,
    plan::{PlanError, unenforced},
    policy::{InboundDetector, OnMatch, OutboundDetector, RouteTls},
    provider::ProviderError,
    upstream_proxy::UpstreamProxy,
};

use crate::fixture::{Provision, codex_login, plan_bare, plan_with, route, route_with_token};

#[test]
fn a_bottle_that_uses_what_is_not_there_is_refused_by_name() {
    let mut bottle = Bottle::default();
    bottle.provider.template = Some("pi".to_owned());
    bottle.provider.dockerfile = Some("/home/ada/Dockerfile".into());
    bottle.provider.image = Some("debian:12".to_owned());
    bottle.provider.settings.insert("base_url".to_owned(), "http://localhost".into());
    bottle.git.remotes.insert(
        "app".to_owned(),
        GitRemote {
            url: "https://example.org/app.git".to_owned(),
            host_key: None,
            key: None,
            token_ref: None,
            push: Default::default(),
        },
    );
    let mut guarded = route("api.example.org");
    guarded.content.outbound = Some([OutboundDetector::Entropy].into());
    guarded.content.inbound = Some([InboundDetector::NaiveInjectionDetection].into());
    guarded.content.on_match = Some(OnMatch::Block);
    guarded.content.tls_passthrough = true;
    guarded.tls = RouteTls::Splice;
    bottle.egress.routes.push(guarded);
    bottle.egress.log = EgressLog::Full;
    bottle.supervise = Some(true);
    let mut settings = Settings::default();
    settings
        .budgets
        .insert("claude".to_owned(), Budget { tokens_per_day: 5, on_exceeded: OnExceeded::Cutoff });
    let text: String = unenforced(&bottle, &settings, BackendName::Native)
        .iter()
        .map(|one| format!("{one}\n  hint: {}\n", one.hint))
        .collect();
    insta::assert_snapshot!(text);
    let error = plan_with(&bottle, &settings).expect_err("it cannot be enforced");
    assert!(matches!(error, PlanError::Unenforced(_)), "{error:?}");
    assert_eq!(error.hint().unwrap_or_default().lines().count(), error.to_string().lines().count());
}

#[test]
fn everything_else_is_enforced() {
    let mut bottle = Bottle::default();
    let mut open = route_with_token("api.example.org", "TOKEN");
    open.git_fetch = true;
    bottle.egress.routes.push(open);
    bottle.supervise = Some(false);
    bottle.limits.pids = Some(5);
    bottle.env.insert("TOKEN_NAME".to_owned(), EnvEntry::Prompt("which token".to_owned()));
    let mut settings = Settings::default();
    settings.egress.extra_ca.push("/ca.pem".into());
    let url = "http://proxy.example:3128".parse().expect("a URL");
    settings.egress.upstream_proxy = Some(UpstreamProxy { url, login: None });
    settings.egress.private.push("*.lab.example".parse().expect("a pattern"));
    assert_eq!(unenforced(&bottle, &settings, BackendName::Native), []);
    bottle.provider.dockerfile = Some("/Dockerfile".into());
    assert_eq!(unenforced(&bottle, &settings, BackendName::Docker), []);
}

#[test]
fn variables_that_the_bottle_works_by_cannot_be_set() {
    for name in ["HTTPS_PROXY", "https_proxy", "no_proxy", "SSL_CERT_FILE", "JAVA_TOOL_OPTIONS", "HOME"] {
        let mut bottle = Bottle::default();
        bottle.env.insert(name.to_owned(), EnvEntry::Literal(String::new()));
        let error = plan_bare(&bottle).expect_err("it is reserved");
        assert!(
            matches!(&error, PlanError::ReservedVariable { name: found, .. } if found == name),
            "{error}"
        );
        assert!(error.hint().is_some());
    }
    let reserved = |mut provision: Provision, name: &str| {
        provision.bottle.env.insert(name.to_owned(), EnvEntry::HostVariable("X".to_owned()));
        let error = provision.plan().expect_err("it is reserved");
        assert!(
            matches!(&error, PlanError::ReservedVariable { name: found, .. } if found == name),
            "{error}"
        );
    };
    for name in ["CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CONFIG_DIR"]
    {
        reserved(Provision::with_token(), name);
    }
    for name in ["OPENAI_API_KEY", "CODEX_API_KEY", "CODEX_HOME", "CODEX_CA_CERTIFICATE"] {
        reserved(Provision::forwarding("codex", &codex_login().to_string()), name);
    }
}

#[test]
fn a_credential_that_the_gateway_injects_cannot_be_copied_into_the_bottle() {
    let mut bottle = Bottle::default();
    bottle.egress.routes.push(route_with_token("api.github.com", "GITHUB_TOKEN"));
    bottle.env.insert("GH_TOKEN".to_owned(), EnvEntry::HostVariable("GITHUB_TOKEN".to_owned()));
    let error = plan_bare(&bottle).expect_err("it would be in the bottle");
    assert_eq!(
        error,
        PlanError::CredentialInEnvironment {
            name: "GH_TOKEN".to_owned(),
            variable: "GITHUB_TOKEN".to_owned()
        }
    );
    insta::assert_snapshot!(format!("{error}\n  hint: {}", error.hint().unwrap_or_default()));
    bottle.env.insert("GH_TOKEN".to_owned(), EnvEntry::HostVariable("OTHER".to_owned()));
    assert!(plan_bare(&bottle).is_ok());
}

#[test]
fn names_and_values_that_no_environment_holds_are_refused() {
    for (name, value) in [("", "x"), ("A B", "x"), ("A=B", "x"), ("1A", "x"), ("A", "x\0y")] {
        let mut bottle = Bottle::default();
        bottle.env.insert(name.to_owned(), EnvEntry::Literal(value.to_owned()));
        assert!(plan_bare(&bottle).is_err(), "{name}");
    }
}

#[test]
fn nobody_can_be_asked_without_a_terminal() {
    let with_question = |provision: Provision| {
        let mut provision = provision;
        provision.bottle.env.insert("NPM_TOKEN".to_owned(), EnvEntry::Prompt("npm token".to_owned()));
        provision.plan()
    };
    assert!(with_question(Provision::with_token()).is_ok());
    let error = with_question(Provision::with_token().headless("go")).expect_err("nobody is there");
    assert_eq!(error, PlanError::PromptWithoutTerminal("NPM_TOKEN".to_owned()));
}

#[test]
fn token_endpoints_are_never_routed() {
    for host in ["auth.openai.com", "platform.claude.com", "Console.Anthropic.com"] {
        let mut bottle = Bottle::default();
        bottle.egress.routes.push(route(host));
        let error = plan_bare(&bottle).expect_err("it is forbidden");
        assert!(matches!(error, PlanError::ForbiddenHost { .. }), "{error:?}");
        assert!(error.to_string().contains("hands out credentials"), "{error}");
    }
    let mut bottle = Bottle::default();
    bottle.egress.routes.push(route("*.openai.com"));
    let plan = plan_bare(&bottle).expect("a wildcard opens the rest");
    assert!(plan.notes.iter().any(|note| note.contains("auth.openai.com")), "{:?}", plan.notes);
    let login = "auth.openai.com".to_owned().try_into().expect("a host");
    assert!(plan.policy.decide_destination(&login, 443).is_err());
}

#[test]
fn an_author_that_git_would_read_otherwise_is_refused() {
    for value in ["a\nb", "a\u{0}b", "\u{7f}", "Ada <ada@example.org>"] {
        let mut bottle = Bottle::default();
        let name = Some(Provenance { value: value.to_owned(), from: Origin::Agent });
        bottle.git.user = GitUser { name, email: None };
        let error = plan_bare(&bottle).expect_err("git would read it otherwise");
        assert!(matches!(error, PlanError::GitConfig(_)), "{value:?}: {error}");
        assert!(error.to_string().starts_with("git.user.name: "), "{error}");
    }
}

#[test]
fn a_bottle_says_how_its_agent_logs_in() {
    let mut messages = String::new();
    let mut refused = |provision: Provision| {
        let error = provision.run().expect_err("no way to log in");
        assert!(matches!(error, ProviderError::Setting { .. }), "{error:?}");
        messages.push_str(&format!("{error}\n  hint: {}\n", error.hint().unwrap_or_default()));
    };
    let both = || Provision::forwarding("claude", "{}");
    let mut two = both();
    two.bottle.provider.auth_token = Provision::with_token().bottle.provider.auth_token;
    refused(two);
    let mut neither = Provision::forwarding("codex", "{}");
    neither.bottle.provider.forward_host_credentials = false;
    refused(neither);
    refused(Provision { provider: "codex", ..Provision::with_token() });
    insta::assert_snapshot!(messages);
}
