//! Logins of the host that look like real ones, with values that exist nowhere else.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    random::{random_hex, random_secret},
    search::Needle,
};

/// The host's login of Codex, as `~/.codex/auth.json` holds it.
#[derive(Debug, Clone)]
pub struct CodexLogin {
    /// The bearer token; a JSON web token.
    pub access_token: String,
    /// The account; a JSON web token too.
    pub id_token: String,
    /// The refresh token.
    pub refresh_token: String,
    /// An identifier, not a secret.
    pub account_id: String,
    /// Seconds since 1970.
    pub last_refresh: u64,
}

/// The host's login of Claude, as `~/.claude/.credentials.json` holds it.
#[derive(Debug, Clone)]
pub struct ClaudeLogin {
    /// The bearer token.
    pub access_token: String,
    /// The refresh token.
    pub refresh_token: String,
    /// Seconds since 1970.
    pub expires: u64,
}

/// A JSON web token with these claims and a random signature, which no fake API verifies.
#[must_use]
pub fn json_web_token(claims: &Value) -> String {
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": random_hex(4)});
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signature = URL_SAFE_NO_PAD.encode(random_hex(96));
    format!("{}.{}.{signature}", encode(&header), encode(claims))
}

impl CodexLogin {
    /// A login whose tokens expire at this time, in seconds since 1970.
    #[must_use]
    pub fn new(now: u64, expires: u64) -> Self {
        Self::of_account(&format!("{}-account", random_hex(8)), now, expires)
    }

    /// A later login of the same person.
    #[must_use]
    pub fn renewed(&self, now: u64, expires: u64) -> Self {
        Self::of_account(&self.account_id, now, expires)
    }

    fn of_account(account_id: &str, now: u64, expires: u64) -> Self {
        let account_id = account_id.to_owned();
        let claims = json!({
            "iat": now,
            "exp": expires,
            "email": format!("{account_id}@example.org"),
            "https://api.openai.com/auth": {
                "chatgpt_account_id": account_id,
                "chatgpt_plan_type": "pro",
                "chatgpt_user_id": format!("user-{account_id}"),
            }
        });
        Self {
            access_token: json_web_token(&claims),
            id_token: json_web_token(&claims),
            refresh_token: random_secret("rt_"),
            account_id,
            last_refresh: now,
        }
    }

    /// The text of the file.
    #[must_use]
    pub fn file(&self) -> String {
        json!({
            "auth_mode": "chatgpt",
            "OPENAI_API_KEY": null,
            "tokens": {
                "id_token": self.id_token,
                "access_token": self.access_token,
                "refresh_token": self.refresh_token,
                "account_id": self.account_id
            },
            "last_refresh": rfc3339(self.last_refresh)
        })
        .to_string()
    }

    /// The texts that must not be found anywhere.
    #[must_use]
    pub fn needles(&self) -> Vec<Needle> {
        vec![
            Needle::new("access token", after_last_dot(&self.access_token)),
            Needle::new("id token", after_last_dot(&self.id_token)),
            Needle::new("refresh token", &self.refresh_token),
        ]
    }
}

impl ClaudeLogin {
    /// A login whose token expires at this time, in seconds since 1970.
    #[must_use]
    pub fn new(expires: u64) -> Self {
        Self {
            access_token: random_secret("sk-ant-oat01-"),
            refresh_token: random_secret("sk-ant-ort01-"),
            expires,
        }
    }

    /// The text of the file.
    #[must_use]
    pub fn file(&self) -> String {
        json!({
            "claudeAiOauth": {
                "accessToken": self.access_token,
                "refreshToken": self.refresh_token,
                "expiresAt": self.expires * 1000,
                "scopes": ["user:inference", "user:profile"],
                "subscriptionType": "max"
            }
        })
        .to_string()
    }

    /// The texts that must not be found anywhere.
    #[must_use]
    pub fn needles(&self) -> Vec<Needle> {
        vec![
            Needle::new("access token", &self.access_token),
            Needle::new("refresh token", &self.refresh_token),
        ]
    }
}

/// The one part of a token that its claims and its kind do not make guessable.
fn after_last_dot(token: &str) -> &str {
    token.rsplit('.').next().unwrap_or(token)
}

/// RFC 3339, UTC. Days to date after Howard Hinnant, "chrono-compatible low-level date algorithms".
fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.000000Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_795_478_399, "2026-11-23T23:59:59.000000Z"),
        ] {
            assert_eq!(rfc3339(seconds), date);
        }
    }

    #[test]
    fn no_two_logins_are_alike() {
        assert_ne!(CodexLogin::new(0, 1).access_token, CodexLogin::new(0, 1).access_token);
        assert_ne!(ClaudeLogin::new(1).refresh_token, ClaudeLogin::new(1).refresh_token);
    }
}
