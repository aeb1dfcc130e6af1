//! The proxy that programs of this host are told by variables. A gateway never uses it unasked: `init` and `doctor`
//! show what to write into `settings.yml`.

use bot_bottle_core::{host::HostPattern, upstream_proxy::ProxyUrl};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::system;

/// The name under which a password is referred to in what is proposed.
const PASSWORD_REF: &str = "UPSTREAM_PROXY_PASSWORD";

/// The order in which curl looks at them.
const PROXIES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const EXCEPTIONS: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// What the variables say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HostProxy {
    /// The variable that names the proxy.
    pub(super) variable: &'static str,
    /// `None`: it is no HTTP proxy that is reached by cleartext HTTP.
    pub(super) proposal: Option<Proposal>,
}

/// What `settings.yml` would say. No password is in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) url: ProxyUrl,
    username: Option<String>,
    has_password: bool,
    no_proxy: Vec<HostPattern>,
}

/// Looks at the variables of this process.
pub(super) fn find() -> Option<HostProxy> {
    find_in(system::variable)
}

fn find_in(variable: impl Fn(&str) -> Option<String>) -> Option<HostProxy> {
    let given = |name: &&str| variable(name).filter(|value| !value.trim().is_empty());
    let (name, value) = PROXIES.iter().find_map(|name| Some((*name, given(name)?)))?;
    let exceptions = EXCEPTIONS.iter().find_map(given).unwrap_or_default();
    let exceptions: Vec<&str> = exceptions.split([',', ' ']).filter(|entry| !entry.is_empty()).collect();
    if exceptions == ["*"] {
        return None;
    }
    let mut no_proxy: Vec<HostPattern> = exceptions.into_iter().flat_map(patterns).collect();
    no_proxy.dedup();
    let proposal = proxy(value.trim()).map(|proxy| Proposal { no_proxy, ..proxy });
    Some(HostProxy { variable: name, proposal })
}

/// The proxy of a variable, which may leave out the scheme and the port.
fn proxy(value: &str) -> Option<Proposal> {
    let rest = match value.split_once("://") {
        Some((scheme, rest)) => scheme.eq_ignore_ascii_case("http").then_some(rest)?,
        None => value,
    };
    let (login, authority) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let text = format!("http://{authority}");
    let url = text.parse().or_else(|_| format!("{text}:80").parse()).ok()?;
    let (username, password) = login.map(|login| login.split_once(':').unwrap_or((login, ""))).unzip();
    Some(Proposal {
        url,
        // RFC 7617 section 2: no colon, no control character.
        username: username
            .map(|name| percent_decode_str(name).decode_utf8_lossy().into_owned())
            .filter(|name| !name.is_empty() && !name.contains(|c: char| c == ':' || c.is_control())),
        has_password: password.is_some_and(|password| !password.is_empty()),
        no_proxy: Vec::new(),
    })
}

/// The names of an entry: programs read `example.org` as the name and all below it. Addresses, ports, and this machine's
/// own names have no meaning for a gateway.
fn patterns(entry: &str) -> Vec<HostPattern> {
    let below = |name: &str| format!("*.{name}").parse::<HostPattern>();
    if entry == "localhost" || entry.parse::<std::net::IpAddr>().is_ok() {
        return Vec::new();
    }
    if let Some(parent) = entry.strip_prefix("*.").or_else(|| entry.strip_prefix('.')) {
        return below(parent).into_iter().collect();
    }
    match (entry.parse(), below(entry)) {
        (Ok(exact), Ok(below)) => vec![exact, below],
        _ => Vec::new(),
    }
}

impl Proposal {
    /// The keys of `egress` with their values, each a line of YAML.
    pub(super) fn keys(&self) -> Vec<String> {
        // A JSON string is a YAML one (YAML 1.2, section 1.3).
        let quoted = |text: &str| Value::from(text).to_string();
        let url = quoted(&self.url.to_string());
        let proxy = match &self.username {
            None => url,
            Some(name) => {
                let password =
                    if self.has_password { format!(", password_ref: {PASSWORD_REF}") } else { String::new() };
                format!("{{url: {url}, username: {}{password}}}", quoted(name))
            }
        };
        let names: Vec<String> = self.no_proxy.iter().map(|pattern| quoted(&pattern.to_string())).collect();
        let exceptions = (!names.is_empty()).then(|| format!("no_proxy: [{}]", names.join(", ")));
        [Some(format!("upstream_proxy: {proxy}")), exceptions].into_iter().flatten().collect()
    }

    /// The same in a sentence.
    pub(super) fn advice(&self) -> String {
        let keys: Vec<String> = self.keys().iter().map(|key| format!("`{key}`")).collect();
        let password = self.password_step().map(|step| format!("; {step}")).unwrap_or_default();
        format!("write below `egress:` in settings.yml: {}{password}", keys.join(" and "))
    }

    /// A whole `settings.yml`.
    pub(super) fn settings_file(&self) -> String {
        let keys: String = self.keys().iter().map(|key| format!("  {key}\n")).collect();
        let private = if self.no_proxy.is_empty() {
            ""
        } else {
            "  # private: [git.example.org]   # those of them that are at private addresses\n"
        };
        format!("# The gateways' own way out, as the variables of this host say.\negress:\n{keys}{private}")
    }

    /// What is to be done about the password, which is in no file.
    pub(super) fn password_step(&self) -> Option<String> {
        self.has_password.then(|| {
            format!(
                "export the proxy's password as {PASSWORD_REF}, or name its source under `secrets` in settings.yml"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Option<HostProxy> {
        let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        find_in(|name| value(name).map(str::to_owned))
    }

    fn keys(variables: &[(&str, &str)]) -> Vec<String> {
        found(variables).and_then(|found| found.proposal).expect("a proposal").keys()
    }

    #[test]
    fn a_proxy_is_found_in_every_spelling() {
        for (name, value, key) in [
            ("HTTPS_PROXY", "http://proxy.corp:3128", "upstream_proxy: \"http://proxy.corp:3128\""),
            ("https_proxy", "HTTP://proxy.corp:3128/", "upstream_proxy: \"http://proxy.corp:3128\""),
            ("ALL_PROXY", "proxy.corp:3128", "upstream_proxy: \"http://proxy.corp:3128\""),
            ("all_proxy", "http://10.0.0.7", "upstream_proxy: \"http://10.0.0.7:80\""),
            (
                "HTTPS_PROXY",
                "http://me@proxy.corp:80",
                "upstream_proxy: {url: \"http://proxy.corp:80\", username: \"me\"}",
            ),
            (
                "HTTPS_PROXY",
                "http://CORP%5Cme:op%40n@proxy.corp:80",
                "upstream_proxy: {url: \"http://proxy.corp:80\", username: \"CORP\\\\me\", \
                 password_ref: UPSTREAM_PROXY_PASSWORD}",
            ),
        ] {
            assert_eq!(keys(&[(name, value)]), [key], "{value}");
        }
    }

    #[test]
    fn a_password_is_not_repeated() {
        for value in ["http://me:sesame@proxy.corp:80", "me:ses@me@proxy.corp", "http://me:sesame@proxy corp"]
        {
            let found = found(&[("HTTPS_PROXY", value)]);
            assert!(!format!("{found:?}").contains("ses"), "{found:?}");
        }
    }

    #[test]
    fn exceptions_are_names() {
        let exceptions = "localhost,127.0.0.1,::1,.corp.example, git.example ,10.0.0.0/8,*.lab.example,a:80";
        let keys = keys(&[("HTTPS_PROXY", "http://proxy.corp:3128"), ("NO_PROXY", exceptions)]);
        let expected =
            "no_proxy: [\"*.corp.example\", \"git.example\", \"*.git.example\", \"*.lab.example\"]";
        assert_eq!(keys[1], expected);
    }

    #[test]
    fn what_is_no_proxy_of_ours_is_none() {
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[("HTTPS_PROXY", " ")]), None);
        assert_eq!(found(&[("HTTPS_PROXY", "http://proxy.corp:3128"), ("no_proxy", "*")]), None);
        for other in ["socks5://proxy.corp:1080", "https://proxy.corp:443", "http://", "http://a b:80"] {
            let found = found(&[("HTTPS_PROXY", other)]).expect("it is told");
            assert_eq!((found.variable, found.proposal), ("HTTPS_PROXY", None), "{other}");
        }
    }
}
