//! The pipeline: the stages of one exchange, a request and its response, in their order.
//!
//! Each stage is a file, and calls no other stage. What follows depends on the order:
//!
//! 1. `read` counts the request and bounds its head, before anything is computed from it.
//! 2. `normalise` finds the one destination that all parts of the request agree on.
//! 3. `hop_by_hop` and `strip` remove the fields for one hop and the agent's own credentials, unless the route of the
//!    destination keeps them, so that
//! 4. `decide` asks the policy about exactly what will be sent.
//! 5. `scan` looks at content that the decision depends on, before the first byte leaves and as the rest
//!    passes.
//! 6. `renew` waits for another value where the route's credential has expired, or refuses.
//! 7. `record` writes the decision down. Nothing leaves for a request that has no receipt: no name is
//!    resolved and nothing is dialled before.
//! 8. `hold` waits for the operator where the decision is to ask, and records the answer.
//! 9. `inject` adds the credential after every stage that looks at the request, so that none can leak it.
//! 10. `relay` connects, sends, and streams both ways. The receipt's entry ends when the response does.
//!
//! Where the upstream answers 401 to an injected credential, `renew` waits for another value. Then the request as it was
//! before 9 goes through 9 and 10 once more, to the same destination, and never a third time.

use bot_bottle_core::{host::Host, receipt::RequestSummary};
use http::{Method, Request, Response, Uri, request::Parts, uri};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    bounded_stream::Activity,
    host_port::{HostPort, Tunnel},
    state::State,
    upstream::{self, Party},
};

mod body;
mod decide;
mod facts;
mod hold;
mod hop_by_hop;
mod inject;
mod normalise;
mod query;
mod read;
mod record;
pub(crate) mod refuse;
mod relay;
mod removed;
mod renew;
pub(crate) mod response_body;
mod scan;
mod strip;
mod websocket;

use body::RequestBody;
use hop_by_hop::Upgrade;
use refuse::{Form, Refusal};
use removed::Removed;
use renew::Repetition;
use response_body::{Begun, ResponseBody};

/// What is known about a client's connection before its first request.
#[derive(Debug, Clone)]
pub(crate) struct ClientConnection {
    /// Where a CONNECT said that it leads, or where a redirected connection was going; `None` on the proxy's
    /// port itself.
    pub(crate) tunnel: Option<Tunnel>,
    /// The TLS server name that the client sent.
    pub(crate) sni: Option<Host>,
    /// Whether the client speaks TLS in the tunnel.
    pub(crate) tls: bool,
    /// When something last passed on the connection.
    pub(crate) activity: Activity,
    /// Whose requests share connections to upstreams.
    pub(crate) party: Party,
}

/// A request on its way through the stages.
struct Exchange {
    parts: Parts,
    body: RequestBody,
    /// What the client asks the connection to become.
    upgrade: Upgrade,
    /// The client's connection, once it has become that.
    on_upgrade: Option<OnUpgrade>,
    /// Its place among the requests in progress, held until its response has ended; none while it is held
    /// itself.
    permit: Option<OwnedSemaphorePermit>,
}

/// What an upstream has answered.
struct Answered {
    response: Response<upstream::Body>,
    /// What both connections become.
    granted: Upgrade,
    /// What was read of the response's body already.
    begun: Begun,
}

/// Answers a request: with the upstream's response, or with a refusal.
pub(crate) async fn answer(
    state: &State,
    client: &ClientConnection,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let asked = Asked::of(client, &request);
    let mut removed = Removed::default();
    let answered = run(state, client, &asked, request, &mut removed).await;
    let mut response = answered.unwrap_or_else(|refusal| {
        refuse::refuse(
            &state.receipts,
            asked.summary(),
            refusal.for_upgrade(asked.upgrade).in_form(asked.form),
        )
    });
    removed.tell(response.headers_mut());
    response
}

async fn run(
    state: &State,
    client: &ClientConnection,
    asked: &Asked,
    request: Request<Incoming>,
    removed: &mut Removed,
) -> Result<Response<ResponseBody>, Refusal> {
    let policy = state.policy.load_full();
    let mut exchange = read::read(state, request, asked.upgrade)?;
    let destination = normalise::normalise(&mut exchange.parts, client)?;
    hop_by_hop::request(&mut exchange.parts.headers, exchange.upgrade);
    *removed = strip::credentials(&mut exchange.parts, policy.route_to(&destination.host))?;
    let decision = decide::decide(&policy.policy, &exchange, &destination)?;
    scan::scan(&policy, &mut exchange, &destination, &decision).await?;
    renew::unexpired(state, client, &policy, &decision).await?;
    exchange.body.forbid_trailers(policy.headers_settled_by(&decision));
    let entry = record::begin(&state.receipts, asked.summary(), &decision, removed.names())?;
    let mut entry = hold::hold(state, client, asked, &mut exchange, &decision, entry).await?;
    let injected = state.credential(&policy, &decision);
    let retained = renew::retain(state, &mut exchange, injected.as_ref());
    if let Some(injected) = &injected
        && let Err(refusal) = inject::inject(&mut exchange.parts, &injected.credential)
    {
        return Err(refusal.in_exchange(entry.superseded()));
    }
    let Exchange { parts, body, upgrade, on_upgrade, permit } = exchange;
    let request = Request::from_parts(parts, body);
    let mut answered = relay::send(state, client, request, &destination, upgrade, &entry).await;
    // Boxed: most requests are not refused, and have no memory for it.
    let repetition = match (&mut answered, retained) {
        (Ok(refused), Some(retained)) if renew::is_refused(refused) => {
            Box::pin(renew::after_401(state, client, &decision, *retained, refused)).await
        }
        _ => None,
    };
    if let Some(Repetition { mut parts, body, injected }) = repetition {
        drop(answered);
        answered = match inject::inject(&mut parts, &injected.credential) {
            Ok(()) => {
                entry.repeated();
                let request = Request::from_parts(parts, body);
                Box::pin(relay::send(state, client, request, &destination, upgrade, &entry)).await
            }
            Err(refusal) => Err(refusal),
        };
    }
    Ok(relay::pass_on(state, asked, answered, on_upgrade, permit, entry))
}

/// What was asked for, as the client wrote it: for receipts and refusals, which also tell about requests that
/// no stage could make sense of.
struct Asked {
    method: Method,
    uri: Uri,
    host: String,
    port: u16,
    upgrade: Upgrade,
    /// In which form the client reads a refusal.
    form: Form,
}

impl Asked {
    fn of(client: &ClientConnection, request: &Request<Incoming>) -> Self {
        let uri = request.uri();
        let (host, port) = match (&client.tunnel, uri.authority()) {
            (Some(tunnel), _) => {
                let target = named_inside(tunnel, request).unwrap_or_else(|| tunnel.target());
                (target.host.to_string(), target.port)
            }
            (None, Some(authority)) => {
                let port = if uri.scheme() == Some(&uri::Scheme::HTTPS) { 443 } else { 80 };
                let host = authority.as_str().rsplit('@').next().unwrap_or_default();
                let named = HostPort::parse(host, Some(port)).ok();
                let port = named.as_ref().map_or(port, |target| target.port);
                (named.map_or_else(|| host.to_owned(), |target| target.host.to_string()), port)
            }
            (None, None) => (String::new(), 0),
        };
        let upgrade = websocket::requested(request);
        let form = Form::for_request(request);
        Self { method: request.method().clone(), uri: uri.clone(), host, port, upgrade, form }
    }

    fn summary(&self) -> RequestSummary<'_> {
        RequestSummary {
            method: self.method.as_str(),
            host: &self.host,
            port: self.port,
            path: self.uri.path(),
        }
    }
}

/// The host that a request names in a tunnel to an address, if it is one for the address's port.
fn named_inside(tunnel: &Tunnel, request: &Request<Incoming>) -> Option<HostPort> {
    let Tunnel::ToAddress(address) = tunnel else { return None };
    let written = request.headers().get(http::header::HOST)?.to_str().ok()?;
    HostPort::parse(written, Some(address.port())).ok().filter(|named| named.port == address.port())
}
