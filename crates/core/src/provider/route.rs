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

/// The one port of a provider's routes: a credential never travels unencrypted.
const HTTPS: u16 = 443;

/// A route to a provider's own service, with its credential as a bearer token (RFC 6750).
///
/// The content of model calls is prose and code, in which patterns of secrets are found by chance; so it is
/// not pattern-scanned. What the gateway itself holds is still looked for.
pub(super) fn bearer(
    provider: &'static str,
    host: &'static str,
    token: &SecretRef,
    matches: Vec<RequestMatch>,
) -> Route {
    Route {
        host: HostPattern::Exact(HostName::parse(host).expect("a provider's own hosts are names")),
        ports: BTreeSet::from([HTTPS]),
        auth: Some(RouteAuth::Inject(RouteCredential {
            shape: CredentialShape::Scheme("Bearer".to_owned()),
            token_ref: token.clone(),
        })),
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
