//! `egress` in `settings.yml`: how the gateways of this host reach other hosts.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use crate::{
    bottle::EgressDefaults,
    gateway_config::FixedAddress,
    host::{HostError, HostPattern},
    policy::CredentialShape,
    upstream_proxy::{ProxyLogin, ProxyUrl, ProxyUrlError, UpstreamProxy},
};

use super::{
    diagnostic::Problem,
    names,
    reader::{Keys, Reader},
    source::{printable, quoted},
    yaml::{Kind, Node},
};

const KEYS: Keys = Keys {
    accepted: &["upstream_proxy", "no_proxy", "extra_ca", "resolve", "private"],
    also: &[],
    retired: &[
        ("routes", "routes belong into a bottle", "write them in ~/.bot-bottle/bottles/<name>.md"),
        ("log", "`egress.log` belongs into a bottle", "write it in ~/.bot-bottle/bottles/<name>.md"),
    ],
};
const PROXY_KEYS: Keys =
    Keys { accepted: &["url", "username", "password_ref"], also: &["password"], retired: &[] };

const PROXY_HINT: &str = "write `http://proxy.example.org:3128`";
const LOGIN_HINT: &str = "write `upstream_proxy: {url: \"http://proxy.example.org:3128\", username: me, password_ref: NAME}`, and put the \
     password into a variable of that name, or name its source under `secrets`";

pub(super) fn read(reader: &mut Reader, node: Option<&Node>) -> EgressDefaults {
    let Some(table) = reader.optional_table(node, "`egress`", &KEYS) else {
        return EgressDefaults::default();
    };
    let upstream_proxy = reader.optional(&table, "upstream_proxy", upstream_proxy).value();
    if let (Some(entry), None) = (table.entry("no_proxy"), table.entry("upstream_proxy")) {
        let problem = Problem::at(entry.key.span, "`no_proxy` stands without an `upstream_proxy`");
        reader.report(problem.hint("take it out: without a proxy every host is reached directly"));
    }
    EgressDefaults {
        upstream_proxy,
        no_proxy: reader.optional(&table, "no_proxy", no_proxy).value().unwrap_or_default(),
        extra_ca: reader.optional(&table, "extra_ca", paths).value().unwrap_or_default(),
        resolve: table.get("resolve").map(|node| read_resolve(reader, node)).unwrap_or_default(),
        private: reader.optional(&table, "private", private).value().unwrap_or_default(),
    }
}

fn upstream_proxy(reader: &mut Reader, node: &Node, key: &str) -> Option<UpstreamProxy> {
    let Kind::Mapping(_) = node.kind else {
        let (url, username) = proxy_url(reader, node, key)?;
        return Some(UpstreamProxy {
            url,
            login: username.map(|username| ProxyLogin { username, password_ref: None }),
        });
    };
    let table = reader.table(node, &format!("`{key}`"), &PROXY_KEYS)?;
    if let Some(password) = table.get("password") {
        let problem = Problem::at(password.span, "no file of ours may hold a password").concealed();
        reader.report(problem.hint(LOGIN_HINT));
    }
    let username = reader.optional(&table, "username", username);
    let password_ref = reader.optional(&table, "password_ref", names::secret_ref);
    let Some(url) = table.get("url") else {
        reader.report(Problem::at(table.span, format!("`{key}` has no `url`")).hint(LOGIN_HINT));
        return None;
    };
    let (url, user_of_url) = proxy_url(reader, url, "url")?;
    if let (Some(_), Some(entry)) = (&user_of_url, table.entry("username")) {
        let problem = Problem::at(entry.key.span, "`url` has a user name too");
        reader.report(problem.hint("take it out of the URL"));
        return None;
    }
    let is_named = user_of_url.is_some() || table.entry("username").is_some();
    if let (false, Some(entry)) = (is_named, table.entry("password_ref")) {
        let problem = Problem::at(entry.key.span, "`password_ref` stands without a `username`");
        reader.report(problem.hint(LOGIN_HINT));
        return None;
    }
    let password_ref = password_ref.value();
    let login = user_of_url.or(username.value()).map(|username| ProxyLogin { username, password_ref });
    Some(UpstreamProxy { url, login })
}

fn proxy_url(reader: &mut Reader, node: &Node, key: &str) -> Option<(ProxyUrl, Option<String>)> {
    let error = match ProxyUrl::parse(reader.line(node, key)?) {
        Ok(found) => return Some(found),
        Err(error) => error,
    };
    let message = format!("`{key}`: {error}").chars().map(printable).collect::<String>();
    // Whatever is no URL of a proxy may have a password in it.
    reader.report(Problem::at(node.span, message).concealed().hint(match error {
        ProxyUrlError::Password | ProxyUrlError::User => LOGIN_HINT,
        _ => PROXY_HINT,
    }));
    None
}

fn username(reader: &mut Reader, node: &Node, key: &str) -> Option<String> {
    let name = reader.line(node, key)?;
    match CredentialShape::scheme("Basic", Some(name)) {
        Ok(_) => Some(name.to_owned()),
        Err(error) => {
            // What follows a colon may be the password.
            let problem = Problem::at(node.span, format!("`{key}`: {error}")).concealed();
            reader.report(problem.hint("write the name alone; what `password_ref` names is the password"));
            None
        }
    }
}

fn paths(reader: &mut Reader, node: &Node, key: &str) -> Option<Vec<PathBuf>> {
    let items = reader.list(node, key)?;
    let paths: Vec<Option<PathBuf>> = items.iter().map(|item| reader.path(item, key)).collect();
    paths.into_iter().collect()
}

fn no_proxy(reader: &mut Reader, node: &Node, key: &str) -> Option<Vec<HostPattern>> {
    const HINT: &str = "write names, and `.example.org` for every name below one: a name is not resolved before the \
                        proxy is asked, so that its address says nothing";
    patterns(reader, node, key, |text| {
        // As in NO_PROXY.
        let pattern = text.strip_prefix('.').map_or(Cow::from(text), |parent| format!("*.{parent}").into());
        pattern.parse().map_err(|error: HostError| (error, HINT))
    })
}

fn private(reader: &mut Reader, node: &Node, key: &str) -> Option<Vec<HostPattern>> {
    const HINT: &str = "write names, and `\"*.example.org\"` for every name below one: private addresses are opened by name alone";
    patterns(reader, node, key, |text| text.parse().map_err(|error: HostError| (error, HINT)))
}

fn patterns(
    reader: &mut Reader,
    node: &Node,
    key: &str,
    parse: impl Fn(&str) -> Result<HostPattern, (HostError, &'static str)>,
) -> Option<Vec<HostPattern>> {
    let items = reader.list(node, key)?;
    let read = |item| {
        reader.parsed(item, key, |text| {
            parse(text).map_err(|(error, hint)| (no_name(&error), Some(hint.to_owned())))
        })
    };
    let patterns: Vec<Option<HostPattern>> = items.iter().map(read).collect();
    patterns.into_iter().collect()
}

fn no_name(error: &HostError) -> String {
    match error {
        HostError::Address(text) => format!("`{text}` is an address, not a name"),
        error => error.to_string(),
    }
}

fn read_resolve(reader: &mut Reader, node: &Node) -> BTreeMap<HostPattern, FixedAddress> {
    let mut resolve = BTreeMap::new();
    if node.is_null() {
        return resolve;
    }
    for entry in reader.entries(node, "`resolve`").unwrap_or_default() {
        let pattern = entry.key.text.parse::<HostPattern>();
        let address = reader.parsed(&entry.value, &entry.key.text, fixed_address);
        match pattern {
            Err(error) => {
                let message = no_name(&error).chars().map(printable).collect::<String>();
                let hint =
                    "addresses are fixed for names, and with `\"*.example.org\"` for every name below one";
                reader.report(Problem::at(entry.key.span, message).hint(hint));
            }
            Ok(pattern) if resolve.contains_key(&pattern) => {
                let message = format!("`{pattern}` is given twice, in two spellings");
                reader.report(Problem::at(entry.key.span, message).hint("take one of them out"));
            }
            Ok(pattern) => {
                if let Some(address) = address {
                    resolve.insert(pattern, address);
                }
            }
        }
    }
    resolve
}

/// `10.0.0.7`, `10.0.0.7:8443`, `::1`, `[::1]` or `[::1]:8443`.
fn fixed_address(text: &str) -> Result<FixedAddress, (String, Option<String>)> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(FixedAddress { address, port: None });
    }
    if let Ok(socket) = text.parse::<SocketAddr>()
        && socket.port() > 0
    {
        return Ok(FixedAddress { address: socket.ip(), port: Some(socket.port()) });
    }
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(Ok(address)) = bracketed.map(str::parse::<std::net::Ipv6Addr>) {
        return Ok(FixedAddress { address: address.into(), port: None });
    }
    let hint = "write `10.0.0.7`, `\"10.0.0.7:8443\"` or `\"[fd00::7]:8443\"`";
    Err((format!("{} is not an address", quoted(text)), Some(hint.to_owned())))
}
