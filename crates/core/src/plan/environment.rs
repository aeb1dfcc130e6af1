//! The variables and files that make every common tool use the gateway and trust its CA.
//!
//! No single variable works for all tools; which tool honours which was measured, see `docs/providers.md`.
//! The system's own bundle is replaced too ([`GuestPaths::ca_bundle`]), for programs that run with a cleared
//! environment.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use crate::provider::{GuestFile, GuestPaths};

use super::PROXY_ADDRESS;

/// Destinations inside the bottle. Names that the gateway serves itself are not in the list, because they are
/// reached through the proxy.
const NO_PROXY: &str = "localhost,127.0.0.1,::1";

/// The password of the Java key store: Java's public default. It protects only the file's integrity.
const JAVA_TRUST_STORE_PASSWORD: &str = "changeit";

/// Variables for the proxy. Both cases, because curl, wget and git obey only the lower one for `http://`, and
/// others only the upper one.
const PROXY_VARIABLES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Variables that replace a tool's roots, and so need the system's as well.
const BUNDLE_VARIABLES: [&str; 9] = [
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "NPM_CONFIG_CAFILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
];

/// Variables that add to a tool's roots.
const CERTIFICATE_VARIABLES: [&str; 2] = ["DENO_CERT", "NODE_EXTRA_CA_CERTS"];

/// The variables, by name.
#[must_use]
pub fn trust_environment(guest: &GuestPaths) -> BTreeMap<String, String> {
    let proxy = format!("http://{PROXY_ADDRESS}");
    let each = |names: &'static [&'static str], value: String| {
        names.iter().map(move |name| ((*name).to_owned(), value.clone()))
    };
    let single = |name: &str, value: String| std::iter::once((name.to_owned(), value));
    each(&PROXY_VARIABLES, proxy)
        .chain(each(&["NO_PROXY", "no_proxy"], NO_PROXY.to_owned()))
        // Node 22.21 and 24 obey the proxy variables only with this one.
        .chain(single("NODE_USE_ENV_PROXY", "1".to_owned()))
        .chain(each(&BUNDLE_VARIABLES, text(&guest.ca_bundle)))
        .chain(each(&CERTIFICATE_VARIABLES, text(&guest.ca_certificate)))
        .chain(single("WGETRC", text(&guest.wgetrc)))
        .chain(single("APT_CONFIG", text(&guest.apt_config)))
        .chain(single("JAVA_TOOL_OPTIONS", java_options(guest)))
        .collect()
}

/// The files that those variables name and whose text needs no certificate: the settings of wget and apt,
/// which have no variable for a CA.
#[must_use]
pub fn trust_files(guest: &GuestPaths) -> Vec<GuestFile> {
    let bundle = text(&guest.ca_bundle);
    let proxy = format!("http://{PROXY_ADDRESS}");
    vec![
        GuestFile {
            path: guest.wgetrc.clone(),
            content: format!("ca_certificate = {bundle}\nhttps_proxy = {proxy}\nhttp_proxy = {proxy}\n"),
            mode: 0o644,
        },
        GuestFile {
            path: guest.apt_config.clone(),
            content: format!(
                "Acquire::http::Proxy \"{proxy}\";\n\
                 Acquire::https::Proxy \"{proxy}\";\n\
                 Acquire::https::CaInfo \"{bundle}\";\n"
            ),
            mode: 0o644,
        },
    ]
}

/// Java obeys neither proxy variables nor any bundle of PEM certificates.
fn java_options(guest: &GuestPaths) -> String {
    let proxy: SocketAddr = PROXY_ADDRESS.parse().expect("the constant is an address");
    let (host, port) = (proxy.ip(), proxy.port());
    format!(
        "-Dhttps.proxyHost={host} -Dhttps.proxyPort={port} -Dhttp.proxyHost={host} -Dhttp.proxyPort={port} \
         -Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStorePassword={JAVA_TRUST_STORE_PASSWORD}",
        text(&guest.java_trust_store)
    )
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
