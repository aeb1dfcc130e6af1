use serde_json::json;

use super::*;
use crate::policy::{credential_parameter, is_credential_header};

#[test]
fn each_shape_is_read_as_it_is_written() {
    for (written, shape) in [
        (json!({"scheme": "Bearer"}), CredentialShape::Scheme("Bearer".into())),
        (json!({"scheme": "token"}), CredentialShape::Scheme("token".into())),
        // A scheme of Yandex Cloud's, where the header of this name is in lower case.
        (json!({"scheme": "Api-Key"}), CredentialShape::Scheme("Api-Key".into())),
        (
            json!({"scheme": "Basic", "username": "x-access-token"}),
            CredentialShape::Basic { username: "x-access-token".into() },
        ),
        (json!({"header": "x-api-key"}), CredentialShape::Header("x-api-key".into())),
        (json!({"query": "key"}), CredentialShape::Query("key".into())),
    ] {
        let mut auth = written.clone();
        auth["token_ref"] = "TOKEN".into();
        let read: RouteAuth = serde_json::from_value(auth.clone()).expect("a shape");
        assert_eq!(read, RouteAuth::Inject(RouteCredential { shape, token_ref: SecretRef::new("TOKEN") }));
        assert_eq!(serde_json::to_value(&read).expect("serialisable"), auth);
    }
    let keep: RouteAuth = serde_json::from_value(json!("keep")).expect("a word");
    assert_eq!(
        (&keep, serde_json::to_value(&keep).expect("serialisable")),
        (&RouteAuth::Keep, json!("keep"))
    );
    assert_eq!(
        CredentialShape::scheme("BASIC", Some("me")),
        Ok(CredentialShape::Basic { username: "me".into() })
    );
    assert_eq!(
        CredentialShape::header("X-Goog-Api-Key"),
        Ok(CredentialShape::Header("x-goog-api-key".into()))
    );
}

#[test]
fn what_is_no_shape_is_refused() {
    for written in [
        json!("keeps"),
        json!({}),
        json!({"token_ref": "T"}),
        json!({"scheme": "Bearer"}),
        json!({"scheme": "Bearer", "header": "x-api-key", "token_ref": "T"}),
        json!({"header": "x-api-key", "query": "key", "token_ref": "T"}),
        json!({"header": "x-api-key", "username": "me", "token_ref": "T"}),
        json!({"scheme": "Bearer", "username": "me", "token_ref": "T"}),
        json!({"scheme": "Basic", "token_ref": "T"}),
        json!({"scheme": "Basic", "username": "a:b", "token_ref": "T"}),
        json!({"scheme": "Bearer", "token_ref": "T", "extra": 1}),
    ] {
        assert!(serde_json::from_value::<RouteAuth>(written.clone()).is_err(), "{written}");
    }
}

#[test]
fn a_header_is_no_scheme() {
    for name in ["x-api-key", "X-Api-Key", "x-anything", "api-key", "private-token", "Authorization"] {
        let error = CredentialShape::scheme(name, None).expect_err(name);
        assert_eq!(error, ShapeError::HeaderAsScheme(name.into()), "{name}");
        let hint = error.hint().expect("a hint").into_owned();
        let expected = if name == "Authorization" { "`scheme: Bearer`" } else { "`header: " };
        assert!(hint.contains(expected), "{name}: {hint}");
    }
}

#[test]
fn a_credential_takes_no_header_that_has_a_part_to_play() {
    for name in [
        "Authorization",
        "Proxy-Authorization",
        "Connection",
        "Proxy-Connection",
        "TE",
        "Upgrade",
        "Transfer-Encoding",
        "Host",
        "Content-Length",
        "content_length",
        "Cookie",
        "X-Forwarded-For",
        "X_Original_URL",
        "X-HTTP-Method-Override",
        "Destination",
        "Sec-WebSocket-Key",
        "Bot-Bottle-Removed",
        "",
        "a b",
        "x-key:",
    ] {
        assert!(CredentialShape::header(name).is_err(), "{name}");
    }
    for name in ["x-api-key", "hosts", "contents", "team", "X-Sec", "private-token", "x_key"] {
        assert!(CredentialShape::header(name).is_ok(), "{name}");
    }
}

#[test]
fn a_credential_takes_no_parameter_that_changes_the_request() {
    for name in
        ["_method", "_METHOD", "$method", "service", "Service", "", "a b", "k%65y", "a[]", "a&b", "a=b"]
    {
        assert!(CredentialShape::query(name).is_err(), "{name}");
    }
    for name in ["key", "api_key", "api-key", "app.id", "methods"] {
        assert!(CredentialShape::query(name).is_ok(), "{name}");
    }
}

#[test]
fn credentials_are_known_by_the_names_that_servers_read() {
    for name in
        ["authorization", "Proxy-Authorization", "X-Api-Key", "x_api_key", "API-KEY", "x-goog-api-key"]
    {
        assert!(is_credential_header(name), "{name}");
    }
    for name in ["accept", "x-request-id", "idempotency-key", "sec-websocket-key", "x-csrf-token"] {
        assert!(!is_credential_header(name), "{name}");
    }
    for name in ["key", "KEY", "k%65y", "k%2565y", "+key", "api.key", "api%20key", "key[]", "key%00x"] {
        assert!(credential_parameter(name).is_some(), "{name}");
    }
    for name in ["q", "keys", "monkey", "page", "next_token_hint", ""] {
        assert_eq!(credential_parameter(name), None, "{name}");
    }
}
