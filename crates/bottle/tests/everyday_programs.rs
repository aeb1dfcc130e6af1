//! Everyday programs in a real native bottle: the seccomp filter allows all that they need.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};
use bot_bottle_testkit::{has_user_namespaces, require};

/// Runs a script of bash in a bottle and expects that every step of it succeeds and that it prints this.
fn works(programs: &[&str], script: &str, expected: &str) -> Result<()> {
    // Programs in a user's home (nvm, pyenv) are not in a bottle.
    let missing = programs.iter().find(|name| !Path::new("/usr/bin").join(name).is_file());
    if !require("userns", has_user_namespaces()) || !missing.is_none_or(|name| require(name, false)) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let home = folder.path().join(".bot-bottle");
    fs::create_dir_all(home.join("bottles"))?;
    fs::write(home.join("bottles/plain.md"), "---\nlimits: {}\n---\n")?;
    let output = Command::new(env!("CARGO_BIN_EXE_bot-bottle"))
        .args(["run", "--bottle", "plain", "--backend", "native", "--", "bash", "-euo", "pipefail", "-c"])
        .arg(format!("cd \"$(mktemp -d)\"\n{script}"))
        .env("HOME", folder.path())
        .env("BOT_BOTTLE_HOME", &home)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()?;
    let [printed, messages] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    ensure!(output.status.success(), "{}\n{printed}\n{messages}", output.status);
    ensure!(printed == expected, "{printed}\n{messages}");
    Ok(())
}

#[test]
fn a_shell_starts_jobs_and_sets_limits() -> Result<()> {
    let script = r#"
        for number in 1 2 3; do (true) & done; wait
        mkfifo pipe; echo fifo > pipe & cat pipe
        coproc cat; echo coproc >&"${COPROC[1]}"; read -r -u "${COPROC[0]}" line; echo "$line"
        ulimit -n 512; ulimit -c 0; nice -n 5 true
    "#;
    works(&["bash"], script, "fifo\ncoproc\n")
}

#[test]
fn git_commits_collects_and_clones() -> Result<()> {
    let script = r#"
        export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        git init -q one; cd one
        for number in 1 2; do seq "$number" 2000 > "$number"; git add .; git commit -q -m "$number"; done
        git gc -q; git clone -q "file://$PWD" ../two; cd ../two; git fsck --no-progress
        git log --oneline | wc -l
    "#;
    works(&["git"], script, "2\n")
}

#[test]
fn python_starts_processes_and_shares_memory() -> Result<()> {
    let script = r#"
        cat > work.py <<'END'
import asyncio, ctypes, multiprocessing, os, resource, socket, subprocess
from multiprocessing import shared_memory
def square(number):
    return number * number
async def echo():
    async def serve(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"line\n")
    assert await reader.readline() == b"line\n"
    writer.close()
if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with context.Semaphore(1), context.Pool(2) as pool:
            assert pool.map(square, range(5))[-1] == 16
    memory = shared_memory.SharedMemory(create=True, size=4096)
    memory.close()
    memory.unlink()
    asyncio.run(echo())
    assert ctypes.CDLL(None).getpid() == os.getpid()
    assert subprocess.check_output(["echo", "child"]) == b"child\n"
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (200, 200)
    os.write(os.memfd_create("file"), b"in memory")
    option = socket.socket()
    option.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    option.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    one, other = socket.socketpair()
    socket.send_fds(one, [b"x"], [1])
    socket.recv_fds(other, 1, 1)
    print("done")
END
        python3 work.py
    "#;
    works(&["python3"], script, "done\n")
}

#[test]
fn a_compiler_and_what_it_makes_run() -> Result<()> {
    let script = r#"
        cat > a.c <<'END'
#include <pthread.h>
#include <stdio.h>
static void *work(void *argument) { return argument; }
int main(void) { pthread_t t; pthread_create(&t, 0, work, 0); pthread_join(t, 0); puts("threads"); }
END
        printf 'a: a.c\n\t@gcc -pthread -o a a.c\n' > Makefile
        make -s -j2; ./a
    "#;
    works(&["gcc", "make"], script, "threads\n")
}

#[test]
fn node_has_workers_children_and_servers() -> Result<()> {
    let script = r#"
        cat > work.mjs <<'END'
import { Worker } from "worker_threads";
import { execFileSync } from "child_process";
import http from "http";
await new Promise((ended) => new Worker("", { eval: true }).on("exit", ended));
execFileSync("true");
const server = http.createServer((request, response) => response.end("served")).listen(0, "127.0.0.1");
await new Promise((listening) => server.on("listening", listening));
http.get({ port: server.address().port, host: "127.0.0.1", agent: false }, (response) =>
    response.on("data", (data) => { console.log(data.toString()); server.close(); }));
END
        node work.mjs
    "#;
    works(&["node"], script, "served\n")
}

#[test]
fn keys_are_made_though_core_dumps_cannot_be_limited() -> Result<()> {
    let script = r#"
        export GNUPGHOME=$PWD/keys; mkdir -m 700 keys
        gpg --batch --quiet --passphrase '' --quick-gen-key a@b.test ed25519 sign never
        echo text | gpg --batch --quiet --clearsign | gpg --batch --quiet --verify
        gpgconf --kill all
        echo made
    "#;
    works(&["gpg"], script, "made\n")
}

#[test]
fn archives_keep_what_files_have() -> Result<()> {
    let script = r#"
        mkdir -p tree/folder; seq 999 > tree/file; ln -s file tree/link; ln tree/file tree/hard; mkfifo tree/fifo
        tar -cf tree.tar tree; mkdir unpacked; tar -xf tree.tar -C unpacked
        cp -a --reflink=auto unpacked/tree copied; diff tree/file copied/file
        stat -c '%F %h' copied/file copied/link copied/fifo
    "#;
    works(&["tar"], script, "regular file 2\nsymbolic link 1\nfifo 1\n")
}

/// A terminal with its own session in the bottle, as editors and multiplexers make one.
#[test]
fn terminals_are_made_inside() -> Result<()> {
    works(&["script"], "script -qec 'stty size' /dev/null < /dev/null", "0 0\r\n")
}
