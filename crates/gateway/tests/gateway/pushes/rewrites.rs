//! The ways in which one request of git can be written so that some server still takes it for the same.

/// One of them.
pub(super) struct Rewrite {
    pub(super) name: &'static str,
    change: fn(&mut Request<'_>),
}

/// What a rewrite may change.
struct Request<'a> {
    method: &'a str,
    path: String,
    query: String,
    headers: &'a mut Vec<(String, String)>,
}

impl Rewrite {
    /// Rewrites a request that names a service of git, and returns its target.
    pub(super) fn request(&self, method: &str, target: &str, headers: &mut Vec<(String, String)>) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Request { method, path: path.to_owned(), query: query.to_owned(), headers };
        (self.change)(&mut request);
        let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
        request.path + &query
    }
}

impl Request<'_> {
    /// Changes the path where it ends in a service.
    fn service(&mut self, change: impl Fn(&str) -> String) {
        for name in ["git-receive-pack", "git-upload-pack"] {
            if let Some(before) = self.path.strip_suffix(name) {
                self.path = format!("{before}{}", change(name));
                return;
            }
        }
    }

    /// Changes the path everywhere.
    fn path(&mut self, from: &str, to: &str) {
        self.path = self.path.replace(from, to);
    }

    /// Changes the query where it names a service.
    fn query(&mut self, change: impl Fn(&str) -> String) {
        if let Some(name) = self.query.strip_prefix("service=") {
            self.query = change(name);
        }
    }
}

/// Every rewrite that a server, or a proxy in front of one, is known to see through.
pub(super) const REWRITES: &[Rewrite] = &[
    Rewrite { name: "as git sends it", change: |_| {} },
    Rewrite { name: "a parameter at the end", change: |request| request.path.push_str(";x") },
    Rewrite { name: "a parameter with a value", change: |request| request.path.push_str(";x=/y") },
    Rewrite { name: "a parameter inside", change: |request| request.path(".git/", ".git;x/") },
    Rewrite { name: "an empty parameter", change: |request| request.path.push(';') },
    Rewrite { name: "two slashes", change: |request| request.path(".git/", ".git//") },
    Rewrite { name: "slashes in front", change: |request| request.path.insert_str(0, "///") },
    Rewrite { name: "a slash behind", change: |request| request.path.push('/') },
    Rewrite { name: "a dot", change: |request| request.path(".git/", ".git/./") },
    Rewrite { name: "dots", change: |request| request.path("/app.git", "/x/../app.git") },
    Rewrite { name: "encoded dots", change: |request| request.path("/app.git", "/x/%2e%2E/app.git") },
    Rewrite { name: "dots after a parameter", change: |request| request.path("/app.git", "/x/..;y/app.git") },
    Rewrite { name: "an encoded letter", change: |request| request.path("pack", "p%61ck") },
    Rewrite { name: "an encoded hyphen", change: |request| request.path("git-", "git%2d") },
    Rewrite { name: "all letters encoded", change: |request| request.service(encoded) },
    Rewrite { name: "an encoded slash", change: |request| request.path(".git/", ".git%2f") },
    Rewrite { name: "encoded twice", change: |request| request.path("git-", "git%252d") },
    Rewrite { name: "a backslash", change: |request| request.path(".git/", ".git\\") },
    Rewrite { name: "an encoded backslash", change: |request| request.path(".git/", ".git%5c") },
    Rewrite { name: "an encoded blank", change: |request| request.path.push_str("%20") },
    Rewrite { name: "an encoded NUL", change: |request| request.path.push_str("%00") },
    Rewrite { name: "an encoded line feed", change: |request| request.path.push_str("%0a") },
    Rewrite {
        name: "an encoded question mark",
        change: |request| request.service(|name| format!("{name}%3fx")),
    },
    Rewrite { name: "upper case", change: |request| request.service(str::to_uppercase) },
    Rewrite { name: "an extension", change: |request| request.path.push_str(".x") },
    Rewrite { name: "a fragment", change: |request| request.path.push_str("#x") },
    Rewrite {
        name: "a query where there is none",
        change: |request| {
            if request.query.is_empty() {
                request.query.push('x');
            }
        },
    },
    Rewrite {
        name: "the service encoded",
        change: |request| request.query(|name| format!("service={}", encoded(name))),
    },
    Rewrite { name: "the key encoded", change: |request| request.query(|name| format!("%73ervice={name}")) },
    Rewrite {
        name: "another key first",
        change: |request| request.query(|name| format!("x=1&service={name}")),
    },
    Rewrite {
        name: "another key behind",
        change: |request| request.query(|name| format!("service={name}&x=1")),
    },
    Rewrite {
        name: "a semicolon between",
        change: |request| request.query(|name| format!("x=1;service={name}")),
    },
    Rewrite {
        name: "a harmless service first",
        change: |request| {
            request.query(|name| format!("service=git-upload-archive&service={name}"));
        },
    },
    Rewrite {
        name: "a harmless service behind",
        change: |request| {
            request.query(|name| format!("service={name}&service=git-upload-archive"));
        },
    },
    Rewrite { name: "an empty pair", change: |request| request.query(|name| format!("&&service={name}&")) },
    Rewrite {
        name: "a second question mark",
        change: |request| request.query(|name| format!("?&service={name}")),
    },
    Rewrite {
        name: "a plus behind the service",
        change: |request| request.query(|name| format!("service={name}+")),
    },
    Rewrite {
        name: "parameters of the content type",
        change: |request| {
            for (name, value) in request.headers.iter_mut() {
                if name == "content-type" {
                    value.push_str("; charset=utf-8");
                }
            }
        },
    },
    Rewrite {
        name: "another case of the content type",
        change: |request| {
            for (name, value) in request.headers.iter_mut() {
                if name == "content-type" {
                    *value = value.to_ascii_uppercase();
                }
            }
        },
    },
    Rewrite {
        name: "no content type",
        change: |request| {
            request.headers.retain(|(name, _)| name != "content-type");
        },
    },
    Rewrite {
        name: "the address asked for in a header",
        change: |request| {
            let target = format!("{}?{}", request.path, request.query);
            request.headers.push(("x-original-url".to_owned(), target));
        },
    },
    Rewrite {
        name: "the method asked for in a header",
        change: |request| {
            request.headers.push(("x-http-method-override".to_owned(), request.method.to_owned()));
        },
    },
];

fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02x}")).collect()
}
