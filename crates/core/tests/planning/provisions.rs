//! What each provider brings, as snapshots.

use bot_bottle_core::provider::{all, forbidden_hosts};

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
