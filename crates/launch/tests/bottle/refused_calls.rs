//! System calls that a bottle refuses, and the error of each.

use std::path::Path;

use anyhow::ensure;
use libtest_mimic::Trial;

use crate::fixture::{Fixture, User, trial};

pub(crate) fn trials(user: User) -> Vec<Trial> {
    vec![trial(user, "calls_into_the_kernel_are_refused", refused)]
}

/// Tries calls by number and prints the error of each.
pub(crate) const SCRIPT: &str = r#"
import ctypes, errno, socket, fcntl, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    print(name, "went through" if result >= 0 else errno.errorcode.get(ctypes.get_errno(), "?"))
NEWUSER, NEWNS, NEWNET = 0x10000000, 0x00020000, 0x40000000
x86 = os.uname().machine == "x86_64"
call("mount", 165 if x86 else 40, b"none", b"/tmp", b"tmpfs", 0, 0)
call("unshare-user", 272 if x86 else 97, NEWUSER)
call("setns", 308 if x86 else 268, 0, 0)
call("clone-user", 56 if x86 else 220, NEWUSER | 17, 0, 0, 0, 0)
call("clone-net", 56 if x86 else 220, NEWNET | 17, 0, 0, 0, 0)
call("clone3", 435, 0, 0)
call("ptrace", 101 if x86 else 117, 16, 1, 0, 0)
call("process_vm_readv", 310 if x86 else 270, 1, 0, 0, 0, 0, 0)
call("keyctl", 250 if x86 else 219, 0, -3, 0)
call("bpf", 321 if x86 else 280, 0, 0, 0)
call("perf_event_open", 298 if x86 else 241, 0, 0, -1, -1, 0)
call("userfaultfd", 323 if x86 else 282, 0)
call("io_uring_setup", 425, 1, 0)
call("open_by_handle_at", 304 if x86 else 265, 0, 0, 0)
call("kexec_load", 246 if x86 else 104, 0, 0, 0, 0)
call("open_tree", 428, -100, b"/", 1)
call("fsopen", 430, b"tmpfs", 0)
call("mount_setattr", 442, -100, b"/", 0, 0, 0)
call("chroot", 161 if x86 else 51, b"/tmp")
call("sethostname", 170 if x86 else 161, b"x", 1)
call("memfd_secret", 447, 0)
call("prlimit-first", 302 if x86 else 261, 1, 7, 0, 0)
call("setscheduler-first", 144 if x86 else 119, 1, 0, b"\0" * 8)
call("setpriority-first", 141 if x86 else 140, 0, 1, 0)
call("setpriority-user", 141 if x86 else 140, 2, 0, 0)
call("prlimit-own", 302 if x86 else 261, 0, 7, 0, 0)
call("personality", 135 if x86 else 92, 0x0400000)
for name, family, kind, protocol in [
    ("vsock", 40, socket.SOCK_STREAM, 0), ("packet", 17, socket.SOCK_RAW, 0), ("alg", 38, socket.SOCK_SEQPACKET, 0),
    ("icmp", socket.AF_INET, socket.SOCK_RAW, 1), ("ping", socket.AF_INET, socket.SOCK_DGRAM, 1),
    ("icmp6", socket.AF_INET6, socket.SOCK_RAW, 58), ("netfilter", 16, socket.SOCK_RAW, 12),
]:
    try:
        socket.socket(family, kind, protocol); print(name, "went through")
    except OSError as error:
        print(name, errno.errorcode[error.errno])
for name, family, address in [
    ("tcp4", socket.AF_INET, ("192.0.2.1", 80)), ("tcp6", socket.AF_INET6, ("2001:db8::1", 80)),
]:
    try:
        tried = socket.socket(family); tried.connect(address); tried.shutdown(1)
        print(name, "went through" if tried.recv(1) else "captured")
    except OSError as error:
        print(name, errno.errorcode[error.errno])
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)); print("udp4 went through")
except OSError as error:
    print("udp4", errno.errorcode[error.errno])
try:
    fcntl.ioctl(0, 0x5412, b"x"); print("tiocsti went through")
except OSError as error:
    print("tiocsti", errno.errorcode[error.errno])
"#;

/// Its output where the bottle is confined.
pub(crate) const EXPECTED: &str = "mount EPERM\nunshare-user EPERM\nsetns EPERM\nclone-user EPERM\nclone-net EPERM\n\
    clone3 ENOSYS\nptrace EPERM\nprocess_vm_readv EPERM\nkeyctl EPERM\nbpf EPERM\nperf_event_open EPERM\n\
    userfaultfd EPERM\nio_uring_setup EPERM\nopen_by_handle_at EPERM\nkexec_load EPERM\nopen_tree EPERM\n\
    fsopen EPERM\nmount_setattr EPERM\nchroot EPERM\nsethostname EPERM\nmemfd_secret EPERM\n\
    prlimit-first EPERM\nsetscheduler-first EPERM\nsetpriority-first EPERM\nsetpriority-user EPERM\n\
    prlimit-own went through\npersonality EPERM\nvsock EAFNOSUPPORT\n\
    packet EAFNOSUPPORT\nalg EAFNOSUPPORT\nicmp EPERM\nping EPROTONOSUPPORT\nicmp6 EPERM\n\
    netfilter EPROTONOSUPPORT\ntcp4 captured\ntcp6 ENETUNREACH\nudp4 EPERM\ntiocsti EPERM\n";

pub(crate) fn has_python() -> anyhow::Result<bool> {
    let has = Path::new("/usr/bin/python3").exists();
    if !has {
        crate::fixture::skip("python3", "the calls into the kernel: no /usr/bin/python3")?;
    }
    Ok(has)
}

fn refused(user: User) -> anyhow::Result<()> {
    if has_python()? {
        let text = Fixture::new(user, &["/usr/bin/python3", "-c", SCRIPT]).success()?;
        ensure!(text == EXPECTED, "{text}");
    }
    Ok(())
}
