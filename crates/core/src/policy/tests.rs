use super::*;

#[derive(Debug)]
struct List<'a>(&'a [(&'a str, &'a str)]);

impl Headers for List<'_> {
    fn each_value(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        for (_, value) in self.0.iter().filter(|(header, _)| same_field(header, name)) {
            visit(value.as_bytes());
        }
    }
}

fn route(json: serde_json::Value) -> Route {
    let mut whole = serde_json::json!({"host": "api.example.org", "ports": [443, 80], "owner": "manifest"});
    for (key, value) in json.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    serde_json::from_value(whole).expect("a route")
}

fn policy(routes: Vec<Route>) -> Policy {
    Policy { routes, ..Policy::default() }
}

fn decide_with(policy: &Policy, url: &str, method: &str, headers: &[(&str, &str)]) -> Decision {
    let (scheme, rest) = url.split_once("://").expect("a scheme");
    let (authority, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let (host, port) = authority
        .split_once('@')
        .map_or((authority, 443), |(host, port)| (host, port.parse().expect("a port")));
    policy.decide(&RequestFacts {
        host: &Host::parse(host).expect("a host"),
        port,
        encrypted: scheme == "https",
        method,
        path,
        query,
        headers: &List(headers),
    })
}

fn reason(policy: &Policy, url: &str) -> Reason {
    decide_with(policy, url, "GET", &[]).reason
}

#[test]
fn an_empty_policy_allows_nothing() {
    assert_eq!(reason(&Policy::default(), "https://example.org/"), Reason::NoRoute);
}

#[test]
fn a_route_is_for_its_host_and_ports_alone() {
    let policy = policy(vec![route(serde_json::json!({"ports": [443]}))]);
    assert_eq!(reason(&policy, "https://API.example.org./x"), Reason::Allowed);
    assert_eq!(reason(&policy, "https://api.example.org@8443/x"), Reason::PortNotAllowed);
    assert_eq!(reason(&policy, "https://example.org/x"), Reason::NoRoute);
    assert_eq!(reason(&policy, "https://10.0.0.1/x"), Reason::AddressLiteral);
}

#[test]
fn the_most_specific_route_decides_alone() {
    let policy = policy(vec![
        route(serde_json::json!({"host": "*.example.org"})),
        route(serde_json::json!({"host": "a.example.org", "matches": [{"methods": ["POST"]}]})),
    ]);
    assert_eq!(reason(&policy, "https://a.example.org/"), Reason::NoMatch);
    assert_eq!(reason(&policy, "https://b.example.org/"), Reason::Allowed);
}

#[test]
fn entries_are_alternatives_and_their_fields_are_not() {
    let policy = policy(vec![route(serde_json::json!({"matches": [
        {"paths": [{"type": "prefix", "value": "/repos/"}], "methods": ["GET"]},
        {"paths": [{"type": "exact", "value": "/x"}, {"type": "regex", "value": "/y[0-9]+|/z"}]},
        {"headers": [{"name": "x-kind", "type": "exact", "value": "a"}]},
    ]}))]);
    for (url, expected) in [
        ("https://api.example.org/repos/a/b", Reason::Allowed),
        ("https://api.example.org/repos", Reason::Allowed),
        ("https://api.example.org/reposx", Reason::NoMatch),
        ("https://api.example.org/%72epos/a", Reason::Allowed),
        ("https://api.example.org/x", Reason::Allowed),
        ("https://api.example.org/x/", Reason::NoMatch),
        ("https://api.example.org/y12", Reason::Allowed),
        ("https://api.example.org/y12/z", Reason::NoMatch),
        ("https://api.example.org/a/z", Reason::NoMatch),
    ] {
        assert_eq!(reason(&policy, url), expected, "{url}");
    }
    let decide = |method, headers| decide_with(&policy, "https://api.example.org/q", method, headers).reason;
    assert_eq!(decide("GET", &[("X-Kind", "a")]), Reason::Allowed);
    assert_eq!(decide("GET", &[("X-Kind", "a"), ("x-kind", "b")]), Reason::NoMatch);
    assert_eq!(decide_with(&policy, "https://api.example.org/repos/", "get", &[]).reason, Reason::NoMatch);
}

#[test]
fn paths_that_can_be_read_in_two_ways_are_refused() {
    let policy = policy(vec![route(
        serde_json::json!({"matches": [{"paths": [{"type": "prefix", "value": "/repos/"}]}]}),
    )]);
    for path in [
        "/repos/../admin",
        "/repos/%2e%2e/admin",
        "/repos/.%2E/admin",
        "/repos/..;/admin",
        "/repos/..;x=y/admin",
        "/repos/..%2fadmin",
        "/repos/%5c..%5cadmin",
        "/repos/..\\admin",
        "/repos/%252e%252e/admin",
        "/repos/%00",
        "/repos/%",
        "/repos/%g1",
        "/repos/..%252fadmin",
        "/repos//../../admin",
        "/repos;/../../admin",
    ] {
        let url = format!("https://api.example.org{path}");
        assert_eq!(reason(&policy, &url), Reason::PathNotCanonical, "{path}");
    }
    assert_eq!(reason(&policy, "https://api.example.org/repos/a.b/..c/%C3%A9/100%25"), Reason::Allowed);
    // Every reading of these is allowed.
    for path in ["/repos/./x", "/repos/%2E/x", "/repos/a%2fb", "/repos/a/../b", "/repos/a;v=1/b", "/repos//a"]
    {
        assert_eq!(reason(&policy, &format!("https://api.example.org{path}")), Reason::Allowed, "{path}");
    }
}

#[test]
fn a_route_without_paths_asks_for_no_form_of_them() {
    for json in [
        serde_json::json!({}),
        serde_json::json!({"matches": [{"methods": ["GET"]}]}),
        serde_json::json!({"matches": [{"paths": [{"type": "exact", "value": "/x"}]}, {"methods": ["GET"]}]}),
    ] {
        let policy = policy(vec![route(json)]);
        for path in [
            "/@types%2fnode",
            "/api/v4/projects/group%2Fproject",
            "/bucket//key",
            "/./Packages",
            "/a/../b",
            "/a%00b",
            "/100%",
            "/a\\b",
            "/a;v=1",
        ] {
            assert_eq!(reason(&policy, &format!("https://api.example.org{path}")), Reason::Allowed, "{path}");
        }
        // Git is looked for all the same.
        let push = "https://api.example.org/a/..;/b.git/git-receive-pack;x";
        assert_eq!(reason(&policy, push), Reason::GitPush);
    }
}

#[test]
fn an_escaped_slash_is_a_character_and_a_separator() {
    let projects = |value: &str| {
        policy(vec![route(serde_json::json!({"matches": [{"paths": [{"type": "regex", "value": value}]}]}))])
    };
    let url = "https://api.example.org/api/v4/projects/group%2Fproject";
    assert_eq!(reason(&projects("/api/v4/projects/[^/]+"), url), Reason::PathNotCanonical);
    assert_eq!(reason(&projects("/api/v4/projects/group(/|%2F)project"), url), Reason::Allowed);
}

#[test]
fn what_a_server_may_obey_instead_of_the_request_line_is_judged_like_it() {
    let closed = policy(vec![route(serde_json::json!({"matches": [
        {"paths": [{"type": "prefix", "value": "/v1"}], "methods": ["GET", "POST"]},
    ]}))]);
    let open = policy(vec![route(serde_json::json!({}))]);
    let decide = |policy, query: &str, headers: &[_]| {
        decide_with(policy, &format!("https://api.example.org/v1/x{query}"), "POST", headers).reason
    };
    for name in ["X-HTTP-Method-Override", "x-http-method", "X-Method-Override", "X_HTTP_METHOD_OVERRIDE"] {
        for (method, expected) in [
            ("DELETE", Reason::OverrideNotAllowed),
            (" delete ", Reason::OverrideNotAllowed),
            ("get", Reason::Allowed),
        ] {
            assert_eq!(decide(&closed, "", &[(name, method)]), expected, "{name}: {method}");
            assert_eq!(decide(&open, "", &[(name, method)]), Reason::Allowed, "{name}: {method}");
        }
        assert_eq!(decide(&open, "", &[(name, "trace")]), Reason::MethodReflects, "{name}");
    }
    for query in [
        "?_method=DELETE",
        "?a=b&_method=delete",
        "?a=b;_method=PUT",
        "?%5fmethod=PUT",
        "?%255fmethod=PUT",
        "?_METHOD=%50UT",
        "?_method[]=PUT",
        "?$method=DELETE",
        "?X-HTTP-Method-Override=DELETE",
        "?_method=GET&_method=DELETE",
    ] {
        assert_eq!(decide(&closed, query, &[]), Reason::OverrideNotAllowed, "{query}");
        assert_eq!(decide(&open, query, &[]), Reason::Allowed, "{query}");
    }
    for name in [
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Original-URI",
        "X-Forwarded-Uri",
        "X-Forwarded-Prefix",
        "X_Original_URL",
    ] {
        for (path, expected) in [
            ("/private", Reason::OverrideNotAllowed),
            ("private", Reason::OverrideNotAllowed),
            ("https://api.example.org/private?x", Reason::OverrideNotAllowed),
            ("/v1/../private", Reason::OverrideNotAllowed),
            ("/v1/y?x=1", Reason::Allowed),
        ] {
            assert_eq!(decide(&closed, "", &[(name, path)]), expected, "{name}: {path}");
            assert_eq!(decide(&open, "", &[(name, path)]), Reason::Allowed, "{name}: {path}");
        }
    }
    assert_eq!(decide(&closed, "?method=DELETE&q=_method", &[]), Reason::Allowed);
}

#[test]
fn git_never_pushes_and_fetches_only_where_it_may() {
    let closed = policy(vec![route(serde_json::json!({}))]);
    let open = policy(vec![route(serde_json::json!({"git_fetch": true}))]);
    for push in [
        "/a.git/git-receive-pack",
        "/a.git/info/refs?service=git-receive-pack",
        "/a.git/GIT-receive-PACK/",
        "/a.git/%67it-receive-pack",
        "/a.git/info/refs?x=1&service=git%2Dreceive-pack",
        "/a.git/info/refs?service=git-upload-pack&service=git-receive-pack",
        "/a/info/refs?%73ervice=git-receive-pack",
    ] {
        for policy in [&closed, &open] {
            assert_eq!(reason(policy, &format!("https://api.example.org{push}")), Reason::GitPush, "{push}");
        }
    }
    for fetch in ["/a.git/git-upload-pack", "/a.git/info/refs?service=git-upload-pack"] {
        let url = format!("https://api.example.org{fetch}");
        assert_eq!(reason(&closed, &url), Reason::GitFetch, "{fetch}");
        assert_eq!(reason(&open, &url), Reason::Allowed, "{fetch}");
    }
}

#[test]
fn a_credential_never_travels_unencrypted() {
    let auth = serde_json::json!({"auth": {"scheme": "Bearer", "token_ref": "TOKEN"}});
    let policy = policy(vec![route(auth)]);
    assert_eq!(reason(&policy, "http://api.example.org@80/"), Reason::CleartextCredential);
    assert_eq!(reason(&policy, "https://api.example.org/"), Reason::Allowed);
}

#[test]
fn a_regular_expression_cannot_break_out_of_its_anchors() {
    for bad in ["a)|(b", "(", "a{1000000000}"] {
        assert!(matching::AnchoredRegex::new(bad).is_err(), "{bad}");
    }
    let policy = policy(vec![route(serde_json::json!({"matches": [
        {"paths": [{"type": "regex", "value": "(?x) /a # comment"}]},
        {"paths": [{"type": "regex", "value": "(?m)^/b$"}]},
    ]}))]);
    assert_eq!(reason(&policy, "https://api.example.org/a"), Reason::Allowed);
    assert_eq!(reason(&policy, "https://api.example.org/ab"), Reason::NoMatch);
    assert_eq!(reason(&policy, "https://api.example.org/b"), Reason::Allowed);
}

#[test]
fn a_forbidden_host_is_opened_by_no_route() {
    let closed = Policy {
        routes: vec![
            route(serde_json::json!({"host": "*.example.org"})),
            route(serde_json::json!({"host": "login.example.org"})),
        ],
        forbidden_hosts: ["login.example.org".parse().expect("a pattern")].into(),
    };
    assert_eq!(reason(&closed, "https://login.example.org/oauth/token"), Reason::HostForbidden);
    assert_eq!(reason(&closed, "https://LOGIN.example.org./oauth/token"), Reason::HostForbidden);
    assert_eq!(reason(&closed, "https://api.example.org/"), Reason::Allowed);
}
