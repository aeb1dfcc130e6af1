//! What was decided about a request, and why, as a value.

use std::fmt;

use serde::Serialize;

use crate::host::HostPattern;

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Decision {
    /// Pass, ask or refuse.
    pub verdict: Verdict,
    /// Why; a stable string in receipts and refusals.
    pub reason: Reason,
    /// Which part of the gateway decided.
    pub source: DecidedBy,
    /// The route that was found for the host, also where it did not allow the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<HostPattern>,
}

/// Pass, ask or refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The request goes on to the upstream.
    Allow,
    /// The request waits for the operator's answer.
    Ask,
    /// The request ends here.
    Refuse,
}

/// Which part of the gateway decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DecidedBy {
    /// The routes of the bottle.
    Policy,
    /// The rules about HTTP itself: a request that is malformed or contradicts itself.
    Protocol,
    /// The rules about addresses that may be dialled.
    Address,
    /// The upstream: its name did not resolve, or it could not be reached or believed.
    Upstream,
    /// The limits of the gateway.
    Limits,
    /// The bottle's DNS.
    Dns,
    /// The operator, who was asked.
    Operator,
    /// The end of the route's credential.
    Credential,
}

macro_rules! reasons {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal / $hint:literal),+ $(,)?) => {
        /// Why a request was allowed or refused. The strings are part of the interface: they are never
        /// changed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])+ #[serde(rename = $name)] $variant),+
        }

        impl Reason {
            /// Every reason, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The stable string.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What the one who is refused may do about it, for the refusal's body.
            #[must_use]
            pub fn hint(self) -> &'static str {
                match self { $(Self::$variant => $hint),+ }
            }
        }
    };
}

reasons! {
    /// A route allows it.
    Allowed = "allowed" / "",
    /// The route allows it, once the operator does.
    ApprovalNeeded = "approval_needed" / "",
    /// The operator was asked, and allowed it.
    Approved = "approved" / "",
    /// The operator was asked, and did not allow it in time.
    NotApproved = "not_approved" / "the operator was asked and did not allow this request; ask them before you try again",
    /// No route is for this host.
    NoRoute = "no_route" / "only the hosts of this bottle's egress.routes can be reached; ask the operator to add a route for this host",
    /// The host would hand the bottle real credentials, and no route can open it.
    HostForbidden = "host_forbidden" / "this host hands out credentials and is never routable; log in on the host, not in the bottle",
    /// A route is for this host, but not for this port.
    PortNotAllowed = "port_not_allowed" / "the route for this host allows other ports only; ask the operator to add this one to its `ports`",
    /// A route is for this host, but none of its `matches` is for this request.
    NoMatch = "no_match" / "the route for this host allows other methods, paths or headers only; ask the operator to widen its `matches`",
    /// The path can be read in two ways, and the route does not allow each of them.
    PathNotCanonical = "path_not_canonical" / "servers read this path in several ways, and the route does not allow each of them: write it without `.` or `..` segments, encoded slashes, `;`, backslashes or control characters",
    /// A header or the query names another method or path, which the route does not allow.
    OverrideNotAllowed = "override_not_allowed" / "X-HTTP-Method-Override, X-Original-URL and their kind, and `_method` in the query, may only name what the route allows; leave them out",
    /// The method makes a server send the request back, the injected credential in it.
    MethodReflects = "method_reflects" / "TRACE, TRACK, and OPTIONS with Max-Forwards are answered with the request itself; use another method, or leave Max-Forwards out",
    /// A `git push` over HTTPS, which no route can allow.
    GitPush = "git_push" / "push over HTTPS is always refused; the operator can name the repository under `git.remotes`",
    /// A `git fetch` over HTTPS from a host whose route does not say `git: {fetch: true}`.
    GitFetch = "git_fetch" / "ask the operator to write `git: {fetch: true}` on the route for this host",
    /// The destination is an address, not a name.
    AddressLiteral = "address_literal" / "use the host's name; addresses are never routable",
    /// A placeholder where a credential belongs, for a host that has none.
    PlaceholderSent = "placeholder_sent" / "this host has no credential in this bottle, so that nothing takes the place of `egress-placeholder`: ask the operator to write `auth` on its route, or send the request without a credential",
    /// A credential would have crossed the network unencrypted.
    CleartextCredential = "cleartext_credential" / "use https; this route injects a credential, which never travels unencrypted",
    /// The route's credential has expired, and there is no newer one.
    CredentialExpired = "credential_expired" / "this host's credential has expired: the operator has to log in again on the host, or give the secret a new value; the bottle goes on with it and need not be restarted",
    /// The destination's names contradict each other: tunnel, TLS server name, `Host` or `:authority`.
    HostMismatch = "host_mismatch" / "the tunnel, the TLS server name and the Host header must name one host",
    /// The request is not well-formed HTTP, or ambiguous.
    MalformedRequest = "malformed_request" / "send one well-formed HTTP request; the gateway does not guess",
    /// The destination's name is not one.
    MalformedHost = "malformed_host" / "use the host's plain DNS name",
    /// The bottle's DNS has no records of this type.
    RecordType = "record_type" / "the bottle's DNS knows addresses only; ask over HTTPS through the gateway, if a route allows the host",
    /// A name that is not allowed, and looks as if it carried data.
    DnsTunnel = "dns_tunnel" / "no query leaves the bottle, so nothing that is written into a name arrives anywhere; use a host of this bottle's egress.routes",
    /// What came through the tunnel is neither TLS nor HTTP.
    UnknownProtocol = "unknown_protocol" / "only HTTPS and HTTP leave the bottle; for git over ssh the operator can name the repository under `git.remotes`",
    /// The client broke off the TLS handshake, as one does that does not trust the bottle's CA.
    ClientTls = "client_tls" / "make the program trust the bottle's CA: SSL_CERT_FILE and the system's bundle name it",
    /// The name resolves only to addresses that are never dialled: loopback, private, link-local, metadata,
    /// multicast.
    AddressNotPublic = "address_not_public" / "the host resolves to an address inside the operator's network; only `egress.private` or `egress.resolve` in settings.yml can allow that",
    /// The name does not resolve.
    NameUnresolvable = "name_unresolvable" / "the host's name does not resolve; check its spelling",
    /// The upstream could not be reached.
    UpstreamUnreachable = "upstream_unreachable" / "the host did not answer; try again later",
    /// The upstream's certificate is not to be believed, or its TLS failed.
    UpstreamTls = "upstream_tls" / "the host's certificate could not be verified; the operator can name a private CA in settings.yml `egress.extra_ca`",
    /// The upstream's answer is not well-formed HTTP, or it broke off.
    UpstreamProtocol = "upstream_protocol" / "the host answered with something that is not HTTP, or broke off; try again later",
    /// The operator's proxy did not make a connection to the upstream.
    ProxyRefused = "proxy_refused" / "the operator's own proxy did not connect to this host: its rules are against it, or the host did not answer; the operator finds its status in the bottle's gateway.log",
    /// The operator's proxy cannot be used: not reached, a login that it does not accept, no answer in HTTP.
    ProxyFailed = "proxy_failed" / "the operator's own proxy cannot be used; nothing in the bottle can change that, and the operator finds the cause in the bottle's gateway.log",
    /// A time-out passed.
    Timeout = "timeout" / "the request took too long; docs/limits.md lists the time-outs",
    /// A limit of the gateway is reached.
    LimitReached = "limit_reached" / "fewer or smaller requests at one time; docs/limits.md lists the limits",
    /// An error inside the gateway, which refuses rather than guesses.
    Internal = "internal" / "the gateway failed; the operator finds the cause in the bottle's gateway.log",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Decision {
    /// A refusal.
    #[must_use]
    pub fn refuse(reason: Reason, source: DecidedBy) -> Self {
        Self { verdict: Verdict::Refuse, reason, source, route: None }
    }

    /// The same decision, with the route that was found for the host.
    #[must_use]
    pub fn on(mut self, route: &HostPattern) -> Self {
        self.route = Some(route.clone());
        self
    }

    /// Whether the request goes on.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

/// The body of a refusal: one JSON object that tells the agent what was refused, why, and what it may do.
#[derive(Debug, Clone, Serialize)]
pub struct RefusalBody<'a> {
    /// The stable string of the reason.
    pub reason: Reason,
    /// The host that was asked for.
    pub host: &'a str,
    /// The method of the request.
    pub method: &'a str,
    /// The path of the request, without its query.
    pub path: &'a str,
    /// What may be done about it.
    pub hint: &'a str,
    /// Why a credential could not be renewed, where that was tried: printable text of the operator's side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<&'a str>,
}
