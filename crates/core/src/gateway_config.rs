//! What a gateway process is told: one file without secrets, and the secrets apart from it.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use zeroize::Zeroizing;

use crate::{
    bottle::EgressDefaults,
    host::{HostName, HostPattern},
    limits::ByteSize,
    policy::Policy,
    secret::SecretRef,
    upstream_proxy::UpstreamProxy,
};

/// The file that `bot-bottle gateway --config FILE` reads. It holds no secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Name of the run, for logs and receipts.
    pub name: String,
    /// Where clients are accepted. May be empty where listeners are handed over by descriptor.
    #[serde(default)]
    pub listen: Vec<SocketAddr>,
    /// What may be reached.
    pub policy: Policy,
    /// The gateway's own way out.
    #[serde(default)]
    pub upstream: UpstreamConfig,
    /// Where receipts are appended.
    pub receipts: PathBuf,
    /// Bytes that receipts may take on the disk, older files among them; `None`: the gateway's own bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipts_bytes: Option<ByteSize>,
    /// Where the certificate of the bottle's CA is written as PEM, for a gateway that runs alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificate: Option<PathBuf>,
}

/// The gateway's own way out (`egress` in `settings.yml`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Every connection is made through this proxy, which resolves the names; but for those to names in `no_proxy` and
    /// `resolve`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<UpstreamProxy>,
    /// Names that are dialled directly where there is a proxy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no_proxy: Vec<HostPattern>,
    /// Names with a fixed address and optionally a fixed port, which may be any; the most specific pattern counts.
    #[serde(default)]
    pub resolve: BTreeMap<HostPattern, FixedAddress>,
    /// Names that may resolve to private addresses besides public ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private: Vec<HostPattern>,
    /// PEM files with certificate authorities that are trusted besides the system's roots.
    #[serde(default)]
    pub extra_ca: Vec<PathBuf>,
}

impl UpstreamConfig {
    /// The address that the operator fixed for this name.
    #[must_use]
    pub fn fixed_address(&self, name: &HostName) -> Option<FixedAddress> {
        let matching = self.resolve.iter().filter(|(pattern, _)| pattern.matches(name));
        let most_specific = matching.max_by_key(|(pattern, _)| match pattern {
            HostPattern::Exact(_) => usize::MAX,
            HostPattern::Below(parent) => parent.as_str().len(),
        });
        most_specific.map(|(_, address)| *address)
    }

    /// The proxy through which this name is reached.
    #[must_use]
    pub fn proxy_for(&self, name: &HostName) -> Option<&UpstreamProxy> {
        let is_direct = self.fixed_address(name).is_some() || any_matches(&self.no_proxy, name);
        self.proxy.as_ref().filter(|_| !is_direct)
    }

    /// Whether this name may resolve to private addresses.
    #[must_use]
    pub fn may_be_private(&self, name: &HostName) -> bool {
        any_matches(&self.private, name)
    }

    /// The password of the proxy.
    #[must_use]
    pub fn secret(&self) -> Option<&SecretRef> {
        self.proxy.as_ref()?.login.as_ref()?.password_ref.as_ref()
    }
}

fn any_matches(patterns: &[HostPattern], name: &HostName) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

impl From<&EgressDefaults> for UpstreamConfig {
    fn from(settings: &EgressDefaults) -> Self {
        let EgressDefaults { upstream_proxy, no_proxy, extra_ca, resolve, private } = settings.clone();
        Self { proxy: upstream_proxy, no_proxy, resolve, private, extra_ca }
    }
}

/// An address that the operator fixed for a name, like curl's `--resolve`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedAddress {
    /// Where to dial.
    pub address: std::net::IpAddr,
    /// Dialled instead of the port of the request, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// What the gateway's process writes, as one JSON line, once it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayReady {
    /// The certificate of the bottle's CA, PEM.
    pub ca_certificate: String,
    /// Its SHA-256 fingerprint, as colon-separated upper-case hex.
    pub ca_fingerprint: String,
}

/// What a listening socket that is handed to a gateway is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerKind {
    /// HTTP clients that know that it is a proxy: CONNECT, and requests in absolute form. TCP or a Unix
    /// socket.
    Proxy,
    /// TCP connections that were redirected here on their way somewhere else; the kernel tells where to.
    Transparent,
    /// DNS over UDP (RFC 1035 section 4.2.1).
    DnsUdp,
    /// DNS over TCP (RFC 7766).
    DnsTcp,
    /// Connections of a virtual machine, each with its destination in front: smolvm's egress interceptor. TCP.
    /// [`GatewayStart::interceptor_token`] has to be there.
    Interceptor,
}

/// With this smolvm proves to the gateway that a connection is of its machine: other programs of the host reach the
/// same port. 32 bytes, which smolvm takes as hexadecimal digits from its environment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InterceptorToken(Zeroizing<[u8; 32]>);

impl InterceptorToken {
    /// From random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// As it goes over the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As smolvm reads it: 64 hexadecimal digits.
    #[must_use]
    pub fn hexadecimal(&self) -> Zeroizing<String> {
        use std::fmt::Write;
        self.0.iter().fold(Zeroizing::new(String::new()), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(*text, "{byte:02x}");
            text
        })
    }
}

impl std::fmt::Debug for InterceptorToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InterceptorToken(…)")
    }
}

/// What the launcher may send a running gateway: a length of four bytes, little endian, and this as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum ControlMessage {
    /// Another policy, with the values of the secrets that it names. Requests that are under way are not
    /// affected. Answered with [`GatewayEvent::Reloaded`] or [`GatewayEvent::NotReloaded`].
    Reload {
        /// The whole policy.
        policy: Policy,
        /// All its secrets.
        secrets: Secrets,
    },
    /// Other values of some secrets, for requests from now on; the policy stays. Answered with
    /// [`GatewayEvent::Reloaded`] or [`GatewayEvent::NotReloaded`].
    Renew {
        /// Of which secrets, with their new values. One that was asked for may have the value that it had.
        secrets: Secrets,
        /// Until when they are valid, as far as that is known: seconds since 1970, UTC.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        expires: BTreeMap<SecretRef, u64>,
        /// What it was asked for.
        cause: RenewalCause,
    },
    /// There is no other value: the answer to a [`GatewayEvent::RenewalNeeded`].
    NotRenewed {
        /// Of which secret.
        reference: SecretRef,
        /// One sentence for the agent and the operator; never a part of the value.
        why: String,
    },
    /// The operator's answer to a [`GatewayEvent::Question`]. An answer to a question that was withdrawn is
    /// ignored.
    Answer {
        /// Which question.
        exchange: u64,
        /// Whether the request goes on.
        allow: bool,
    },
}

/// What a running gateway tells its launcher, one JSON line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum GatewayEvent {
    /// The new policy is in force.
    Reloaded,
    /// It is not, and the one before is still in force.
    NotReloaded {
        /// Why.
        why: String,
    },
    /// A request waits for the operator.
    Question {
        /// The exchange, as receipts count it.
        exchange: u64,
        /// Method of the request.
        method: String,
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// Its path, without the query.
        path: String,
    },
    /// A secret has come to its end, or an upstream has refused it: whoever has it should be asked for another value.
    /// [`ControlMessage::Renew`] or [`ControlMessage::NotRenewed`] answers. Not sent again for a minute.
    RenewalNeeded {
        /// Which secret.
        reference: SecretRef,
        /// Why.
        cause: RenewalCause,
    },
    /// The request is not waiting any more: the client went away, or the time for an answer has passed.
    Withdrawn {
        /// The exchange.
        exchange: u64,
    },
}

/// Why a secret gets another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RenewalCause {
    /// The file of the host that it is taken from has changed.
    Changed,
    /// `renew_every` has passed.
    Due,
    /// Its own end is near, or has come.
    Expiring,
    /// An upstream has answered 401 to a request with it (RFC 9110 section 15.5.2).
    Refused,
}

/// The values of secrets, by the references that routes name. They show in no debug output.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secrets(pub BTreeMap<SecretRef, Zeroizing<String>>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What the launcher sends a gateway process over its control socket, together with the listening sockets as
/// descriptors (SCM_RIGHTS): a length of four bytes, little endian, and this as JSON. The gateway answers
/// with [`GatewayReady`] on one line; then [`ControlMessage`] and [`GatewayEvent`] follow as they come. The
/// end of the socket is the end of the gateway.
#[derive(Default, Serialize, Deserialize)]
pub struct GatewayStart {
    /// The value behind each reference that a route or the proxy's login names.
    pub secrets: BTreeMap<SecretRef, Zeroizing<String>>,
    /// Until when they are valid, as far as that is known: seconds since 1970, UTC.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expires: BTreeMap<SecretRef, u64>,
    /// What each of the sockets is for that come with it, in their order.
    #[serde(default)]
    pub listeners: Vec<ListenerKind>,
    /// What the clients of [`ListenerKind::Interceptor`] begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interceptor_token: Option<InterceptorToken>,
}

impl std::fmt::Debug for GatewayStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.secrets.keys().collect();
        f.debug_struct("GatewayStart").field("secrets", &names).field("listeners", &self.listeners).finish()
    }
}
