//! What the connections of one gateway share: data alone, no stage of the pipeline.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};

use arc_swap::ArcSwap;
use bot_bottle_core::{
    decision::Decision,
    gateway_config::{GatewayConfig, GatewayReady, GatewayStart, RenewalCause},
    host::{Host, HostPattern},
    policy::{Policy, Route, RouteCredential, RouteTls},
    printable::printable,
    receipt::{Renewal, RenewalOutcome},
    secret::SecretRef,
};
use rustls::ServerConfig;
use thiserror::Error;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::{
    certificates::{CertificateAuthority, CertificateError, server_config},
    clock::UnixTime,
    credential::Injected,
    fake_ip::FakeIpTable,
    in_flight::InFlight,
    kept_body::KeptBodies,
    limits::{MAX_CONNECTIONS, MAX_RENEWAL_WHY, MAX_REQUESTS},
    questions::Questions,
    receipts::{OpenReceiptsError, Receipts, cut},
    renewals::{Answer, Renewals},
    upstream::{ExtraCaError, Proxy, ProxyLoginError, Resolve, Upstream},
};

/// One bottle's gateway: policy, credentials, receipts, certificates, connections to upstreams.
#[derive(Debug)]
pub struct State {
    /// Swapped whole when the policy changes; each request is decided by the one in force when it came.
    pub(crate) policy: ArcSwap<ActivePolicy>,
    pub(crate) receipts: Arc<Receipts>,
    pub(crate) authority: Arc<CertificateAuthority>,
    /// TLS with clients.
    pub(crate) server_config: Arc<ServerConfig>,
    pub(crate) upstream: Upstream,
    pub(crate) fake_ips: FakeIpTable,
    pub(crate) questions: Questions,
    pub(crate) renewals: Renewals,
    /// Permits for client connections.
    pub(crate) connections: Arc<Semaphore>,
    /// Permits for requests.
    pub(crate) requests: Arc<Semaphore>,
    /// Bytes of bodies on their way.
    pub(crate) in_flight: InFlight,
    /// Bodies of requests that may be sent once more.
    pub(crate) kept_bodies: KeptBodies,
}

/// A policy together with the credentials that its routes inject.
#[derive(Debug)]
pub(crate) struct ActivePolicy {
    pub(crate) policy: Arc<Policy>,
    credentials: HashMap<HostPattern, Arc<Injected>>,
}

/// The values of secrets, and their ends as far as they are known: seconds since 1970, UTC.
#[derive(Debug, Clone, Copy)]
struct Values<'a> {
    secrets: &'a BTreeMap<SecretRef, Zeroizing<String>>,
    expires: &'a BTreeMap<SecretRef, u64>,
}

/// A gateway that cannot serve.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// A route injects a credential that was not handed over.
    #[error("the route for {host} needs the secret {reference}, and nobody gave it")]
    SecretMissing {
        /// The route's host.
        host: HostPattern,
        /// The secret's name.
        reference: SecretRef,
    },
    /// The value of a secret cannot be sent.
    #[error("the secret {0} is empty, or has a line break or another character that no header can carry")]
    SecretUnusable(SecretRef),
    /// A secret was renewed that no route has.
    #[error("no route of this bottle injects the secret {0}")]
    SecretUnknown(SecretRef),
    /// Nothing takes effect without a receipt.
    #[error("no receipt could be written")]
    RenewalUnrecorded,
    /// A route asks for what this gateway cannot enforce.
    #[error("the route for {0} says `tls: splice`, which this gateway does not do yet")]
    SpliceUnsupported(HostPattern),
    /// The certificate authority.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// TLS.
    #[error("TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// Receipts.
    #[error(transparent)]
    Receipts(#[from] OpenReceiptsError),
    /// Upstream trust.
    #[error(transparent)]
    ExtraCa(#[from] ExtraCaError),
    /// The login at the operator's proxy.
    #[error(transparent)]
    ProxyLogin(#[from] ProxyLoginError),
}

impl State {
    /// Makes a gateway: its certificate authority, its receipts, its way out. Has to be called inside a
    /// runtime.
    ///
    /// # Errors
    /// See [`GatewayError`].
    pub fn new(
        config: &GatewayConfig,
        start: &GatewayStart,
        resolver: Box<dyn Resolve>,
    ) -> Result<Arc<Self>, GatewayError> {
        let receipts = Receipts::open(&config.receipts, config.receipts_bytes.map(|bytes| bytes.0))?;
        Self::with_receipts(config, start, resolver, receipts)
    }

    /// The same with receipts that are open.
    pub(crate) fn with_receipts(
        config: &GatewayConfig,
        start: &GatewayStart,
        resolver: Box<dyn Resolve>,
        receipts: Receipts,
    ) -> Result<Arc<Self>, GatewayError> {
        let values = Values { secrets: &start.secrets, expires: &start.expires };
        let policy = ActivePolicy::new(config.policy.clone(), values)?;
        let fake_ips = FakeIpTable::default();
        fake_ips.reserve(&policy.policy);
        let proxy = Proxy::new(&config.upstream, &start.secrets)?;
        let upstream = Upstream::new(&config.upstream, proxy, resolver)?;
        let authority = Arc::new(CertificateAuthority::mint(&config.name, SystemTime::now())?);
        let receipts = Arc::new(receipts);
        tokio::spawn(Receipts::write_later(Arc::downgrade(&receipts)));
        Ok(Arc::new(Self {
            policy: ArcSwap::from_pointee(policy),
            receipts,
            server_config: server_config(Arc::clone(&authority))?,
            authority,
            upstream,
            fake_ips,
            questions: Questions::default(),
            renewals: Renewals::default(),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            in_flight: InFlight::default(),
            kept_bodies: KeptBodies::default(),
        }))
    }

    /// Puts another policy in force, for requests from now on. If it cannot be, the one before stays in
    /// force.
    ///
    /// # Errors
    /// As for [`State::new`].
    pub(crate) fn reload(
        &self,
        policy: Policy,
        secrets: &BTreeMap<SecretRef, Zeroizing<String>>,
    ) -> Result<(), GatewayError> {
        let mut policy = ActivePolicy::new(policy, Values { secrets, expires: &BTreeMap::new() })?;
        policy.keep_ends(&self.policy.load());
        self.fake_ips.reserve(&policy.policy);
        self.policy.store(Arc::new(policy));
        Ok(())
    }

    /// Puts other values of some secrets in force, for requests from now on. If one cannot be, none is, and those
    /// before stay.
    ///
    /// # Errors
    /// As for [`State::new`], and for a secret that no route has.
    pub(crate) fn renew(
        &self,
        secrets: &BTreeMap<SecretRef, Zeroizing<String>>,
        expires: &BTreeMap<SecretRef, u64>,
        cause: RenewalCause,
    ) -> Result<(), GatewayError> {
        let before = self.policy.load_full();
        let references: Vec<SecretRef> = secrets.keys().cloned().collect();
        let renewed = before.renewed(Values { secrets, expires }).and_then(|renewed| {
            let done = Renewal {
                renewal: RenewalOutcome::Renewed,
                references: &references,
                cause: Some(cause),
                why: None,
            };
            self.receipts.renewal(done).map_err(|_| GatewayError::RenewalUnrecorded)?;
            Ok(renewed)
        });
        // What comes by itself and changes nothing leaves a question open.
        let is_answer = matches!(cause, RenewalCause::Refused | RenewalCause::Expiring);
        match renewed {
            Ok(renewed) => {
                let changed = |reference: &SecretRef| is_answer || renewed.has_changed(&before, reference);
                let answered: Vec<_> = references.iter().filter(|reference| changed(reference)).collect();
                self.policy.store(Arc::new(renewed));
                for reference in answered {
                    self.renewals.answer(reference, Answer::Renewed);
                }
                Ok(())
            }
            Err(error) => {
                let why = shown(&error.to_string());
                self.record_failure(&references, Some(cause), &why);
                for reference in references.iter().filter(|_| is_answer) {
                    self.renewals.answer(reference, Answer::NotRenewed(Arc::clone(&why)));
                }
                Err(error)
            }
        }
    }

    /// There is no other value of a secret: the requests that wait for one go on without. What is said of a secret
    /// that no route has is ignored.
    pub(crate) fn not_renewed(&self, reference: &SecretRef, why: &str) {
        if !self.policy.load().injects(reference) {
            return;
        }
        let why = shown(why);
        let cause = self.renewals.answer(reference, Answer::NotRenewed(Arc::clone(&why)));
        self.record_failure(std::slice::from_ref(reference), cause, &why);
    }

    fn record_failure(&self, references: &[SecretRef], cause: Option<RenewalCause>, why: &str) {
        let names = references.iter().map(SecretRef::name).collect::<Vec<_>>().join(", ");
        tracing::warn!(secrets = %printable(&names), %why, "credentials were not renewed");
        let failed = Renewal { renewal: RenewalOutcome::Failed, references, cause, why: Some(why) };
        // Ignored: nothing takes effect, and every request is refused until receipts can be written.
        let _ = self.receipts.renewal(failed);
    }

    /// What is injected into a request that `policy` has decided: the newest value of the same secret, in the same
    /// place. A request may have waited for the operator since.
    pub(crate) fn credential(
        &self,
        policy: &Arc<ActivePolicy>,
        decision: &Decision,
    ) -> Option<Arc<Injected>> {
        let decided = policy.credential(decision)?;
        let newest = self.policy.load();
        let is_decided = Arc::ptr_eq(&newest, policy);
        let newest =
            newest.credential(decision).filter(|newest| !is_decided && newest.origin == decided.origin);
        Some(Arc::clone(newest.unwrap_or(decided)))
    }

    /// Another value than this one, of the same secret in the same place, if the policy in force has one for a request
    /// that was decided like this.
    pub(crate) fn renewed(&self, decision: &Decision, before: &Injected) -> Option<Arc<Injected>> {
        let newest = self.policy.load();
        let is_other = |newest: &&Arc<Injected>| {
            newest.origin == before.origin && newest.credential != before.credential
        };
        newest.credential(decision).filter(is_other).map(Arc::clone)
    }

    /// What the one who started the gateway needs to know about it.
    #[must_use]
    pub fn ready(&self) -> GatewayReady {
        GatewayReady {
            ca_certificate: self.authority.certificate_pem().to_owned(),
            ca_fingerprint: self.authority.fingerprint().to_owned(),
        }
    }
}

impl ActivePolicy {
    fn new(policy: Policy, values: Values<'_>) -> Result<Self, GatewayError> {
        let mut credentials = HashMap::new();
        for route in &policy.routes {
            if route.tls == RouteTls::Splice {
                return Err(GatewayError::SpliceUnsupported(route.host.clone()));
            }
            let Some(credential) = route.credential() else { continue };
            let injected = values.of(credential).unwrap_or_else(|| {
                let reference = credential.token_ref.clone();
                Err(GatewayError::SecretMissing { host: route.host.clone(), reference })
            })?;
            credentials.insert(route.host.clone(), injected);
        }
        Ok(Self { policy: Arc::new(policy), credentials })
    }

    /// The same policy with other values of some secrets; the credentials of all others are those of this one.
    fn renewed(&self, values: Values<'_>) -> Result<Self, GatewayError> {
        if let Some(unknown) = values.secrets.keys().find(|reference| !self.injects(reference)) {
            return Err(GatewayError::SecretUnknown(unknown.clone()));
        }
        let mut credentials = self.credentials.clone();
        for injected in credentials.values_mut() {
            if let Some(renewed) = values.of(&injected.origin) {
                *injected = renewed?;
            }
        }
        Ok(Self { policy: Arc::clone(&self.policy), credentials })
    }

    /// Takes over the ends of the values that are the same.
    fn keep_ends(&mut self, before: &Self) {
        for injected in self.credentials.values_mut() {
            let is_same = |before: &&Arc<Injected>| {
                before.origin == injected.origin && before.credential == injected.credential
            };
            if let Some(same) = before.credentials.values().find(is_same) {
                *injected = Arc::clone(same);
            }
        }
    }

    fn injects(&self, reference: &SecretRef) -> bool {
        self.credentials.values().any(|injected| injected.origin.token_ref == *reference)
    }

    /// Whether a secret has another value, or another end, than before.
    fn has_changed(&self, before: &Self, reference: &SecretRef) -> bool {
        let mut of_secret =
            self.credentials.iter().filter(|(_, injected)| injected.origin.token_ref == *reference);
        of_secret.any(|(host, injected)| before.credentials.get(host) != Some(injected))
    }

    /// What is injected into a request that was decided like this.
    pub(crate) fn credential(&self, decision: &Decision) -> Option<&Arc<Injected>> {
        self.credentials.get(decision.route.as_ref()?)
    }

    /// The route to a host, if there is one: whether a request takes it is still to be decided.
    pub(crate) fn route_to(&self, host: &Host) -> Option<&Route> {
        self.policy.decide_name(host.name()?).ok()
    }

    /// The headers that a request which was decided like this may have been allowed for, and the one that its
    /// credential is in.
    pub(crate) fn headers_settled_by(&self, decision: &Decision) -> Vec<String> {
        let route = self.policy.routes.iter().find(|route| Some(&route.host) == decision.route.as_ref());
        let credential =
            route.and_then(Route::credential).and_then(|credential| credential.shape.header_name());
        let decided_on = route.into_iter().flat_map(Route::headers_decided_on);
        decided_on.chain(credential).map(str::to_owned).collect()
    }
}

impl Values<'_> {
    /// The credential of a route, if these are values of its secret too.
    fn of(self, credential: &RouteCredential) -> Option<Result<Arc<Injected>, GatewayError>> {
        let reference = &credential.token_ref;
        let secret = self.secrets.get(reference)?;
        let expires = self.expires.get(reference).copied().map(UnixTime);
        let injected = Injected::new(credential.clone(), secret, expires).map(Arc::new);
        Some(injected.ok_or_else(|| GatewayError::SecretUnusable(reference.clone())))
    }
}

/// A reason of the launcher's as it can be shown to an agent and an operator.
fn shown(why: &str) -> Arc<str> {
    cut(&printable(why), MAX_RENEWAL_WHY).into()
}
