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
//! 6. `record` writes the decision down. Nothing leaves for a request that has no receipt: no name is
//!    resolved and nothing is dialled before.
//! 7. `hold` waits for the operator where the decision is to ask, and records the answer.
//! 8. `inject` adds the credential after every stage that looks at the request, so that none can leak it.
//! 9. `relay` connects, sends, and streams both ways. The receipt's entry ends when the response does.

use bot_bottle_core::{host::Host, receipt::RequestSummary};
use http::{Method, Request, Response, Uri, request::Parts, uri};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    bounded_stream::Activity,
    host_port::{HostPort, Tunnel},
    state::State,
    upstream::Party,
};

pub(crate) mod body;
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
mod scan;
mod strip;
mod websocket;

use body::{RequestBody, ResponseBody};
use hop_by_hop::Upgrade;
use refuse::{Form, Refusal};
use removed::Removed;

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
    exchange.body.forbid_trailers(policy.headers_settled_by(&decision));
    let entry = record::begin(&state.receipts, asked.summary(), &decision, removed.names())?;
    let entry = hold::hold(state, client, asked, &mut exchange, &decision, entry).await?;
    let entry = inject::inject(&mut exchange.parts, policy.credential(&decision), entry)?;
    Ok(relay::relay(state, client, asked, exchange, &destination, entry).await)
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
