use std::os::unix::fs::symlink;

use super::*;

fn cleaned(text: &[u8]) -> (Option<String>, Vec<String>) {
    let mut filter = GitCredentials::default();
    let path = Path::new("x/.git/config");
    let kept = filter.clean(path, Treatment::Config, text).expect("read");
    let kept = kept.map(|kept| String::from_utf8(kept).expect("text"));
    (kept, filter.removed.remove(path).unwrap_or_default())
}

#[test]
fn only_the_credential_goes() {
    let text = b"[core]\n\tbare = false\n\tSSHCommand = ssh -i FAKE\n# FAKE\n[REMOTE \"o\"]\n\tURL = ht\"tps://me:FA\"KE@h/x\n\
        [http \"https://FAKE@h/\"] ExtraHeader = a \\\n FAKE\n[http.h]\n\tproxy = u:FAKE@p:1\n[credential]\n\thelper\n\
        [url \"https://x:FAKE@h/\"]\n\tinsteadOf = gh:\n[alias]\n\tf = !curl -H 'authorization: FAKE'\n[hub]\n\toauthToken = FAKE\n";
    let (kept, removed) = cleaned(text);
    let kept = kept.expect("kept");
    assert_eq!(
        kept,
        "[core]\n\tbare = \"false\"\n[remote \"o\"]\n\turl = \"https://h/x\"\n[http.h]\n\tproxy = \"p:1\"\n\
         [url \"https://h/\"]\n\tinsteadof = \"gh:\"\n"
    );
    assert_eq!(
        removed,
        [
            "core.sshcommand",
            "user info of remote.o.url",
            "http.https://h/.extraheader",
            "user info of http.h.proxy",
            "credential.helper",
            "user info in the section of url.https://h/.insteadof",
            "alias.f",
            "hub.oauthtoken",
            "comments"
        ]
    );
    let clean = "[core]\n  bare = false\n[remote \"o\"]\n\turl=git@h:x\n";
    assert_eq!(cleaned(clean.as_bytes()), (Some(clean.to_owned()), vec![]));
    for unreadable in [&b"[core\nFAKE"[..], b"[a]\nk = v\0FAKE", b"[a]\nk = \"FAKE"] {
        let (kept, removed) = cleaned(unreadable);
        assert!(kept.is_none() && removed[0].contains("cannot be read") && !removed[0].contains("FAKE"));
    }
}

#[test]
fn every_place_that_git_reads_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    let url = "[remote \"o\"]\n\turl = https://FAKE@h/x\n";
    write(".git/config", &format!("{url}[include]\n\tpath = ../settings/one\n[http]\n\tcookieFile = jar\n"));
    write(
        "settings/one",
        "[includeIf \"gitdir:/x/\"]\n\tpath = two\n[credential]\n\thelper = store --file=../creds\n",
    );
    // Files that include each other, and themselves.
    write(
        "settings/two",
        &format!("{url}[include]\n\tpath = ../settings/one\n\tpath = ../settings/../settings/two\n"),
    );
    write("linked", url);
    for file in ["creds", "jar", "deep/.netrc", "deep/_netrc", "deep/.git-credentials"] {
        write(file, "FAKE");
    }
    write(".git/config.worktree", url);
    write(".git/modules/a/b/config", url);
    write(".git/modules/a/b/HEAD", "ref: refs/heads/main\n");
    write(".git/logs/HEAD", "0 1 n <a@b> 1 +0000\tpull https://me:FAKE@h/x: ff\n");
    write(".git/FETCH_HEAD", "0\t\tbranch 'x' of https://me:FAKE@h/x\n");
    write(".git/refs/heads/config", "0123\n");
    write("bare/HEAD", "ref: refs/heads/main\n");
    write("bare/objects/x", "https://not@looked/at");
    write("bare/config", url);
    write("nested/.git/HEAD", "ref: refs/heads/main\n");
    write("config", url);
    symlink("../../linked", root.join("nested/.git/config")).expect("a link");

    let found = GitCredentials::find(root);
    let paths: Vec<&str> = found.removed.keys().filter_map(|path| path.to_str()).collect();
    assert_eq!(
        paths,
        [
            ".git/FETCH_HEAD",
            ".git/config",
            ".git/config.worktree",
            ".git/logs/HEAD",
            ".git/modules/a/b/config",
            "bare/config",
            "creds",
            "deep/.git-credentials",
            "deep/.netrc",
            "deep/_netrc",
            "jar",
            "linked",
            "settings/one",
            "settings/two"
        ]
    );
    assert!(found.removed().iter().all(|line| !line.contains("FAKE")));
}
