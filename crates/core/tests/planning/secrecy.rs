//! Promise 4 for plans: no byte of a credential is in a plan.

use std::collections::HashSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bot_bottle_core::error::Hint;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture::{ACCOUNT, EXPIRES, Provision, claude_login, codex_claims, codex_login, codex_token};

/// As many bytes as nothing has in common with a credential by chance.
const WINDOW: usize = 16;

/// Everything that can be printed, logged or written down after provisioning. The secrets themselves, which
/// travel apart, are not.
fn everything(provision: &Provision) -> String {
    let provisioned = provision.run().expect("a provision plan");
    let plan = provision.plan().expect("a plan");
    format!(
        "{}\n{}\n{provisioned:?}\n{plan:?}",
        serde_json::to_string(&provisioned).expect("JSON"),
        serde_json::to_string(&plan).expect("JSON"),
    )
}

/// Every text in a login, the claims of its tokens included.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            for part in text.split('.') {
                let decoded = URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
                if let Ok(claims) = serde_json::from_slice::<Value>(&decoded) {
                    texts(&claims, found);
                }
            }
            found.push(text.clone());
        }
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| texts(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn assert_nothing_of(login: &Value, provision: &Provision) {
    let everything = everything(provision);
    let decoded: String = everything
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-' && letter != '_')
        .filter_map(|word| String::from_utf8(URL_SAFE_NO_PAD.decode(word).ok()?).ok())
        .collect();
    let mut secrets = Vec::new();
    texts(login, &mut secrets);
    let windows: HashSet<&[u8]> =
        [&everything, &decoded].into_iter().flat_map(|text| text.as_bytes().windows(WINDOW)).collect();
    for secret in secrets.iter().filter(|secret| !["chatgpt", "RS256", ACCOUNT].contains(&secret.as_str())) {
        for haystack in [&everything, &decoded] {
            assert!(!haystack.contains(secret.as_str()), "{secret} is in the plan");
        }
        let found = secret.as_bytes().windows(WINDOW).find(|window| windows.contains(window));
        assert!(
            found.is_none(),
            "a part of {secret} is in the plan: {:?}",
            found.map(String::from_utf8_lossy)
        );
    }
}

#[test]
fn nothing_of_a_login_of_codex_is_in_a_plan_but_the_account_and_the_expiry() {
    let login = codex_login();
    let provision = Provision::forwarding("codex", &login.to_string()).prompted("Be careful.");
    assert_nothing_of(&login, &provision);
    let plan = provision.run().expect("a plan");
    let file = plan.files.iter().find(|file| file.path.ends_with("auth.json")).expect("a dummy login");
    let dummy: Value = serde_json::from_str(&file.content).expect("JSON");
    for token in ["id_token", "access_token"] {
        let token = dummy["tokens"][token].as_str().expect("a token");
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).expect("claims")).expect("base64");
        let claims: Value = serde_json::from_slice(&claims).expect("JSON");
        let expected =
            json!({"exp": EXPIRES, "https://api.openai.com/auth": {"chatgpt_account_id": ACCOUNT}});
        assert_eq!(claims, expected);
    }
}

#[test]
fn nothing_of_a_login_of_claude_is_in_a_plan() {
    let login = claude_login();
    assert_nothing_of(&login, &Provision::forwarding("claude", &login.to_string()).headless("go"));
}

/// A placeholder is a word; what a test draws should not be one by chance.
fn secret() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-]{24,80}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_tokens_are_they_are_not_in_a_plan(
        email in secret(), signature in secret(), refresh in secret(), key in secret(),
    ) {
        let mut claims = codex_claims("drawn");
        claims["email"] = json!(email);
        let mut login = codex_login();
        login["OPENAI_API_KEY"] = json!(key);
        login["tokens"]["access_token"] = json!(codex_token(&claims, &signature));
        login["tokens"]["refresh_token"] = json!(refresh);
        assert_nothing_of(&login, &Provision::forwarding("codex", &login.to_string()));

        let mut login = claude_login();
        login["claudeAiOauth"]["accessToken"] = json!(signature);
        login["claudeAiOauth"]["refreshToken"] = json!(refresh);
        assert_nothing_of(&login, &Provision::forwarding("claude", &login.to_string()));
    }

    #[test]
    fn whatever_the_file_is_an_error_does_not_quote_it(text in secret(), cut in 0_usize..400) {
        let login = json!({"tokens": {"access_token": [text], "account_id": text}, "OPENAI_API_KEY": {"k": text}});
        let broken = codex_login().to_string().chars().take(cut).collect::<String>();
        for login in [login.to_string(), text.clone(), broken] {
            for provider in ["codex", "claude"] {
                if let Err(error) = Provision::forwarding(provider, &login).run() {
                    let said = format!("{error} {error:?} {}", error.hint().unwrap_or_default());
                    for window in text.as_bytes().windows(WINDOW) {
                        prop_assert!(!said.contains(std::str::from_utf8(window).expect("ASCII")), "{said}");
                    }
                    prop_assert!(!said.contains("eyJ"), "{said}");
                }
            }
        }
    }
}
