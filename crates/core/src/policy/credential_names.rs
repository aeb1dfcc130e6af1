//! Names of headers and parameters that carry credentials, and of headers that never do.

use super::{is_override, same_field, same_parameter};

/// Headers that carry the keys of APIs, by those who read them. Not in the list are keys that are public, such as the
/// search keys of Algolia.
const API_KEY_HEADERS: [&str; 30] = [
    "x-api-key",                 // Anthropic, Amazon API Gateway and most others
    "api-key",                   // Azure OpenAI, Qdrant, Brevo, New Relic
    "apikey",                    // Supabase, Kong
    "x-apikey",                  // VirusTotal
    "x-api-token",               // SonarSource and others
    "x-goog-api-key",            // Google
    "x-auth-token",              // OpenStack, Redfish
    "x-auth-key",                // Cloudflare
    "x-access-token",            // services behind JWT middleware
    "x-amz-security-token",      // Amazon Web Services, session credentials
    "ocp-apim-subscription-key", // Azure API Management
    "x-functions-key",           // Azure Functions
    "x-rapidapi-key",            // RapidAPI
    "x-subscription-token",      // Brave Search
    "xi-api-key",                // ElevenLabs
    "dd-api-key",                // Datadog
    "dd-application-key",        // Datadog
    "private-token",             // GitLab
    "job-token",                 // GitLab CI
    "deploy-token",              // GitLab
    "circle-token",              // CircleCI
    "x-vault-token",             // HashiCorp Vault
    "x-consul-token",            // HashiCorp Consul
    "x-nomad-token",             // HashiCorp Nomad
    "x-jfrog-art-api",           // Artifactory
    "x-nuget-apikey",            // NuGet
    "x-figma-token",             // Figma
    "x-shopify-access-token",    // Shopify
    "x-honeycomb-team",          // Honeycomb
    "x-postmark-server-token",   // Postmark
];

/// Headers of HTTP's own authentication (RFC 9110 sections 11.6.2 and 11.7.2).
const AUTHORIZATION_HEADERS: [&str; 2] = ["authorization", "proxy-authorization"];

/// Parameters that carry the keys of APIs: Google (`key`, `access_token`), GitLab (`private_token`), Azure (`code`,
/// `subscription-key`), OpenWeather (`appid`), and the spellings that most others use.
const API_KEY_PARAMETERS: [&str; 15] = [
    "key",
    "api_key",
    "apikey",
    "api-key",
    "api_token",
    "access_token",
    "access_key",
    "auth_token",
    "private_token",
    "token",
    "app_key",
    "appid",
    "code",
    "subscription-key",
    "x-api-key",
];

/// Whether a header of this name is for a credential, on whatever route.
#[must_use]
pub fn is_credential_header(name: &str) -> bool {
    AUTHORIZATION_HEADERS.iter().chain(&API_KEY_HEADERS).any(|known| same_field(known, name))
}

/// The parameter for a credential that a server may take one of this name for, which is as the agent wrote it.
#[must_use]
pub fn credential_parameter(written: &str) -> Option<&'static str> {
    API_KEY_PARAMETERS.into_iter().find(|known| same_parameter(known, written))
}

/// Headers that no credential can be in, and why. A name that ends with `-` is the start of names.
const TAKEN: [(&str, &str); 29] = [
    ("authorization", "it has a scheme before the value"),
    ("proxy-authorization", "it is for the next proxy and not for the host"),
    ("connection", FOR_ONE_HOP),
    ("keep-alive", FOR_ONE_HOP),
    ("proxy-", FOR_ONE_HOP),
    ("te", FOR_ONE_HOP),
    ("trailer", FOR_ONE_HOP),
    ("transfer-encoding", FOR_ONE_HOP),
    ("upgrade", FOR_ONE_HOP),
    ("http2-settings", FOR_ONE_HOP),
    ("host", "it names the host that was decided on"),
    ("content-", "it describes the body"),
    ("expect", "it says how the body is sent"),
    ("cookie", "its value is a list of names with values, and the agent's own are part of it"),
    ("set-cookie", "it belongs to responses"),
    ("referer", "it names another address"),
    ("forwarded", ROUTING),
    ("via", ROUTING),
    ("x-forwarded-", ROUTING),
    ("x-original-", ROUTING),
    ("x-rewrite-", ROUTING),
    ("accept-", NEGOTIATION),
    ("accept", NEGOTIATION),
    ("if-", NEGOTIATION),
    ("range", NEGOTIATION),
    ("user-agent", "it names the program"),
    ("origin", "it names another address"),
    ("sec-", "it is for browsers and WebSockets (RFC 6455)"),
    ("bot-bottle-", "it is for what the gateway tells the agent"),
];
const FOR_ONE_HOP: &str = "it is for one connection and does not reach the host (RFC 9110 section 7.6.1)";
const ROUTING: &str = "proxies and servers find out by it what is asked for and by whom";
const NEGOTIATION: &str = "it says which answer is wanted";

/// What a header is for, if no credential can be in it. `name` is in lower case.
pub(super) fn use_of_header(name: &str) -> Option<&'static str> {
    let is_taken = |taken: &str| match taken.ends_with('-') {
        true => name.get(..taken.len()).is_some_and(|start| same_field(taken, start)),
        false => same_field(taken, name),
    };
    let taken = TAKEN.iter().find(|(taken, _)| is_taken(taken)).map(|(_, why)| *why);
    taken.or(is_override(name).then_some(ROUTING))
}

/// Whether a name that could be a scheme is written as headers are. `Api-Key` is a scheme of Yandex Cloud's, so that
/// of the names without `x-` only those in lower case, as documentation writes headers, are no schemes.
pub(super) fn is_header_name_rather(scheme: &str) -> bool {
    let has_prefix = scheme.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("x-"));
    let is_lower = !scheme.bytes().any(|byte| byte.is_ascii_uppercase());
    has_prefix || (is_lower && API_KEY_HEADERS.contains(&scheme)) || is_authorization(scheme)
}

/// Whether it is a header of HTTP's own authentication.
pub(super) fn is_authorization(name: &str) -> bool {
    AUTHORIZATION_HEADERS.iter().any(|known| same_field(known, name))
}
