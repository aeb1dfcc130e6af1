//! Every bound of the gateway, in one place. Each has a test at its edge where a test can reach it, and those
//! that an operator can meet have a row in `docs/limits.md`.

use std::time::Duration;

/// Bytes of a body that are read before anything of the request leaves, where a decision depends on the body.
pub const SCAN_WINDOW: usize = 64 * 1024;

/// Bytes of a form's field that is looked at; a longer one cannot name a method.
pub const MAX_FORM_FIELD: usize = 512;

/// Bytes of the header of a form's part that names the part. A longer one is refused where the name could matter.
pub const MAX_PART_HEADER: usize = 8 * 1024;

/// Requests that wait for the operator's answer at one time. One more is answered `429 limit_reached`.
pub const MAX_QUESTIONS: usize = 64;

/// How long a request waits for the operator's answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// How long requests wait for another value of a credential that has expired or was refused: a command that the operator
/// named for it may take a minute.
pub const RENEWAL_TIMEOUT: Duration = Duration::from_secs(70);

/// How often the launcher is asked for another value of one secret, at most.
pub const RENEWAL_INTERVAL: Duration = Duration::from_secs(60);

/// Requests that wait for another value of a credential at one time. One more gets the 401 that it has, or
/// `429 limit_reached` where its credential has expired. They keep their places among [`MAX_REQUESTS`], of which they
/// are a sixteenth.
pub const MAX_WAITING_FOR_RENEWAL: usize = 256;

/// Questions for other values that the launcher has not read yet.
pub const MAX_UNREAD_RENEWALS: usize = 64;

/// Bytes of a 401's body that are read while its request waits for another value, so that the connection is free.
pub const MAX_UNAUTHORIZED_BODY: usize = 16 * 1024;

/// How long reading them may take.
pub const UNAUTHORIZED_BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of JSON that a launcher's reason for a value that is not renewed takes, in refusals, receipts and the log.
pub const MAX_RENEWAL_WHY: usize = 512;

/// Bytes of a request's body that are kept to send it again after a 401. A longer one is not sent again.
pub const MAX_KEPT_BODY: usize = 8 * 1024 * 1024;

/// Bytes of all such bodies. One that does not fit is not kept.
pub const MAX_KEPT_BODIES: usize = 32 * 1024 * 1024;

/// Pieces of a body below this size are copied when they are kept: each would hold the whole of a read buffer.
pub const MIN_SHARED_PIECE: usize = 8 * 1024;

/// Client connections at one time, relayed WebSockets and tunnels included. One more is answered
/// `429 limit_reached` and closed.
pub const MAX_CONNECTIONS: usize = 1024;

/// How long accepting rests after the kernel refused to, for want of descriptors or memory.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Requests in progress at one time, over all connections, until their responses and WebSockets have ended.
/// One more is answered `429 limit_reached`.
pub const MAX_REQUESTS: usize = 4096;

/// Streams that a client may have open on one HTTP/2 connection (`SETTINGS_MAX_CONCURRENT_STREAMS`).
pub const MAX_CLIENT_STREAMS: u32 = 128;

/// Streams that we open on one HTTP/2 connection to an upstream before it has said how many it allows.
pub const INITIAL_UPSTREAM_STREAMS: usize = 1;

/// Streams that we open on one HTTP/2 connection to an upstream that allows as many. For more there is another
/// connection.
pub const MAX_UPSTREAM_STREAMS: usize = 100;

/// Connections to upstreams at one time, those included that are kept. A request that needs one more is
/// answered `429 limit_reached`.
pub const MAX_UPSTREAM_CONNECTIONS: usize = 1024;

/// Connections to upstreams beyond which the others are read in small pieces.
pub const FEW_UPSTREAM_CONNECTIONS: usize = 64;

/// Bytes that are then read at once of a connection of HTTP/1.1.
pub const SMALL_READ_BYTES: usize = 4 * 1024;

/// Bytes of one request's head: request line and header fields together.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Header fields of one request.
pub const MAX_HEADERS: usize = 128;

/// Bytes of one response's head. Sites set more than a hundred cookies at once; browsers accept 256 KiB.
pub const MAX_RESPONSE_HEAD_BYTES: usize = 256 * 1024;

/// Header fields of one response.
pub const MAX_RESPONSE_HEADERS: usize = 1024;

/// Informational responses (1xx) before one response.
pub const MAX_INFORMATIONAL: usize = 32;

/// Bytes of an HTTP/1.1 connection's read buffer, which bounds a head and what of a body is held at one time.
pub const MAX_READ_BUFFER: usize = 128 * 1024;

/// Bytes that a client may send on one HTTP/2 stream before we have taken them. Clients are on this machine:
/// a round trip takes no time, and a larger window would make nothing faster.
pub const CLIENT_STREAM_WINDOW: u32 = 64 * 1024;

/// Bytes that a client may send on all streams of one HTTP/2 connection before we have taken them.
pub const CLIENT_CONNECTION_WINDOW: u32 = 256 * 1024;

/// Bytes that upstreams may send over HTTP/2 before we have taken them, over all connections. Beyond them each
/// connection has a window of [`MIN_WINDOW`].
pub const UPSTREAM_WINDOWS: usize = 16 * 1024 * 1024;

/// The least window of an HTTP/2 connection, which no setting makes smaller (RFC 9113 section 6.9.2).
pub const MIN_WINDOW: u32 = 65_535;

/// Streams of one connection that may fill their windows before another connection is used.
pub const STREAMS_IN_A_WINDOW: u32 = 8;

/// The same for a connection whose window is [`MIN_WINDOW`].
pub const STREAMS_IN_MIN_WINDOW: u32 = 32;

/// Bytes that an upstream may send on one HTTP/2 stream before we have taken them.
pub const STREAM_WINDOW: u32 = 512 * 1024;

/// Bytes that an upstream may send on all streams of one HTTP/2 connection before we have taken them.
pub const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Bytes that wait to be written on one HTTP/2 stream.
pub const MAX_STREAM_SEND_BUFFER: usize = 64 * 1024;

/// Bytes of bodies, over the whole gateway, that wait to be written to a client or an upstream. Beyond them a
/// body has one chunk in flight at a time.
pub const MAX_IN_FLIGHT: usize = 8 * 1024 * 1024;

/// Bytes of TLS records that wait to be written on one connection.
pub const TLS_BUFFER: usize = 16 * 1024;

/// Bytes of each of the two buffers of a relayed WebSocket.
pub const UPGRADE_BUFFER: usize = 16 * 1024;

/// Bytes of the leaf certificates that are kept, a thousand or so. Another takes the place of those that were not
/// used for longest.
pub const LEAF_CACHE_BYTES: usize = 1024 * 1024;

/// Bytes at the start of a tunnel that are looked at to tell TLS, HTTP and everything else apart.
pub const SNIFF_BYTES: usize = 64;

/// How long a client may take to send the first bytes of a tunnel.
pub const SNIFF_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a redirected client may take to send its first bytes where its destination is refused anyway. A
/// client that speaks first does so at once; one that waits for its server learns soon that it is refused.
pub const UNLISTED_SNIFF_TIMEOUT: Duration = Duration::from_millis(300);

/// How long a client may take to send its first bytes that came to an address without a name. Names are in what it
/// sends first; one that waits for its server learns then that it is refused.
pub const UNNAMED_SNIFF_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections of an interceptor at one time that have not said yet where they lead. One more is closed.
pub const MAX_PREAMBLES: usize = 256;

/// How long an interceptor's connection may take to say where it leads.
pub const PREAMBLE_TIMEOUT: Duration = Duration::from_secs(5);

/// First bytes of a flow that smolvm sends along with its destination; it waits for no more of them.
pub const MAX_FIRST_BYTES: usize = 8 * 1024;

/// Names that have an address in the bottle's DNS. One more is answered SERVFAIL (`limit_reached`).
pub const MAX_NAMES: usize = 16 * 1024;

/// Bytes of one question to the bottle's DNS.
pub const MAX_QUERY_BYTES: usize = 4096;

/// How long a client may keep the addresses that it was told, in seconds. They never change their meaning.
pub const ANSWER_TTL_SECONDS: u32 = 60;

/// How long a connection to the bottle's DNS may be silent.
pub const DNS_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client's TLS handshake may take.
pub const CLIENT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a client may take to send a request's head, and how long its kept-alive HTTP/1.1 connection may
/// be idle between two requests.
pub const CLIENT_HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long nothing may pass on a client's connection in either direction. More than
/// [`UPSTREAM_IDLE_TIMEOUT`], so that a client is told when it is the upstream that stalls.
pub const CLIENT_IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// How long a client that has closed its side alone waits for responses.
pub const HALF_CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the body of a request that was refused is read and dropped, so that the refusal arrives: many clients
/// read no answer before they have sent everything, and the kernel answers unread bytes with a reset, which
/// destroys it (RFC 9112 section 9.6). As nginx's `lingering_time`.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long such a client may send nothing. As nginx's `lingering_timeout`.
pub const LINGER_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a name's resolution may take.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Responses that the resolver keeps.
pub const RESOLVER_CACHE: u64 = 512;

/// Addresses of one name that are tried.
pub const MAX_ADDRESSES: usize = 8;

/// How long connecting to one address may take, where there is another to try.
pub const CONNECT_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long connecting to an upstream may take, over all its addresses.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the operator's proxy may take to make a tunnel, which is as long as squid takes to give up a host.
pub const PROXY_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of the heads of that proxy's answer to one CONNECT.
pub const MAX_PROXY_HEAD_BYTES: usize = 16 * 1024;

/// How long the TLS and HTTP/2 handshakes with an upstream may take.
pub const UPSTREAM_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long an upstream may take from the request to the head of its response. Models that do not stream
/// think for minutes.
pub const UPSTREAM_HEADER_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// How often an HTTP/2 connection to an upstream is asked for a sign of life while requests wait on it.
pub const UPSTREAM_PING_INTERVAL: Duration = Duration::from_secs(30);

/// How long an upstream may take to answer an HTTP/2 ping before its connection is given up.
pub const UPSTREAM_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long nothing may pass on a connection to an upstream in either direction while it is in use.
pub const UPSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(11 * 60);

/// How long a connection to an upstream is kept for the next request.
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How often kept connections are looked through for those that are too old.
pub const POOL_SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Idle HTTP/1.1 connections that are kept for one upstream.
pub const MAX_IDLE_PER_UPSTREAM: usize = 64;

/// Idle connections that are kept over all upstreams, whatever they speak. One more is closed.
pub const MAX_IDLE_CONNECTIONS: usize = 256;

/// How long a connection whose response has ended may take to finish its request before it is closed instead
/// of kept.
pub const POOL_RETURN_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of the message that starts a gateway over its control socket.
pub const MAX_START_BYTES: usize = 1024 * 1024;

/// Listening sockets that the launcher may hand over.
pub const MAX_LISTENERS: usize = 16;

/// Bytes of a gateway's configuration file.
pub const MAX_CONFIG_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes that receipts may take on the disk, in all files. An exchange takes some 400, so these are 640,000, or
/// 20 a second for nine hours, before the oldest are removed.
pub const RECEIPTS_BYTES: u64 = 256 * 1024 * 1024;

/// Files that these bytes are divided among. The oldest is removed when the newest is full.
pub const RECEIPT_FILES: usize = 4;

/// Longest line of a receipt that comes over a pipe, in bytes. What a line echoes of a request is cut far below.
pub const MAX_RECEIPT_LINE_BYTES: usize = 64 * 1024;

/// Bytes of refusals that may be written at once. An `npm ci` whose registry is refused has a thousand that
/// differ, which is less than a tenth.
pub const REFUSAL_BURST_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes of refusals, and of the counts of repeated ones, that may be written every second after that: 144 MiB in
/// nine hours. One more that differs
/// from those before is answered `429 limit_reached`. In all they may take half of [`RECEIPTS_BYTES`].
pub const REFUSAL_REFILL_BYTES: u64 = 4 * 1024;

/// How often the refusals that are the same as one before are written, as one number.
pub const REPEAT_WINDOW: Duration = Duration::from_secs(1);

/// Different refusals of the last [`REPEAT_WINDOW`] that are remembered to count repetitions.
pub const MAX_REPEATED_REFUSALS: usize = 256;

/// How long the line of an exchange that has ended may wait to be written together with others.
pub const ENDING_DELAY: Duration = Duration::from_millis(50);

/// Bytes of lines that may wait so.
pub const MAX_PENDING_RECEIPTS: usize = 64 * 1024;

/// Bytes of a gateway's log. What is logged by default is what should not happen, and takes a few lines.
pub const MAX_LOG_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes at the end of an existing receipts file that are read to continue its count; more than one line has.
pub const RECEIPT_TAIL_BYTES: u64 = 64 * 1024;

/// Bytes of a host that receipts and refusals repeat.
pub const MAX_HOST_ECHO: usize = 300;

/// Bytes of a method that receipts and refusals repeat.
pub const MAX_METHOD_ECHO: usize = 64;
