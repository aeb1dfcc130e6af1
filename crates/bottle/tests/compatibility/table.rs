//! The clients, how each is run, and what is expected of it.

/// A program or library that makes one request when it is asked to.
pub(crate) struct Client {
    pub(crate) name: &'static str,
    pub(crate) needs: &'static [Need],
    /// What is run, below the folder of the test's clients; the workspace of the bottle.
    pub(crate) folder: Option<&'static str>,
    /// A file of the bottle: its name and its text.
    pub(crate) file: Option<(&'static str, &'static str)>,
    /// Commands of bash, run once.
    pub(crate) prepare: &'static str,
    /// Commands of bash that make one request: `$1` is the version of HTTP, `$2` the URL, `$3` a file that is
    /// sent, if there is one.
    pub(crate) request: &'static str,
    pub(crate) versions: &'static [Version],
    /// Whether it prints `HTTP/…`. One that does not speaks nothing else, or was told to.
    pub(crate) prints_version: bool,
    pub(crate) trust: Trust,
    /// How a refusal is read, for the page.
    pub(crate) refusal: &'static str,
}

/// What a host must have.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    /// A program in a folder that bottles see.
    Program(&'static str),
    /// A command that succeeds, such as one that loads a module.
    Command(&'static [&'static str]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}
use Version::{Http1, Http2};

/// What alone makes a client trust the bottle's CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The system's bundle, also with an empty environment.
    System,
    /// This variable, which the client needs.
    Variable(&'static str),
}
use Trust::{System, Variable};

const BODY: &str = "the JSON is the response's body";

macro_rules! file {
    ($name:literal) => {
        Some(($name, include_str!(concat!("clients/", $name))))
    };
}

const PLAIN: Client = Client {
    name: "",
    needs: &[],
    folder: None,
    file: None,
    prepare: "",
    request: "",
    versions: &[Http1],
    prints_version: true,
    trust: System,
    refusal: BODY,
};

pub(crate) const CLIENTS: &[Client] = &[
    Client {
        name: "curl",
        needs: &[Need::Program("curl")],
        request: r#"curl -sS --http$1 -w '\nHTTP/%{http_version}\n' ${3:+--data-binary "@$3"} "$2""#,
        versions: &[Http1, Http2],
        ..PLAIN
    },
    Client {
        name: "wget",
        needs: &[Need::Program("wget")],
        request: r#"wget -qO- --content-on-error ${3:+--post-file="$3"} "$2""#,
        prints_version: false,
        refusal: "with `--content-on-error` the JSON is printed",
        ..PLAIN
    },
    Client {
        name: "node: fetch",
        needs: &[Need::Program("node")],
        file: file!("fetch.mjs"),
        request: r#"node fetch.mjs "$@""#,
        prints_version: false,
        trust: Variable("NODE_EXTRA_CA_CERTS"),
        ..PLAIN
    },
    Client {
        name: "node: https, http2",
        needs: &[Need::Program("node")],
        file: file!("modules.mjs"),
        request: r#"node modules.mjs "$@""#,
        versions: &[Http1, Http2],
        trust: Variable("NODE_EXTRA_CA_CERTS"),
        ..PLAIN
    },
    Client {
        name: "node: undici",
        needs: &[Need::Program("node")],
        folder: Some("node"),
        file: file!("undici.mjs"),
        request: r#"node undici.mjs "$@""#,
        versions: &[Http1, Http2],
        trust: Variable("NODE_EXTRA_CA_CERTS"),
        ..PLAIN
    },
    Client {
        name: "node: axios",
        needs: &[Need::Program("node")],
        folder: Some("node"),
        file: file!("axios.mjs"),
        request: r#"node axios.mjs "$@""#,
        trust: Variable("NODE_EXTRA_CA_CERTS"),
        refusal: "`error.response.data` is the JSON, decoded",
        ..PLAIN
    },
    Client {
        name: "deno: fetch",
        folder: Some("deno"),
        file: file!("fetch.mjs"),
        request: r#"./deno run --quiet --allow-all fetch.mjs "$@""#,
        versions: &[Http1, Http2],
        prints_version: false,
        trust: Variable("DENO_CERT"),
        ..PLAIN
    },
    Client {
        name: "bun: fetch",
        folder: Some("bun"),
        file: file!("fetch.mjs"),
        request: r#"./bun fetch.mjs "$@""#,
        prints_version: false,
        trust: Variable("NODE_EXTRA_CA_CERTS"),
        ..PLAIN
    },
    Client {
        name: "python: urllib",
        needs: &[Need::Program("python3")],
        file: file!("with_urllib.py"),
        request: r#"python3 with_urllib.py "$@""#,
        prints_version: false,
        refusal: "the `HTTPError` is a response whose body is the JSON",
        ..PLAIN
    },
    Client {
        name: "python: urllib3",
        needs: &[Need::Program("python3")],
        folder: Some("python"),
        file: file!("with_urllib3.py"),
        request: r#"python3 with_urllib3.py "$@""#,
        ..PLAIN
    },
    Client {
        name: "python: requests",
        needs: &[Need::Program("python3")],
        folder: Some("python"),
        file: file!("with_requests.py"),
        request: r#"python3 with_requests.py "$@""#,
        trust: Variable("REQUESTS_CA_BUNDLE"),
        ..PLAIN
    },
    Client {
        name: "python: httpx",
        needs: &[Need::Program("python3")],
        folder: Some("python"),
        file: file!("with_httpx.py"),
        request: r#"python3 with_httpx.py "$@""#,
        versions: &[Http1, Http2],
        trust: Variable("SSL_CERT_FILE"),
        ..PLAIN
    },
    Client {
        name: "python: aiohttp",
        needs: &[Need::Program("python3")],
        folder: Some("python"),
        file: file!("with_aiohttp.py"),
        request: r#"python3 with_aiohttp.py "$@""#,
        ..PLAIN
    },
    Client {
        name: "java: HttpClient",
        needs: &[Need::Program("java"), Need::Program("javac")],
        file: file!("Client.java"),
        prepare: "javac Client.java",
        request: r#"java -cp . Client "$@""#,
        versions: &[Http1, Http2],
        trust: Variable("JAVA_TOOL_OPTIONS"),
        ..PLAIN
    },
    Client {
        name: "java: HttpURLConnection",
        needs: &[Need::Program("java"), Need::Program("javac")],
        file: file!("Client.java"),
        prepare: "javac Client.java",
        request: r#"OLD=1 java -cp . Client "$@""#,
        prints_version: false,
        trust: Variable("JAVA_TOOL_OPTIONS"),
        refusal: "`getErrorStream()` is the JSON",
        ..PLAIN
    },
    Client {
        name: "go: net/http",
        needs: &[Need::Program("go")],
        file: file!("client.go"),
        prepare: "go build -o client client.go",
        request: r#"case $1 in 1.1) export GODEBUG=http2client=0;; esac; ./client "$@""#,
        versions: &[Http1, Http2],
        ..PLAIN
    },
    Client {
        name: "ruby: Net::HTTP",
        needs: &[Need::Program("ruby")],
        file: file!("client.rb"),
        request: r#"ruby client.rb "$@""#,
        ..PLAIN
    },
    Client {
        name: "php -d extension=curl",
        needs: &[Need::Command(&[
            "php",
            "-n",
            "-d",
            "extension=curl",
            "-r",
            "exit(extension_loaded('curl') ? 0 : 1);",
        ])],
        file: file!("curl.php"),
        // A bottle has no `/etc/php`, whose files may hold passwords.
        request: r#"php -d extension=curl curl.php "$@""#,
        versions: &[Http1, Http2],
        ..PLAIN
    },
    Client {
        name: "php: streams",
        needs: &[Need::Program("php")],
        file: file!("streams.php"),
        request: r#"php streams.php "$@""#,
        prints_version: false,
        refusal: "with `ignore_errors` the JSON is the body",
        ..PLAIN
    },
    Client {
        name: "perl: LWP",
        needs: &[Need::Command(&["/usr/bin/perl", "-MLWP::Protocol::https", "-e", "1"])],
        file: file!("lwp.pl"),
        request: r#"perl lwp.pl "$@""#,
        ..PLAIN
    },
    Client {
        name: "perl: HTTP::Tiny",
        needs: &[Need::Command(&["/usr/bin/perl", "-MHTTP::Tiny", "-MIO::Socket::SSL", "-e", "1"])],
        file: file!("tiny.pl"),
        request: r#"perl tiny.pl "$@""#,
        ..PLAIN
    },
];

/// A program that fetches from a registry of its own kind.
pub(crate) struct Manager {
    pub(crate) name: &'static str,
    pub(crate) needs: &'static [Need],
    pub(crate) folder: Option<&'static str>,
    pub(crate) registry: Registry,
    /// What it does, for the page.
    pub(crate) does: &'static str,
    /// Commands of bash that print the content that the registry has.
    pub(crate) fetch: &'static str,
    /// Commands of bash that are refused, and what they print then.
    pub(crate) refused: &'static str,
    pub(crate) shown: &'static str,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Registry {
    Npm,
    PythonIndex,
    Git,
    Cargo,
    Apt,
    Grpc,
}

pub(crate) const MANAGERS: &[Manager] = &[
    Manager {
        name: "git",
        needs: &[Need::Program("git")],
        folder: None,
        registry: Registry::Git,
        does: "clones over smart HTTP",
        fetch: "git clone -q https://open.test/repository.git && cat repository/content.txt",
        refused: "git clone -q https://limited.test/repository.git other",
        shown: "remote: bot-bottle refused this, git_fetch",
    },
    Manager {
        name: "npm",
        needs: &[Need::Program("npm")],
        folder: None,
        registry: Registry::Npm,
        does: "installs a scoped package",
        fetch: "npm install --registry https://open.test @scope/package && cat node_modules/@scope/package/content.txt",
        refused: "npm install --registry https://limited.test @scope/other",
        shown: "403 Refused by bot-bottle: no_match",
    },
    Manager {
        name: "pip",
        needs: &[Need::Command(&["/usr/bin/python3", "-m", "pip", "--version"])],
        folder: None,
        registry: Registry::PythonIndex,
        does: "installs a wheel from a simple index",
        fetch: "python3 -m pip install --target t --index-url https://open.test/simple honest && python3 t/honest.py",
        refused: "python3 -m pip install --target other --index-url https://limited.test/simple honest",
        shown: "No matching distribution found",
    },
    Manager {
        name: "uv",
        needs: &[],
        folder: Some("python"),
        registry: Registry::PythonIndex,
        does: "installs a wheel from a simple index",
        fetch: "bin/uv pip install --python /usr/bin/python3 --target t --index-url https://open.test/simple honest && python3 t/honest.py",
        refused: "bin/uv pip install --python /usr/bin/python3 --target other --index-url https://limited.test/simple honest",
        shown: "403 Forbidden",
    },
    Manager {
        name: "cargo",
        needs: &[],
        folder: Some("cargo"),
        registry: Registry::Cargo,
        does: "vendors a crate from a sparse index",
        fetch: CARGO_FETCH,
        refused: "rm -rf Cargo.lock ch; sed s/open.test/limited.test/ config.toml > limited.toml && CARGO_HOME=$PWD/ch ./cargo --config limited.toml vendor --respect-source-config",
        shown: "\"reason\":\"no_match\"",
    },
    Manager {
        name: "apt-get",
        needs: &[Need::Program("apt-get")],
        folder: None,
        registry: Registry::Apt,
        does: "reads a flat repository",
        fetch: APT_FETCH,
        refused: "sed s/open.test/limited.test/ sources.list > limited.list; APT_CONFIG= apt-get -o Dir::Etc::sourcelist=$PWD/limited.list -c apt.conf -o Acquire::https::CAInfo=$SSL_CERT_FILE update",
        shown: "403  Refused by bot-bottle: no_match",
    },
    Manager {
        name: "grpcio",
        needs: &[],
        folder: Some("python"),
        registry: Registry::Grpc,
        does: "calls a method that streams",
        fetch: GRPC_FETCH,
        refused: "python3 call.py limited.test",
        shown: "PERMISSION_DENIED bot-bottle refused this, no_match",
    },
];

const CARGO_FETCH: &str = "\
mkdir src; echo > src/lib.rs
printf '[package]\\nname=\"x\"\\nversion=\"0.1.0\"\\nedition=\"2021\"\\n[dependencies]\\nhonest=\"1\"\\n' > Cargo.toml
printf '[source.crates-io]\\nreplace-with=\"test\"\\n[source.test]\\nregistry=\"sparse+https://open.test/\"\\n' > config.toml
./cargo --config config.toml vendor --respect-source-config && cat vendor/honest/src/lib.rs";

const APT_FETCH: &str = "\
mkdir -p apt/lists/partial apt/archives/partial; touch apt/status
printf 'deb [trusted=yes] https://open.test/flat ./\\n' > sources.list
printf 'Dir::State \"%s/apt\";\\nDir::State::status \"%s/apt/status\";\\nDir::Cache \"%s/apt\";\\nDir::Etc::sourceparts \"-\";\\nDebug::NoLocking 1;\\n' \"$PWD\" \"$PWD\" \"$PWD\" > apt.conf
apt-get -c apt.conf -o Dir::Etc::sourcelist=$PWD/sources.list update && apt-cache -c apt.conf -o Dir::Etc::sourcelist=$PWD/sources.list show honest";

const GRPC_FETCH: &str = "\
cat > call.py <<'END'
import sys, grpc
channel = grpc.secure_channel(sys.argv[1] + ':443', grpc.ssl_channel_credentials())
call = channel.unary_stream('/closed.Service/Method')(b'')
try:
    list(call)
    print(dict(call.trailing_metadata() or ()))
except grpc.RpcError as error:
    print(error.code().name, error.details())
    sys.exit(1)
END
python3 call.py open.test";
