//! The host's login of Codex, and the dummy that the bottle gets in its place.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    provider::{CredentialError, HostCredentials, credentials},
    secret::PLACEHOLDER,
};

/// The claim in which tokens carry the account, as an object.
const ACCOUNT_CLAIM: &str = "https://api.openai.com/auth";

/// The longest account id that is believed. Real ones are UUIDs of 36 characters.
const MAX_ACCOUNT_ID_BYTES: usize = 64;

/// What is taken from the host's login.
pub(super) struct HostLogin {
    /// Goes to the gateway.
    pub(super) access_token: Zeroizing<String>,
    /// Seconds since 1970, UTC.
    pub(super) expires: u64,
    /// An identifier, not a secret. Without it the program ends before its first request to a model.
    pub(super) account_id: String,
}

#[derive(Deserialize)]
struct AuthFile {
    auth_mode: Option<String>,
    #[serde(rename = "OPENAI_API_KEY")]
    api_key: Option<Zeroizing<String>>,
    tokens: Option<Tokens>,
}

#[derive(Deserialize)]
struct Tokens {
    access_token: Option<Zeroizing<String>>,
    account_id: Option<Zeroizing<String>>,
}

#[derive(Deserialize)]
struct Claims {
    exp: Option<u64>,
    #[serde(rename = "https://api.openai.com/auth")]
    account: Option<AccountClaim>,
}

#[derive(Deserialize)]
struct AccountClaim {
    chatgpt_account_id: Option<Zeroizing<String>>,
}

impl HostLogin {
    /// Reads the file of the login. `now` is in seconds since 1970, UTC.
    pub(super) fn read(credentials: &HostCredentials, now: u64) -> Result<Self, CredentialError> {
        let malformed = |problem: &str| CredentialError::Malformed(problem.to_owned());
        let file: AuthFile =
            serde_json::from_str(credentials.text()?).map_err(|error| CredentialError::json(&error))?;
        let has_key = file.api_key.is_some_and(|key| !key.is_empty());
        let tokens = match (file.auth_mode.as_deref(), file.tokens) {
            (Some("apikey"), _) => return Err(CredentialError::ApiKeyOnly),
            (_, None) if has_key => return Err(CredentialError::ApiKeyOnly),
            (_, None) => return Err(malformed("it has no `tokens`, which is where a login is kept")),
            (_, Some(tokens)) => tokens,
        };
        let access_token = tokens
            .access_token
            .filter(|token| credentials::is_header_token(token))
            .ok_or_else(|| malformed("its `tokens.access_token` is not a token"))?;
        let claims = Claims::of(&access_token)
            .ok_or_else(|| malformed("its `tokens.access_token` is not a JSON web token"))?;
        let expires = claims.exp.ok_or_else(|| malformed("its `tokens.access_token` has no `exp`"))?;
        CredentialError::check_expiry(expires, now)?;
        let account_id = tokens
            .account_id
            .or_else(|| claims.account.and_then(|claim| claim.chatgpt_account_id))
            .filter(|id| is_account_id(id))
            .ok_or_else(|| malformed("its `tokens.account_id` is not the id of an account"))?;
        Ok(Self { access_token, expires, account_id: account_id.as_str().to_owned() })
    }

    /// A file of the same shape for the bottle. It has the real expiry, because the program refreshes a token
    /// five minutes before, and the real account id; nothing else of it is real. The program ignores a login
    /// without `id_token` or `refresh_token`, and sends no token without `last_refresh`.
    pub(super) fn dummy(&self, now: u64) -> Value {
        let token = self.dummy_token();
        json!({
            "auth_mode": "chatgpt",
            "OPENAI_API_KEY": null,
            "tokens": {
                "id_token": token,
                "access_token": token,
                "refresh_token": PLACEHOLDER,
                "account_id": self.account_id,
            },
            "last_refresh": rfc3339(now),
        })
    }

    /// A JSON web token (RFC 7519) that nobody signed: the program reads its claims and checks no signature.
    ///
    /// The names of the claims and the account id are escaped, character by character. Real tokens have the
    /// same names in them, and with the same encoding a search of the bottle for parts of the real token
    /// would find those.
    fn dummy_token(&self) -> String {
        let [account_claim, account_key, account_id, expiry_key] =
            [ACCOUNT_CLAIM, "chatgpt_account_id", &self.account_id, "exp"].map(escaped);
        let claims = format!(
            r#"{{"{account_claim}":{{"{account_key}":"{account_id}"}},"{expiry_key}": {} }}"#,
            self.expires
        );
        let parts = [r#"{"alg":"none"}"#, &claims, PLACEHOLDER];
        parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
    }
}

/// The inside of a JSON string, every character of it as an escape (RFC 8259 section 7).
fn escaped(text: &str) -> String {
    text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
}

impl Claims {
    /// The claims of a JSON web token in its compact form: three parts, the second of which has them.
    fn of(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (_header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?);
        serde_json::from_slice(&decoded).ok()
    }
}

/// Whether this can be an account's id. It goes into the bottle as it is, so nothing that could be a token
/// may pass for one.
fn is_account_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= MAX_ACCOUNT_ID_BYTES
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Seconds since 1970 as RFC 3339, UTC.
fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // From days to a date in the proleptic Gregorian calendar, whose years are counted from March so that the
    // leap day is the last: 719,468 days lie between 0000-03-01 and 1970-01-01, 146,097 are 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000000Z")
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn seconds_are_a_date() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000000Z"),
            (1_763_896_701, "2025-11-23T11:18:21.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(rfc3339(seconds), date);
        }
    }
}
