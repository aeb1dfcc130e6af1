//! The host's own login, good and bad.

use bot_bottle_core::{
    error::Hint,
    provider::{CredentialError, HostCredentials, ProviderError},
};
use serde_json::{Value, json};

use crate::fixture::{NOW, Provision, claude_login, codex_claims, codex_login, codex_token, found};

fn problem(provider: &'static str, credentials: HostCredentials) -> (CredentialError, String) {
    let provision = Provision { credentials, ..Provision::forwarding(provider, "") };
    match provision.run() {
        Err(ProviderError::Credentials { problem, hint, .. }) => (problem, hint),
        other => panic!("{provider}: {other:?}"),
    }
}

fn with(mut login: Value, pointer: &str, value: Value) -> HostCredentials {
    *login.pointer_mut(pointer).expect("the field is there") = value;
    found(&login.to_string())
}

fn expiring(seconds_from_now: i64) -> HostCredentials {
    let mut claims = codex_claims("access");
    claims["exp"] = json!(NOW.checked_add_signed(seconds_from_now).expect("a time"));
    with(codex_login(), "/tokens/access_token", json!(codex_token(&claims, "c2lnbmF0dXJl")))
}

#[test]
fn four_kinds_of_useless_login_are_four_errors_that_say_what_to_do() {
    let key_only =
        json!({"auth_mode": "apikey", "OPENAI_API_KEY": "sk-proj-0123456789abcdef", "tokens": null});
    let mut messages = String::new();
    for (provider, credentials) in [
        ("codex", HostCredentials::Missing),
        ("codex", found(&key_only.to_string())),
        ("codex", found("{\"tokens\": {\"access_token\": \"eyJhbGci")),
        ("codex", expiring(-3 * 86_400)),
        ("codex", expiring(290)),
        ("claude", HostCredentials::Missing),
        ("claude", found("{\"primaryApiKey\": \"sk-ant-api03-0123456789\"}")),
        ("claude", found("{\"mcpOAuth\": {}}")),
        ("claude", with(claude_login(), "/claudeAiOauth/expiresAt", json!((NOW - 7_300) * 1000))),
    ] {
        let provision = Provision { credentials, ..Provision::forwarding(provider, "") };
        let error = provision.run().expect_err("the login is useless");
        messages.push_str(&format!("{error}\n  hint: {}\n", error.hint().unwrap_or_default()));
    }
    insta::assert_snapshot!(messages);
}

#[test]
fn a_login_is_expired_when_codex_would_refresh_it() {
    for (seconds, refused) in [(-1, true), (0, true), (299, true), (300, true), (301, false), (310, false)] {
        let provision = Provision { credentials: expiring(seconds), ..Provision::forwarding("codex", "") };
        let expected = refused.then_some(CredentialError::Expired { seconds_left: seconds });
        let found = match provision.run() {
            Ok(_) => None,
            Err(ProviderError::Credentials { problem, .. }) => Some(problem),
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(found, expected, "{seconds}");
    }
}

#[test]
fn a_login_with_an_api_key_beside_it_is_a_login() {
    let credentials = with(codex_login(), "/OPENAI_API_KEY", json!("sk-proj-0123456789abcdef"));
    let provision = Provision { credentials, ..Provision::forwarding("codex", "") };
    let plan = serde_json::to_string(&provision.run().expect("a plan")).expect("JSON");
    assert!(!plan.contains("sk-proj"));
}

#[test]
fn the_account_is_taken_from_the_token_where_the_file_has_none() {
    let credentials = with(codex_login(), "/tokens/account_id", Value::Null);
    let provision = Provision { credentials, ..Provision::forwarding("codex", "") };
    assert_eq!(provision.run(), Provision::forwarding("codex", &codex_login().to_string()).run());
}

#[test]
fn what_is_not_a_login_of_codex_is_malformed() {
    let token = |claims: &Value| json!(codex_token(claims, "c2lnbmF0dXJl"));
    let mut without_expiry = codex_claims("access");
    without_expiry["exp"] = Value::Null;
    for (what, credentials) in [
        ("empty", found("")),
        ("not an object", found("[]")),
        ("no tokens", found("{}")),
        ("tokens of another kind", with(codex_login(), "/tokens", json!("sk-proj-secret"))),
        ("no token", with(codex_login(), "/tokens/access_token", Value::Null)),
        ("an opaque token", with(codex_login(), "/tokens/access_token", json!("at-0123456789"))),
        ("a token of four parts", with(codex_login(), "/tokens/access_token", json!("a.e30.c.d"))),
        ("a header line", with(codex_login(), "/tokens/access_token", json!("a.e30.c\r\nx: y"))),
        ("claims that are not JSON", with(codex_login(), "/tokens/access_token", json!("a.AAAA.c"))),
        ("no expiry", with(codex_login(), "/tokens/access_token", token(&without_expiry))),
        ("an account id with a line", with(codex_login(), "/tokens/account_id", json!("a\"\nb = 1"))),
        ("an account id too long", with(codex_login(), "/tokens/account_id", json!("a".repeat(65)))),
        ("far too long", found(&" ".repeat(300 * 1024))),
    ] {
        let (problem, hint) = problem("codex", credentials);
        assert!(matches!(problem, CredentialError::Malformed(_)), "{what}: {problem:?}");
        assert!(!problem.to_string().contains("secret"), "{what}: {problem}");
        assert!(hint.contains("codex login"), "{what}: {hint}");
    }
}

#[test]
fn what_is_not_a_login_of_claude_is_malformed() {
    for (what, credentials) in [
        ("empty", found("")),
        ("no login", found("{}")),
        ("no token", with(claude_login(), "/claudeAiOauth/accessToken", Value::Null)),
        ("a number for a token", with(claude_login(), "/claudeAiOauth/accessToken", json!(5))),
        ("two lines", with(claude_login(), "/claudeAiOauth/accessToken", json!("a\nb"))),
        ("no expiry", with(claude_login(), "/claudeAiOauth/expiresAt", Value::Null)),
        ("a text for an expiry", with(claude_login(), "/claudeAiOauth/expiresAt", json!("secret"))),
    ] {
        let (problem, _) = problem("claude", credentials);
        assert!(matches!(problem, CredentialError::Malformed(_)), "{what}: {problem:?}");
        assert!(!problem.to_string().contains("secret"), "{what}: {problem}");
    }
}
