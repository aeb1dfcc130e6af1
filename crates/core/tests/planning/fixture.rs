//! Bottles, logins and inputs to plan with.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bot_bottle_core::{
    bottle::{Agent, BackendName, Bottle, EffectiveBottle, Settings},
    identity::Identity,
    plan::{BottlePlan, PlanError, PlanInput, Program, plan_agent, plan_program},
    policy::{ContentRules, CredentialShape, Route, RouteAuth, RouteCredential, RouteOwner, RouteTls},
    provider::{
        AgentProvisionPlan, Conversation, GuestPaths, HostCredentials, ProviderError, ProvisionInput,
        RunMode, by_name,
    },
    secret::SecretRef,
};
use serde_json::{Value, json};

/// 2026-11-23T11:18:21Z.
pub(crate) const NOW: u64 = 1_795_432_701;

/// When the tokens of [`codex_login`] expire.
pub(crate) const EXPIRES: u64 = NOW + 7_200;

pub(crate) const ACCOUNT: &str = "6f1c0a52-3d1e-4c55-9c0f-2f8a3b1d7e90";

/// Provisions a bottle with nothing but the provider's own keys.
pub(crate) struct Provision {
    pub(crate) provider: &'static str,
    pub(crate) bottle: Bottle,
    pub(crate) prompt: &'static str,
    pub(crate) mode: RunMode,
    pub(crate) conversation: Conversation,
    pub(crate) credentials: HostCredentials,
    pub(crate) extra_arguments: Vec<String>,
}

impl Provision {
    pub(crate) fn with_token() -> Self {
        let mut bottle = Bottle::default();
        bottle.provider.auth_token = Some(SecretRef::new("MY_CLAUDE_TOKEN"));
        Self {
            provider: "claude",
            bottle,
            prompt: "",
            mode: RunMode::Interactive,
            conversation: Conversation::New,
            credentials: HostCredentials::NotForwarded,
            extra_arguments: Vec::new(),
        }
    }

    pub(crate) fn forwarding(provider: &'static str, login: &str) -> Self {
        let mut bottle = Bottle::default();
        bottle.provider.template = Some(provider.to_owned());
        bottle.provider.forward_host_credentials = true;
        Self { provider, bottle, credentials: found(login), ..Self::with_token() }
    }

    pub(crate) fn headless(mut self, prompt: &str) -> Self {
        self.mode = RunMode::Headless { prompt: prompt.to_owned() };
        self
    }

    pub(crate) fn going_on(mut self) -> Self {
        self.conversation = Conversation::Last;
        self
    }

    pub(crate) fn prompted(mut self, prompt: &'static str) -> Self {
        self.prompt = prompt;
        self
    }

    pub(crate) fn extra(mut self, arguments: &[&str]) -> Self {
        self.extra_arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self
    }

    pub(crate) fn run(&self) -> Result<AgentProvisionPlan, ProviderError> {
        by_name(self.provider).expect("a provider").provision(&ProvisionInput {
            conversation: self.conversation,
            bottle: &self.bottle,
            system_prompt: self.prompt,
            mode: &self.mode,
            guest: &GuestPaths::default(),
            credentials: &self.credentials,
            login_path: Path::new("/home/ada/the-login.json"),
            now: NOW,
            extra_arguments: &self.extra_arguments,
        })
    }

    pub(crate) fn plan(&self) -> Result<BottlePlan, PlanError> {
        let agent = Agent {
            name: "reviewer".to_owned(),
            skills: vec!["review".to_owned()],
            prompt: self.prompt.to_owned(),
            ..Agent::default()
        };
        let effective =
            EffectiveBottle { agent, bottle_names: vec!["dev".to_owned()], bottle: self.bottle.clone() };
        let provision = self.run().expect("a provision plan");
        with_input(&Settings::default(), |input| plan_agent(input, &effective, &provision, &self.mode))
    }
}

pub(crate) fn found(text: &str) -> HostCredentials {
    HostCredentials::Found(text.to_owned().into())
}

pub(crate) fn with_input<T>(settings: &Settings, run: impl FnOnce(&PlanInput<'_>) -> T) -> T {
    run(&PlanInput {
        identity: &"reviewer-k3x9a".parse::<Identity>().expect("an identity"),
        backend: BackendName::Native,
        settings,
        workspace: Some(&PathBuf::from("/home/ada/app")),
        guest: &GuestPaths::default(),
        host_home: Path::new("/home/ada"),
        terminal: Some("tmux-256color"),
    })
}

pub(crate) fn plan_bare(bottle: &Bottle) -> Result<BottlePlan, PlanError> {
    plan_with(bottle, &Settings::default())
}

pub(crate) fn plan_with(bottle: &Bottle, settings: &Settings) -> Result<BottlePlan, PlanError> {
    with_input(settings, |input| {
        plan_program(input, bottle, &["dev".to_owned()], Program::of_bottle(["make", "test"]))
    })
}

/// A route of a manifest.
pub(crate) fn route(host: &str) -> Route {
    Route {
        host: host.parse().expect("a host pattern"),
        ports: BTreeSet::from(Route::DEFAULT_PORTS),
        auth: None,
        matches: Vec::new(),
        tls: RouteTls::Intercept,
        git_fetch: false,
        ask: false,
        content: ContentRules::default(),
        owner: RouteOwner::Manifest,
    }
}

pub(crate) fn route_with_token(host: &str, token: &str) -> Route {
    let shape = CredentialShape::Scheme("Bearer".to_owned());
    let auth = RouteAuth::Inject(RouteCredential { shape, token_ref: SecretRef::new(token) });
    Route { auth: Some(auth), ..route(host) }
}

/// A login of Claude Code, as the program writes it.
pub(crate) fn claude_login() -> Value {
    json!({"claudeAiOauth": {
        "accessToken": "sk-ant-oat01-qE9v3kT0xW8bLh2RzYcN5uJ1aFsD7mPgVtKi4oXeBwQyUnSrCdGpMjHfZl6A-AAAA",
        "refreshToken": "sk-ant-ort01-Zk2PqLw8sVn4TyRb6XcMd0HfJg3UaEi9WoBt5NvQrYmKxCl1DzSpGhFjAu7e-BBBB",
        "expiresAt": EXPIRES * 1000 + 123,
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
    }})
}

/// A login of Codex, as the program writes it.
pub(crate) fn codex_login() -> Value {
    let token = |kind: &str, signature: &str| codex_token(&codex_claims(kind), signature);
    json!({
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": null,
        "tokens": {
            "id_token": token("identity-of-ada", "0Gk3hVbQ9sXw2TfPz7RmLc5YdNj8KaUe"),
            "access_token": token("access-of-ada", "nW4xJt6ZyBq1HvSg8FpMr3DkCo5LuEiA"),
            "refresh_token": "rt_7mVxQe2LhKp9TzWc4RbYn6GdSf0JuAiE3oXkBtMl8rP.Hq5NwCv1ZsDgUyFj",
            "account_id": ACCOUNT,
        },
        "last_refresh": "2026-11-20T08:00:00.123456Z",
    })
}

pub(crate) fn codex_claims(kind: &str) -> Value {
    json!({
        "aud": ["https://audience.example.org/v1"],
        "iss": "https://issuer.example.org",
        "exp": EXPIRES,
        "iat": NOW - 86_400,
        "jti": format!("{kind}-f00dfeed"),
        "email": "ada.lovelace@private.example",
        "https://api.openai.com/auth": {
            "chatgpt_account_id": ACCOUNT,
            "chatgpt_plan_type": "enterprise-plan",
            "chatgpt_user_id": "user-Zx81LmQpRt",
        },
        "https://api.openai.com/profile": {"email": "ada.lovelace@private.example"},
    })
}

pub(crate) fn codex_token(claims: &Value, signature: &str) -> String {
    let header = json!({"alg": "RS256", "kid": "19344e65-bbc9-44d1-a9d0-f957b079bd0e"});
    format!(
        "{}.{}.{signature}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    )
}
