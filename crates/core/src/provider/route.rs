//! The routes that providers bring.

use std::collections::BTreeSet;

use crate::{
    host::{HostName, HostPattern},
    policy::{
        ContentRules, CredentialShape, PathMatch, RequestMatch, Route, RouteAuth, RouteCredential,
        RouteOwner, RouteTls,
    },
    secret::SecretRef,
};

use super::{BaseUrl, ProviderError};

/// The one port of a provider's own service: a credential never travels unencrypted.
const HTTPS: u16 = 443;

/// A credential as a bearer token (RFC 6750).
pub(super) fn bearer(token: &SecretRef) -> RouteAuth {
    RouteAuth::Inject(RouteCredential {
        shape: CredentialShape::Scheme("Bearer".to_owned()),
        token_ref: token.clone(),
    })
}

/// A route to a provider's own service.
pub(super) fn own(
    provider: &'static str,
    host: &'static str,
    auth: Option<RouteAuth>,
    matches: Vec<RequestMatch>,
) -> Route {
    let host = HostName::parse(host).expect("a provider's own hosts are names");
    route(provider, host, HTTPS, auth, matches)
}

/// A route to another service that speaks the provider's API.
pub(super) fn other(
    provider: &'static str,
    url: &BaseUrl,
    auth: Option<RouteAuth>,
    matches: Vec<RequestMatch>,
) -> Route {
    route(provider, url.host().clone(), url.port(), auth, matches)
}

/// A route to a host that the operator has added to a provider's.
pub(super) fn extra(provider: &str, host: HostName, matches: Vec<RequestMatch>) -> Route {
    route(provider, host, HTTPS, None, matches)
}

/// Refuses a credential that would travel in clear.
pub(super) fn check_cleartext(url: &BaseUrl, auth: Option<&RouteAuth>) -> Result<(), ProviderError> {
    match auth {
        Some(_) if !url.is_encrypted() => Err(ProviderError::Setting {
            key: "agent_provider.base_url",
            problem: format!("a credential would go to {url} in clear"),
            hint: "write `https://`; or take the credential out, if the service needs none".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The content of model calls is prose and code, in which patterns of secrets are found by chance; so it is
/// not pattern-scanned. What the gateway itself holds is still looked for.
fn route(
    provider: &str,
    host: HostName,
    port: u16,
    auth: Option<RouteAuth>,
    matches: Vec<RequestMatch>,
) -> Route {
    Route {
        host: HostPattern::Exact(host),
        ports: BTreeSet::from([port]),
        auth,
        matches,
        tls: RouteTls::Intercept,
        git_fetch: false,
        ask: false,
        content: ContentRules { tls_passthrough: true, ..ContentRules::default() },
        owner: RouteOwner::Provider(provider.to_owned()),
    }
}

/// Any of these methods on exactly these paths and on what lies below these folders.
pub(super) fn allow(methods: &[&str], exact: &[&str], below: &[&str]) -> RequestMatch {
    RequestMatch {
        paths: exact
            .iter()
            .map(|path| PathMatch::Exact((*path).to_owned()))
            .chain(below.iter().map(|path| PathMatch::Prefix((*path).to_owned())))
            .collect(),
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        headers: Vec::new(),
    }
}

/// The patterns for names that are written in this program.
pub(super) fn exact_hosts(names: &[&str]) -> BTreeSet<HostPattern> {
    names
        .iter()
        .map(|name| HostPattern::Exact(HostName::parse(name).expect("a provider's own hosts are names")))
        .collect()
}
