//! How requests on a route are authenticated.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, Expected, MapAccess, Visitor, value::MapAccessDeserializer},
};
use thiserror::Error;

use crate::{error::Hint, secret::SecretRef};

use super::{
    credential_names::{is_authorization, is_header_name_rather, use_of_header},
    overrides, same_parameter,
};

/// What becomes of the credentials of requests. A route that says nothing has those of the agent removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteAuth {
    /// What the agent sends goes through.
    Keep,
    /// The gateway injects one, and what the agent sends is removed.
    #[serde(untagged)]
    Inject(RouteCredential),
}

/// A credential that the gateway injects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct RouteCredential {
    /// Where in a request it stands, and in which form.
    pub shape: CredentialShape,
    /// Names the secret.
    pub token_ref: SecretRef,
}

/// Where in a request a credential stands, and in which form. Made by [`CredentialShape::scheme`] and its siblings,
/// which refuse what no server reads or what would change another part of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialShape {
    /// `Authorization: <scheme> <value>` (RFC 9110 section 11.6.2).
    Scheme(String),
    /// `Authorization: Basic <base64 of user:value>` (RFC 7617).
    Basic {
        /// What stands before the colon.
        username: String,
    },
    /// The value alone, in a header of this name, which is in lower case.
    Header(String),
    /// The value, percent-encoded, as a parameter of this name in the query.
    Query(String),
}

/// Why a credential cannot have a shape.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ShapeError {
    /// No scheme has such a name.
    #[error("`{0}` is not an authentication scheme")]
    NoScheme(String),
    /// The name of a header stands where a scheme belongs.
    #[error("`{0}` is the name of a header, not an authentication scheme")]
    HeaderAsScheme(String),
    /// Basic without a user.
    #[error("the scheme `Basic` needs a `username`")]
    BasicWithoutUser,
    /// A user with another scheme.
    #[error("only the scheme `Basic` has a `username`")]
    UserWithoutBasic,
    /// RFC 7617 section 2: what follows the first colon is the password; control characters are forbidden.
    #[error("a user name that is empty, or has a colon or a control character, cannot be sent")]
    Username,
    /// RFC 9110 section 5.1.
    #[error("`{0}` is not the name of a header")]
    NoHeader(String),
    /// A header that has another part to play.
    #[error("no credential can be put into `{name}`: {why}")]
    HeaderTaken {
        /// In lower case.
        name: String,
        /// What it is for.
        why: &'static str,
    },
    /// The parameter's name.
    #[error("`{0}` is not the name of a parameter: letters, digits, `-`, `_` and `.`")]
    NoParameter(String),
    /// A parameter on which decisions depend.
    #[error("no credential can be put into the parameter `{0}`, which can change what a request asks for")]
    ParameterTaken(String),
    /// No shape, or more than one.
    #[error("a credential has one of `scheme`, `header` and `query`")]
    NotOne,
}

/// The longest name of a parameter, in bytes, and how much of a wrong name is shown.
const MAX_PARAMETER_NAME: usize = 64;

impl CredentialShape {
    /// `Authorization` with a scheme; `username` is for Basic, whose name has any case (RFC 9110 section 11.1).
    ///
    /// # Errors
    /// See [`ShapeError`].
    pub fn scheme(scheme: &str, username: Option<&str>) -> Result<Self, ShapeError> {
        if !is_token(scheme) {
            return Err(ShapeError::NoScheme(cut(scheme)));
        }
        if is_header_name_rather(scheme) {
            return Err(ShapeError::HeaderAsScheme(cut(scheme)));
        }
        match (scheme.eq_ignore_ascii_case("basic"), username) {
            (true, None) => Err(ShapeError::BasicWithoutUser),
            (true, Some(username))
                if username.is_empty() || username.contains(|c: char| c == ':' || c.is_control()) =>
            {
                Err(ShapeError::Username)
            }
            (true, Some(username)) => Ok(Self::Basic { username: username.to_owned() }),
            (false, None) => Ok(Self::Scheme(scheme.to_owned())),
            (false, Some(_)) => Err(ShapeError::UserWithoutBasic),
        }
    }

    /// A header of its own.
    ///
    /// # Errors
    /// See [`ShapeError`].
    pub fn header(name: &str) -> Result<Self, ShapeError> {
        if !is_token(name) {
            return Err(ShapeError::NoHeader(cut(name)));
        }
        let name = name.to_ascii_lowercase();
        match use_of_header(&name) {
            Some(why) => Err(ShapeError::HeaderTaken { name, why }),
            None => Ok(Self::Header(name)),
        }
    }

    /// A parameter of the query.
    ///
    /// # Errors
    /// See [`ShapeError`].
    pub fn query(name: &str) -> Result<Self, ShapeError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > MAX_PARAMETER_NAME || !name.bytes().all(is_allowed) {
            return Err(ShapeError::NoParameter(cut(name)));
        }
        // `service` says that git pushes (gitprotocol-http(5)).
        if overrides::is_method_parameter(name) || same_parameter("service", name) {
            return Err(ShapeError::ParameterTaken(name.to_owned()));
        }
        Ok(Self::Query(name.to_owned()))
    }

    /// The header that it is in, in lower case.
    #[must_use]
    pub fn header_name(&self) -> Option<&str> {
        match self {
            Self::Scheme(_) | Self::Basic { .. } => Some("authorization"),
            Self::Header(name) => Some(name),
            Self::Query(_) => None,
        }
    }

    /// The parameter that it is in.
    #[must_use]
    pub fn parameter(&self) -> Option<&str> {
        match self {
            Self::Query(name) => Some(name),
            Self::Scheme(_) | Self::Basic { .. } | Self::Header(_) => None,
        }
    }
}

impl RouteAuth {
    /// What the gateway injects.
    #[must_use]
    pub fn credential(&self) -> Option<&RouteCredential> {
        match self {
            Self::Keep => None,
            Self::Inject(credential) => Some(credential),
        }
    }
}

/// As much of a name as a message shows.
fn cut(name: &str) -> String {
    name.chars().take(MAX_PARAMETER_NAME).collect()
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

const BEARER: &str = "write `scheme: Bearer` for `Authorization: Bearer <value>`";

impl Hint for ShapeError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::NoScheme(_) => {
                "write `scheme: Bearer`; a value that stands alone has a `header` or a `query`".into()
            }
            Self::HeaderAsScheme(name) if is_authorization(name) => BEARER.into(),
            Self::HeaderAsScheme(name) => format!("write `header: {}`", name.to_ascii_lowercase()).into(),
            Self::BasicWithoutUser => {
                "write `username: x-access-token`, or what the server wants there; the gateway encodes it with the value"
                    .into()
            }
            Self::UserWithoutBasic => "write `scheme: Basic`, or take `username` out".into(),
            Self::Username => "write the name alone; what `token_ref` names is the password".into(),
            Self::HeaderTaken { name, .. } if is_authorization(name) => BEARER.into(),
            Self::NoHeader(_) | Self::HeaderTaken { .. } => {
                "write the header that the host's documentation names, such as `header: x-api-key`".into()
            }
            Self::NoParameter(_) | Self::ParameterTaken(_) => {
                "write the parameter that the host's documentation names, such as `query: key`".into()
            }
            Self::NotOne => {
                "write `scheme: Bearer`, or `header: x-api-key` or `query: key` for the value alone".into()
            }
        })
    }
}

impl fmt::Display for RouteAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("keep"),
            Self::Inject(credential) => credential.shape.fmt(f),
        }
    }
}

impl fmt::Display for CredentialShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme(scheme) => f.write_str(scheme),
            Self::Basic { username } => write!(f, "Basic as {username}"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Query(name) => write!(f, "query {name}"),
        }
    }
}

/// By hand, because serde's untagged enums lose what is wrong with their content, and where.
impl<'de> Deserialize<'de> for RouteAuth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeepOrCredential;
        impl<'de> Visitor<'de> for KeepOrCredential {
            type Value = RouteAuth;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a credential or \"keep\"")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<RouteAuth, E> {
                match word {
                    "keep" => Ok(RouteAuth::Keep),
                    // It may be the credential itself.
                    _ => Err(E::custom(format_args!("expected {}", &self as &dyn Expected))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RouteAuth, A::Error> {
                RouteCredential::deserialize(MapAccessDeserializer::new(map)).map(RouteAuth::Inject)
            }
        }
        deserializer.deserialize_any(KeepOrCredential)
    }
}

/// As it stands in a configuration.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scheme: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    token_ref: SecretRef,
}

impl TryFrom<Written> for RouteCredential {
    type Error = ShapeError;

    fn try_from(written: Written) -> Result<Self, ShapeError> {
        let shape = match (&written.scheme, &written.header, &written.query) {
            (Some(scheme), None, None) => CredentialShape::scheme(scheme, written.username.as_deref())?,
            _ if written.username.is_some() => return Err(ShapeError::UserWithoutBasic),
            (None, Some(header), None) => CredentialShape::header(header)?,
            (None, None, Some(query)) => CredentialShape::query(query)?,
            _ => return Err(ShapeError::NotOne),
        };
        Ok(Self { shape, token_ref: written.token_ref })
    }
}

impl From<RouteCredential> for Written {
    fn from(RouteCredential { shape, token_ref }: RouteCredential) -> Self {
        let none = Self { scheme: None, username: None, header: None, query: None, token_ref };
        match shape {
            CredentialShape::Scheme(scheme) => Self { scheme: Some(scheme), ..none },
            CredentialShape::Basic { username } => {
                Self { scheme: Some("Basic".to_owned()), username: Some(username), ..none }
            }
            CredentialShape::Header(name) => Self { header: Some(name), ..none },
            CredentialShape::Query(name) => Self { query: Some(name), ..none },
        }
    }
}

#[cfg(test)]
mod tests;
