//! The bottle's DNS. Every question is answered here, from the policy alone; none goes anywhere.

use std::{io, sync::Arc};

use bot_bottle_core::{
    decision::{DecidedBy, Decision, Reason},
    host::HostName,
    receipt::RequestSummary,
};
use hickory_resolver::proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{DNSClass, RData, Record, RecordType, rdata::A},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UdpSocket,
    time::timeout,
};

use crate::{
    limits::{ACCEPT_BACKOFF, ANSWER_TTL_SECONDS, DNS_IDLE_TIMEOUT, MAX_QUERY_BYTES},
    state::State,
};

mod tunnelling;

/// The port of DNS, for receipts.
const DNS_PORT: u16 = 53;

/// What receipts have in the place of a method.
const METHOD: &str = "DNS";

/// Answers questions over UDP; never ends.
pub(crate) async fn serve_datagrams(state: Arc<State>, socket: UdpSocket) {
    let mut query = [0; MAX_QUERY_BYTES];
    loop {
        match socket.recv_from(&mut query).await {
            Ok((length, client)) => {
                if let Some(answer) = answer(&state, &query[..length])
                    && let Err(error) = socket.send_to(&answer, client).await
                {
                    tracing::debug!(%error, "an answer of the bottle's DNS did not go out");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a question to the bottle's DNS could not be read");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Answers the questions of one connection.
pub(crate) async fn serve_stream(state: &State, stream: impl AsyncRead + AsyncWrite + Unpin) {
    if let Err(error) = answer_stream(state, stream).await {
        tracing::debug!(%error, "a client of the bottle's DNS is gone");
    }
}

/// Each message has its length in front of it, two bytes: RFC 1035 section 4.2.2.
async fn answer_stream(state: &State, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut query = Vec::new();
    while let Ok(Ok(length)) = timeout(DNS_IDLE_TIMEOUT, stream.read_u16()).await {
        query.resize(usize::from(length).min(MAX_QUERY_BYTES), 0);
        timeout(DNS_IDLE_TIMEOUT, stream.read_exact(&mut query)).await??;
        // Longer than `MAX_QUERY_BYTES`: close; skipping the rest would let a client make us read for free.
        let Some(answer) = answer(state, &query).filter(|_| usize::from(length) == query.len()) else {
            break;
        };
        let framed = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        stream.write_all(&[&framed.to_be_bytes()[..], &answer].concat()).await?;
    }
    Ok(())
}

/// What a question leads to.
struct Answer {
    code: ResponseCode,
    record: Option<RData>,
    refusal: Option<Decision>,
}

impl Answer {
    fn refused(code: ResponseCode, refusal: Decision) -> Self {
        Self { code, record: None, refusal: Some(refusal) }
    }
}

/// The answer to a message; `None` where even its head cannot be read, or it is an answer itself.
fn answer(state: &State, query: &[u8]) -> Option<Vec<u8>> {
    let Ok(query) = Message::from_vec(query) else {
        record(state, "", "", &Decision::refuse(Reason::MalformedRequest, DecidedBy::Dns));
        return None;
    };
    if query.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.metadata.recursion_desired = query.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    let [question] = &query.queries[..] else {
        record(state, "", "", &Decision::refuse(Reason::MalformedRequest, DecidedBy::Dns));
        message.metadata.response_code = ResponseCode::FormErr;
        return message.to_vec().ok();
    };
    let written = question.name().to_ascii();
    let answer = if query.metadata.op_code == OpCode::Query && question.query_class() == DNSClass::IN {
        decide(state, &written, question.query_type())
    } else {
        Answer::refused(ResponseCode::NotImp, Decision::refuse(Reason::MalformedRequest, DecidedBy::Dns))
    };
    let mut code = answer.code;
    let mut record_data = answer.record;
    if let Some(refusal) = &answer.refusal
        && !record(state, &written, &question.query_type().to_string(), refusal)
    {
        (code, record_data) = (ResponseCode::ServFail, None);
    }
    // The question comes back as it was written: some clients check its case (draft-vixie-dnsext-dns0x20).
    message.add_query(question.clone());
    message.metadata.response_code = code;
    if let Some(data) = record_data {
        message.add_answer(Record::from_rdata(question.name().clone(), ANSWER_TTL_SECONDS, data));
    }
    message.to_vec().ok()
}

fn decide(state: &State, written: &str, kind: RecordType) -> Answer {
    let Ok(name) = HostName::parse(written) else {
        let refusal = Decision::refuse(Reason::MalformedHost, DecidedBy::Dns);
        return Answer::refused(ResponseCode::NXDomain, refusal);
    };
    if let Err(refusal) = state.policy.load().policy.decide_name(&name) {
        let refusal = match refusal.reason {
            Reason::NoRoute if tunnelling::carries_data(&name) => {
                Decision::refuse(Reason::DnsTunnel, DecidedBy::Dns)
            }
            _ => refusal,
        };
        return Answer::refused(ResponseCode::NXDomain, refusal);
    }
    let empty = Answer { code: ResponseCode::NoError, record: None, refusal: None };
    match kind {
        RecordType::A => match state.fake_ips.address_of(&name) {
            Some(address) => Answer { record: Some(RData::A(A(address))), ..empty },
            None => Answer::refused(
                ResponseCode::ServFail,
                Decision::refuse(Reason::LimitReached, DecidedBy::Limits),
            ),
        },
        // Clients ask for these beside the first, and go on without. There is no IPv6 in a bottle.
        RecordType::AAAA | RecordType::HTTPS => empty,
        _ => Answer { refusal: Some(Decision::refuse(Reason::RecordType, DecidedBy::Dns)), ..empty },
    }
}

/// Whether the receipt could be written.
fn record(state: &State, name: &str, kind: &str, decision: &Decision) -> bool {
    let host = name.strip_suffix('.').unwrap_or(name);
    let summary = RequestSummary { method: METHOD, host, port: DNS_PORT, path: kind };
    state.receipts.refuse(summary, decision, None).is_ok()
}
