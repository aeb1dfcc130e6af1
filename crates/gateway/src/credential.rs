//! The credential of a route, in the form in which it is sent.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use bot_bottle_core::policy::{CredentialShape, RouteCredential};
use http::{HeaderName, HeaderValue, header};
use zeroize::Zeroizing;

use crate::clock::UnixTime;

/// The credential of a route, with where it is from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Injected {
    /// Which secret it is, and where in a request it stands.
    pub(crate) origin: RouteCredential,
    pub(crate) credential: Credential,
    /// Its end, where that is known.
    pub(crate) expires: Option<UnixTime>,
}

impl Injected {
    /// From the value of the secret; `None` as for [`Credential::new`].
    pub(crate) fn new(origin: RouteCredential, secret: &str, expires: Option<UnixTime>) -> Option<Self> {
        Some(Self { credential: Credential::new(&origin.shape, secret)?, origin, expires })
    }

    /// Whether it is known to be of no use any more.
    pub(crate) fn has_expired(&self, now: UnixTime) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

/// What is put into a request. Shows no value in debug output.
#[derive(PartialEq, Eq)]
pub(crate) enum Credential {
    /// A header; its value is marked as sensitive, so that HPACK keeps it out of its table (RFC 7541 section 7.1.3).
    Header(HeaderName, HeaderValue),
    /// A parameter of the query.
    Parameter {
        /// As the route writes it.
        name: String,
        /// Percent-encoded.
        value: Zeroizing<String>,
    },
}

impl Credential {
    /// From the value of the secret, unless that is empty or no header could carry it.
    pub(crate) fn new(shape: &CredentialShape, secret: &str) -> Option<Self> {
        if secret.trim().is_empty() {
            return None;
        }
        let header = |name: HeaderName, value: &str| {
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            Some(Self::Header(name, value))
        };
        match shape {
            CredentialShape::Scheme(scheme) => {
                header(header::AUTHORIZATION, &Zeroizing::new(format!("{scheme} {secret}")))
            }
            CredentialShape::Basic { username } => {
                // What no other shape can send is refused in this one too: it was copied with too much around it.
                HeaderValue::from_str(secret).ok()?;
                let pair = Zeroizing::new(format!("{username}:{secret}"));
                let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
                header(header::AUTHORIZATION, &Zeroizing::new(format!("Basic {}", encoded.as_str())))
            }
            CredentialShape::Header(name) => header(name.parse().ok()?, secret),
            CredentialShape::Query(name) => {
                HeaderValue::from_str(secret).ok()?;
                Some(Self::Parameter { name: name.clone(), value: percent_encoded(secret) })
            }
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name, _) => write!(f, "Header({name}: …)"),
            Self::Parameter { name, .. } => write!(f, "Parameter({name}=…)"),
        }
    }
}

/// Everything but the unreserved characters escaped (RFC 3986 section 2.3), so that no server reads anything else.
fn percent_encoded(text: &str) -> Zeroizing<String> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    // Its final size: a buffer that grows leaves copies of the value behind.
    let mut encoded = Zeroizing::new(String::with_capacity(text.len() * 3));
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(DIGITS[usize::from(byte >> 4)]));
            encoded.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(shape: &CredentialShape, secret: &str) -> String {
        match Credential::new(shape, secret).expect("a credential") {
            Credential::Header(name, value) => {
                assert!(value.is_sensitive());
                format!("{name}: {}", value.to_str().expect("text"))
            }
            Credential::Parameter { name, value } => format!("{name}={}", value.as_str()),
        }
    }

    #[test]
    fn each_shape_is_sent_in_its_form() {
        let basic = CredentialShape::Basic { username: "Aladdin".into() };
        // The example of RFC 7617 section 2.
        assert_eq!(sent(&basic, "open-sesame"), "authorization: Basic QWxhZGRpbjpvcGVuLXNlc2FtZQ==");
        assert_eq!(sent(&CredentialShape::Scheme("token".into()), "a"), "authorization: token a");
        assert_eq!(sent(&CredentialShape::Header("x-api-key".into()), "a&b"), "x-api-key: a&b");
        assert_eq!(
            sent(&CredentialShape::Query("key".into()), "a&b=c d/%é~"),
            "key=a%26b%3Dc%20d%2F%25%C3%A9~"
        );
    }

    #[test]
    fn a_credential_ends_with_its_last_second() {
        let origin = RouteCredential {
            shape: CredentialShape::Scheme("Bearer".into()),
            token_ref: bot_bottle_core::secret::SecretRef::new("TOKEN"),
        };
        let injected = |expires| Injected::new(origin.clone(), "value", expires).expect("a credential");
        for (now, has_expired) in [(0, false), (99, false), (100, true), (u64::MAX, true)] {
            assert_eq!(injected(Some(UnixTime(100))).has_expired(UnixTime(now)), has_expired, "{now}");
            assert!(!injected(None).has_expired(UnixTime(now)), "nothing is known");
        }
        assert_ne!(injected(None), Injected::new(origin.clone(), "other", None).expect("a credential"));
    }

    #[test]
    fn what_no_header_can_carry_is_no_credential_in_any_shape() {
        for shape in [
            CredentialShape::Scheme("Bearer".into()),
            CredentialShape::Basic { username: "me".into() },
            CredentialShape::Header("x-api-key".into()),
            CredentialShape::Query("key".into()),
        ] {
            for secret in ["", " ", "a\nb", "a\r", "a\0b"] {
                assert!(Credential::new(&shape, secret).is_none(), "{shape} {secret:?}");
            }
            let shown = format!("{:?}", Credential::new(&shape, "very-secret").expect("a credential"));
            assert!(!shown.contains("secret"), "{shown}");
        }
    }
}
