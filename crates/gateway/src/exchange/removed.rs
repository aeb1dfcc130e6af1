//! What was removed from a request, for its receipt and for the client.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The response header that names what was removed and not replaced.
const REMOVED: HeaderName = HeaderName::from_static("bot-bottle-removed");

/// The names of the credentials that the agent sent itself and that do not go on.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// A header's name as it is, a parameter's after a `?`; each once, and no value.
    names: Vec<String>,
    /// Those whose place the gateway's own credential does not take.
    missing: Vec<String>,
}

impl Removed {
    /// A header. `is_replaced`: the gateway puts its own into the same place.
    pub(super) fn header(&mut self, name: &HeaderName, is_replaced: bool) {
        self.add(name.as_str().to_owned(), is_replaced);
    }

    /// A parameter of the query, by its known name.
    pub(super) fn parameter(&mut self, name: &str, is_replaced: bool) {
        self.add(format!("?{name}"), is_replaced);
    }

    fn add(&mut self, name: String, is_replaced: bool) {
        if self.names.contains(&name) {
            return;
        }
        if !is_replaced {
            self.missing.push(name.clone());
        }
        self.names.push(name);
    }

    /// All names, for the receipt.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// What the client is told, if anything: a program whose credential is missing shows an error of the host's that
    /// explains nothing.
    pub(super) fn told(&self) -> Option<String> {
        (!self.missing.is_empty()).then(|| self.missing.join(", "))
    }

    /// Tells the client, in the header that nobody but the gateway may send.
    pub(super) fn tell(&self, response: &mut HeaderMap) {
        response.remove(REMOVED);
        if let Some(value) = self.told().and_then(|told| HeaderValue::try_from(told).ok()) {
            response.insert(REMOVED, value);
        }
    }
}
