//! What a bottle may reach, and the decision on one request.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    decision::{DecidedBy, Decision, Reason, Verdict},
    host::{Host, HostName, HostPattern},
};

mod auth;
mod body;
mod credential_names;
mod git;
mod matching;
mod method;
mod overrides;
mod parameter;
mod path;

pub use auth::{CredentialShape, RouteAuth, RouteCredential, ShapeError};
pub use body::{BodyCheck, refusal_of_large_file_batch};
pub use credential_names::{credential_parameter, is_credential_header};
use git::GitService;
pub use matching::{HeaderMatch, PathMatch, RequestMatch, TextMatch, TextMatchError};
pub use method::same_field;
pub use overrides::is_override;
pub use parameter::{parameter_holds, same_parameter};
pub(crate) use path::canonical as canonical_path;

/// Every route of a bottle. What no route allows is refused; no route allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// At most one per host pattern.
    pub routes: Vec<Route>,
    /// What no route opens, a wildcard neither: hosts that would hand the bottle real credentials.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub forbidden_hosts: BTreeSet<HostPattern>,
}

/// A host that may be reached, with what may be asked of it and which credential is injected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The host, or what lies below one.
    pub host: HostPattern,
    /// TCP ports.
    pub ports: BTreeSet<u16>,
    /// How requests are authenticated; without it no credential goes out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<RouteAuth>,
    /// At least one must match; none at all means everything on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<RequestMatch>,
    /// Whether TLS is terminated or passed through.
    #[serde(default)]
    pub tls: RouteTls,
    /// Whether git may fetch from this host over HTTPS. Push is never allowed here.
    #[serde(default)]
    pub git_fetch: bool,
    /// Whether the operator is asked before each request that the route allows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ask: bool,
    /// What is done about content.
    #[serde(default)]
    pub content: ContentRules,
    /// Who brought the route.
    pub owner: RouteOwner,
}

/// What the gateway does with TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteTls {
    /// TLS ends at the gateway, which checks every request.
    #[default]
    Intercept,
    /// A tunnel that is checked by server name alone.
    Splice,
}

/// Who brought a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteOwner {
    /// The operator's manifest.
    Manifest,
    /// A provider's plan, by the provider's name. Such a route owns its host outright.
    Provider(String),
}

/// What is done about content on a route (`dlp` and `pipelock` of the manifest).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentRules {
    /// Content is not pattern-scanned; the host gate, known secrets and canaries still hold.
    #[serde(default)]
    pub tls_passthrough: bool,
    /// Detectors for requests: `None` is the default set, an empty set is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound: Option<BTreeSet<OutboundDetector>>,
    /// Detectors for responses: `None` is the default set, an empty set is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound: Option<BTreeSet<InboundDetector>>,
    /// What a finding in a request leads to; `None` is the default of the route's owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_match: Option<OnMatch>,
}

/// What looks for secrets in requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboundDetector {
    /// Formats of vendors' tokens.
    TokenPatterns,
    /// The values that the gateway holds, and canaries.
    KnownSecrets,
    /// Strings of high entropy.
    Entropy,
}

/// What looks for attacks in responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InboundDetector {
    /// Instruction overrides and solicitation of credentials.
    NaiveInjectionDetection,
}

/// What a finding in a request leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMatch {
    /// Refuse.
    Block,
    /// Replace the finding, scan again, refuse if it is still there.
    Redact,
    /// Hold until the operator decides.
    Supervise,
}

/// What the policy looks at in a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestFacts<'a> {
    /// Where to, normalised.
    pub host: &'a Host,
    /// TCP port.
    pub port: u16,
    /// Whether the request would travel encrypted to the upstream.
    pub encrypted: bool,
    /// Method, as sent.
    pub method: &'a str,
    /// Path as sent, without the query.
    pub path: &'a str,
    /// Query as sent, without the `?`.
    pub query: Option<&'a str>,
    /// Headers, as they will be sent but for the credential.
    pub headers: &'a dyn Headers,
}

/// The headers of a request, whatever library holds them.
pub trait Headers: std::fmt::Debug {
    /// Calls `visit` with each value of the fields that a server may take for the header ([`same_field`]).
    fn each_value(&self, name: &str, visit: &mut dyn FnMut(&[u8]));
}

impl Policy {
    /// The route for a name: an exact one before a wildcard, a longer wildcard before a shorter one.
    #[must_use]
    pub fn route_for(&self, name: &HostName) -> Option<&Route> {
        self.routes.iter().filter(|route| route.host.matches(name)).max_by_key(|route| match &route.host {
            HostPattern::Exact(_) => usize::MAX,
            HostPattern::Below(parent) => parent.as_str().len(),
        })
    }

    /// Whether a connection may be opened at all, before a request is seen.
    ///
    /// # Errors
    /// The refusal.
    pub fn decide_destination(&self, host: &Host, port: u16) -> Result<&Route, Decision> {
        let name = host.name().ok_or_else(|| Decision::refuse(Reason::AddressLiteral, DecidedBy::Policy))?;
        let route = self.decide_name(name)?;
        if !route.ports.contains(&port) {
            return Err(Decision::refuse(Reason::PortNotAllowed, DecidedBy::Policy).on(&route.host));
        }
        Ok(route)
    }

    /// Whether a name may be known at all, whatever is asked of its host.
    ///
    /// # Errors
    /// The refusal.
    pub fn decide_name(&self, name: &HostName) -> Result<&Route, Decision> {
        let refuse = |reason| Decision::refuse(reason, DecidedBy::Policy);
        if self.forbidden_hosts.iter().any(|forbidden| forbidden.matches(name)) {
            return Err(refuse(Reason::HostForbidden));
        }
        self.route_for(name).ok_or_else(|| refuse(Reason::NoRoute))
    }

    /// Decides one request. The first rule that refuses gives the reason.
    #[must_use]
    pub fn decide(&self, request: &RequestFacts<'_>) -> Decision {
        let route = match self.decide_destination(request.host, request.port) {
            Ok(route) => route,
            Err(refusal) => return refusal,
        };
        match route.refusal_of(request) {
            Some(reason) => Decision::refuse(reason, DecidedBy::Policy).on(&route.host),
            None => {
                let (verdict, reason) = match route.ask {
                    true => (Verdict::Ask, Reason::ApprovalNeeded),
                    false => (Verdict::Allow, Reason::Allowed),
                };
                let route = Some(route.host.clone());
                Decision { verdict, reason, source: DecidedBy::Policy, route }
            }
        }
    }
}

impl Route {
    /// The ports of a route that names none.
    pub const DEFAULT_PORTS: [u16; 2] = [80, 443];

    /// The headers that some entry of the route looks at.
    pub fn headers_decided_on(&self) -> impl Iterator<Item = &str> {
        self.matches.iter().flat_map(|entry| &entry.headers).map(|header| header.name.as_str())
    }

    /// What is injected, after every check.
    #[must_use]
    pub fn credential(&self) -> Option<&RouteCredential> {
        self.auth.as_ref().and_then(RouteAuth::credential)
    }

    fn refusal_of(&self, request: &RequestFacts<'_>) -> Option<Reason> {
        if self.credential().is_some() && !request.encrypted {
            return Some(Reason::CleartextCredential);
        }
        if method::reflects(request) {
            return Some(Reason::MethodReflects);
        }
        match git::service(request) {
            Some(GitService::Push) => return Some(Reason::GitPush),
            Some(GitService::Fetch) if !self.git_fetch => return Some(Reason::GitFetch),
            Some(GitService::Fetch) | None => {}
        }
        self.refusal_by_matches(request)
    }

    /// Every method and path that some server may obey has to be allowed, the one of the request line first.
    fn refusal_by_matches(&self, request: &RequestFacts<'_>) -> Option<Reason> {
        if self.matches.is_empty() {
            return None;
        }
        if let Some(reason) = self.refusal_of_line(request.method, request.path, request) {
            return Some(reason);
        }
        // A server may obey one of them, or both.
        let methods: Vec<_> =
            [request.method.to_owned()].into_iter().chain(overrides::methods(request)).collect();
        let paths: Vec<_> = [request.path.to_owned()].into_iter().chain(overrides::paths(request)).collect();
        let is_refused = |path: &String| {
            methods.iter().any(|method| self.refusal_of_line(method, path, request).is_some())
        };
        paths.iter().any(is_refused).then_some(Reason::OverrideNotAllowed)
    }

    fn refusal_of_line(&self, method: &str, path: &str, request: &RequestFacts<'_>) -> Option<Reason> {
        let entries = || self.matches.iter().filter(|entry| entry.is_for_all_but_the_path(method, request));
        // Where any path will do, none has to be read.
        if entries().any(|entry| entry.paths.is_empty()) {
            return None;
        }
        if entries().next().is_none() {
            return Some(Reason::NoMatch);
        }
        let Some(readings) = path::readings(path) else {
            return Some(Reason::PathNotCanonical);
        };
        let allowed = |reading: &&String| entries().any(|entry| entry.is_for_path(reading));
        match readings.iter().filter(allowed).count() {
            0 => Some(Reason::NoMatch),
            count if count < readings.len() => Some(Reason::PathNotCanonical),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
