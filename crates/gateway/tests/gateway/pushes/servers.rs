//! Real servers of git, each with one bare repository, `me/app.git`, that anybody may push to.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

/// A running server.
pub(super) struct GitServer {
    pub(super) address: SocketAddr,
    /// The path of the repository in URLs.
    pub(super) path: &'static str,
    folder: tempfile::TempDir,
    processes: Vec<Child>,
}

impl Drop for GitServer {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Each is the leader of a group of its own, with its workers.
            if let Some(group) = Pid::from_raw(process.id().cast_signed()) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = process.wait();
        }
    }
}

/// What is known about one kind of server.
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// The path of the repository in URLs.
    path: &'static str,
    /// Whether it speaks git's protocol. A client that is not answered in it reads files and writes over WebDAV.
    pub(super) knows_git: bool,
    /// What has to be installed: these files.
    needs: &'static [&'static str],
    start: fn(&Site) -> Vec<Command>,
}

/// Where a server runs.
struct Site {
    folder: PathBuf,
    repositories: PathBuf,
    port: u16,
}

const HTTP_BACKEND: &str = "/usr/lib/git-core/git-http-backend";

/// git's own CGI behind nginx.
pub(super) const NGINX: Kind = Kind {
    name: "nginx",
    path: "/me/app.git",
    knows_git: true,
    needs: &["/usr/sbin/nginx", "/usr/sbin/fcgiwrap", HTTP_BACKEND],
    start: nginx,
};

/// git's own CGI behind Apache.
pub(super) const APACHE: Kind = Kind {
    name: "apache",
    path: "/git/me/app.git",
    knows_git: true,
    needs: &["/usr/sbin/apache2", HTTP_BACKEND],
    start: apache,
};

/// Apache as a server that knows no git, only WebDAV.
pub(super) const WEBDAV: Kind = Kind {
    name: "webdav",
    path: "/dav/me/app.git",
    knows_git: false,
    needs: &["/usr/sbin/apache2", "/usr/lib/apache2/modules/mod_dav_fs.so"],
    start: apache,
};

/// JGit's servlet on Jetty.
pub(super) const JETTY: Kind = Kind {
    name: "jgit",
    path: "/me/app.git",
    knows_git: true,
    needs: &[
        "/usr/bin/javac",
        "/usr/share/java/org.eclipse.jgit.http.server.jar",
        "/usr/share/java/jetty9-servlet.jar",
        "/usr/share/java/servlet-api.jar",
    ],
    start: jetty,
};

/// Dulwich, in Python.
pub(super) const DULWICH: Kind = Kind {
    name: "dulwich",
    path: "/me/app.git",
    knows_git: true,
    needs: &["/usr/bin/python3", "/usr/lib/python3/dist-packages/dulwich/web.py"],
    start: dulwich,
};

impl Kind {
    /// What of the server is not installed.
    pub(super) fn missing(&self) -> Option<String> {
        let missing = self.needs.iter().find(|file| !Path::new(file).exists())?;
        Some(format!("this host has no {missing}"))
    }

    pub(super) fn start(&self) -> GitServer {
        let folder = tempfile::tempdir().expect("a folder");
        // Apache's workers are another user where the test is root.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("opened");
        let repositories = folder.path().join("repositories");
        make_repository(&repositories.join("me/app.git"));
        let port = free_port();
        let site = Site { folder: folder.path().to_owned(), repositories, port };
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let start = |mut command: Command| {
            let command = command.stdin(Stdio::null()).process_group(0);
            let log = || log.try_clone().expect("a log");
            command.stdout(log()).stderr(log()).spawn().expect("started")
        };
        let processes = (self.start)(&site).into_iter().map(start).collect();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let server = GitServer { address, path: self.path, folder, processes };
        for _ in 0..600 {
            if TcpStream::connect(address).is_ok() {
                return server;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{} does not listen: {}", self.name, server.log());
    }
}

impl GitServer {
    /// The commit of a branch in the server's repository.
    pub(super) fn branch(&self, name: &str) -> Option<String> {
        let repository = self.folder.path().join("repositories/me/app.git");
        let revision = Command::new("git")
            .env("GIT_CONFIG_GLOBAL", self.folder.path().join("gitconfig"))
            .args(["-c", "safe.directory=*", "--git-dir"])
            .arg(repository)
            .args(["rev-parse", "--quiet", "--verify", &format!("refs/heads/{name}")])
            .output()
            .expect("git");
        revision.status.success().then(|| String::from_utf8_lossy(&revision.stdout).trim().to_owned())
    }

    /// What the server said.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// A bare repository with one commit, for whoever comes.
fn make_repository(path: &Path) {
    fs::create_dir_all(path).expect("a folder");
    let script = r#"
        cd "$0"; git init --quiet --bare --initial-branch=main .
        git config http.receivepack true; git config http.uploadpack true
        tree=$(git mktree </dev/null)
        git update-ref refs/heads/main "$(git -c user.name=a -c user.email=a commit-tree -m first "$tree")"
        git update-server-info; chmod -R a+rwX ..
    "#;
    let made = Command::new("bash").args(["-euc", script]).arg(path).status().expect("bash");
    assert!(made.success());
}

/// One that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn nginx(site: &Site) -> Vec<Command> {
    let (folder, repositories) = (site.folder.display(), site.repositories.display());
    let port = site.port;
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let configuration = format!(
        "{user} daemon off; pid {folder}/pid; error_log stderr; events {{}}
         http {{
            access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
            merge_slashes on;
            server {{
                listen 127.0.0.1:{port};
                location / {{
                    fastcgi_pass unix:{folder}/cgi;
                    fastcgi_param SCRIPT_FILENAME {HTTP_BACKEND};
                    fastcgi_param GIT_PROJECT_ROOT {repositories};
                    fastcgi_param GIT_HTTP_EXPORT_ALL 1;
                    fastcgi_param PATH_INFO $uri;
                    fastcgi_param QUERY_STRING $query_string;
                    fastcgi_param REQUEST_METHOD $request_method;
                    fastcgi_param CONTENT_TYPE $content_type;
                    fastcgi_param CONTENT_LENGTH $content_length;
                    fastcgi_param REMOTE_USER someone;
                }}
            }}
         }}"
    );
    let file = site.folder.join("nginx.conf");
    fs::write(&file, configuration).expect("written");
    let mut cgi = Command::new("/usr/sbin/fcgiwrap");
    cgi.arg("-s").arg(format!("unix:{folder}/cgi"));
    let mut server = Command::new("/usr/sbin/nginx");
    server.arg("-c").arg(file).arg("-p").arg(&site.folder);
    vec![cgi, server]
}

fn apache(site: &Site) -> Vec<Command> {
    let (folder, repositories) = (site.folder.display(), site.repositories.display());
    let port = site.port;
    let user = if rustix::process::geteuid().is_root() { "User nobody\nGroup nogroup" } else { "" };
    let modules = [
        ("mpm_event", "mpm_event"),
        ("authz_core", "authz_core"),
        ("alias", "alias"),
        ("env", "env"),
        ("cgid", "cgid"),
        ("dav", "dav"),
        ("dav_fs", "dav_fs"),
        ("setenvif", "setenvif"),
    ];
    let modules: String = modules
        .iter()
        .map(|(name, file)| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{file}.so\n"))
        .collect();
    let locks = site.folder.join("locks");
    fs::create_dir(&locks).expect("a folder");
    fs::set_permissions(&locks, fs::Permissions::from_mode(0o777)).expect("opened");
    let configuration = format!(
        "{modules}{user}
ServerRoot {folder}
ServerName git.test
Listen 127.0.0.1:{port}
PidFile {folder}/pid
ErrorLog /dev/stderr
Mutex file:{folder}
ScriptSock {folder}/cgid
DavLockDB {folder}/locks/db
AllowEncodedSlashes On
SetEnv GIT_PROJECT_ROOT {repositories}
SetEnv GIT_HTTP_EXPORT_ALL 1
SetEnv GIT_CONFIG_COUNT 1
SetEnv GIT_CONFIG_KEY_0 safe.directory
SetEnv GIT_CONFIG_VALUE_0 *
ScriptAlias /git {HTTP_BACKEND}
Alias /dav {repositories}
<Directory />
    Require all granted
</Directory>
<Location /dav>
    Dav On
</Location>
"
    );
    let file = site.folder.join("apache.conf");
    fs::write(&file, configuration).expect("written");
    let mut server = Command::new("/usr/sbin/apache2");
    server.arg("-f").arg(file).arg("-DFOREGROUND");
    vec![server]
}

fn jetty(site: &Site) -> Vec<Command> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/pushes/GitServer.java");
    let names = [
        "jetty9-server",
        "jetty9-servlet",
        "jetty9-http",
        "jetty9-io",
        "jetty9-util",
        "jetty9-util-ajax",
        "jetty9-security",
        "servlet-api",
        "org.eclipse.jgit",
        "org.eclipse.jgit.http.server",
        "slf4j-api",
        "slf4j-nop",
    ];
    let class_path: Vec<_> = names.iter().map(|name| format!("/usr/share/java/{name}.jar")).collect();
    let mut server = Command::new("/usr/bin/java");
    server.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", &class_path.join(":")]).arg(source);
    server.arg(&site.repositories).arg(site.port.to_string()).env("HOME", &site.folder);
    vec![server]
}

fn dulwich(site: &Site) -> Vec<Command> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/pushes/git_server.py");
    let mut server = Command::new("/usr/bin/python3");
    server.arg(script).arg(&site.repositories).arg(site.port.to_string());
    vec![server]
}
