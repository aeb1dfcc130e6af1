use super::*;

/// Obsolete, and so deprecated in the crate; the kernel still has it.
const SOCK_PACKET: c_int = 10;

/// Runs the filter as the kernel does.
fn run(program: &[sock_filter], arch: u32, number: u32, arguments: [u32; 6]) -> u32 {
    let mut accumulator = 0;
    let mut counter = 0;
    loop {
        let sock_filter { code, jt, jf, k } = program[counter];
        counter += 1;
        let jump = |condition: bool| usize::from(if condition { jt } else { jf });
        match code {
            LOAD => {
                accumulator = match k {
                    OFFSET_NUMBER => number,
                    OFFSET_ARCH => arch,
                    offset => arguments[(offset as usize - 16) / 8],
                }
            }
            AND => accumulator &= k,
            JUMP_EQUAL => counter += jump(accumulator == k),
            0x35 => counter += jump(accumulator >= k),
            JUMP_ANY_BIT => counter += jump(accumulator & k != 0),
            RETURN => return k,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

fn answer(number: c_long, arguments: &[c_int]) -> Answer {
    let confinement = Confinement { user: 1000, processes: None, file_size: None, processors: None };
    let mut all = [0; 6];
    for (slot, argument) in all.iter_mut().zip(arguments) {
        *slot = argument.cast_unsigned();
    }
    let value = run(&assemble(&confinement), AUDIT_ARCH, number_of(number), all);
    match value & 0xFFFF_0000 {
        libc::SECCOMP_RET_ALLOW => Answer::Allow,
        libc::SECCOMP_RET_ERRNO => Answer::Refuse((value & 0xFFFF) as c_int),
        libc::SECCOMP_RET_KILL_PROCESS => Answer::Kill,
        other => panic!("unknown answer {other:#x}"),
    }
}

#[test]
fn listed_calls_are_refused_and_others_are_not() {
    for number in REFUSED.iter().chain(REFUSED_HERE) {
        assert_eq!(answer(*number, &[]), Answer::Refuse(libc::EPERM), "{number}");
    }
    for number in [libc::SYS_read, libc::SYS_execve, libc::SYS_openat, libc::SYS_kill, libc::SYS_futex] {
        assert_eq!(answer(number, &[]), Answer::Allow, "{number}");
    }
    assert_eq!(answer(libc::SYS_clone3, &[]), Answer::Refuse(libc::ENOSYS));
}

#[test]
fn clone_makes_threads_and_processes_but_no_namespaces() {
    assert_eq!(answer(libc::SYS_clone, &[libc::SIGCHLD]), Answer::Allow);
    assert_eq!(answer(libc::SYS_clone, &[libc::CLONE_VM | libc::CLONE_THREAD]), Answer::Allow);
    for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNET, libc::CLONE_NEWPID, libc::CLONE_NEWNS] {
        assert_eq!(answer(libc::SYS_clone, &[flag | libc::SIGCHLD]), Answer::Refuse(libc::EPERM));
    }
}

#[test]
fn sockets_are_local_tcp_udp_or_route_netlink() {
    let socket = |family, kind, protocol| answer(libc::SYS_socket, &[family, kind, protocol]);
    let nonblocking = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    for allowed in [
        (libc::AF_UNIX, libc::SOCK_STREAM, 0),
        (libc::AF_UNIX, libc::SOCK_SEQPACKET, 0),
        (libc::AF_INET, nonblocking, 0),
        (libc::AF_INET6, nonblocking, libc::IPPROTO_TCP),
        (libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDP),
        (libc::AF_INET6, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0),
        (libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE),
    ] {
        assert_eq!(socket(allowed.0, allowed.1, allowed.2), Answer::Allow, "{allowed:?}");
    }
    for (refused, errno) in [
        ((libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP), libc::EPERM),
        ((libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_TCP), libc::EPERM),
        ((libc::AF_INET, SOCK_PACKET, 0), libc::EPERM),
        ((libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP), libc::EPROTONOSUPPORT),
        ((libc::AF_INET, libc::SOCK_STREAM, 262), libc::EPROTONOSUPPORT),
        ((libc::AF_INET, libc::SOCK_SEQPACKET, 132), libc::EPERM),
        ((libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER), libc::EPROTONOSUPPORT),
        ((libc::AF_VSOCK, libc::SOCK_STREAM, 0), libc::EAFNOSUPPORT),
        ((libc::AF_PACKET, libc::SOCK_RAW, 0), libc::EAFNOSUPPORT),
        ((libc::AF_ALG, libc::SOCK_SEQPACKET, 0), libc::EAFNOSUPPORT),
        ((libc::AF_XDP, libc::SOCK_RAW, 0), libc::EAFNOSUPPORT),
    ] {
        assert_eq!(socket(refused.0, refused.1, refused.2), Answer::Refuse(errno), "{refused:?}");
    }
    assert_eq!(answer(libc::SYS_socketpair, &[libc::AF_UNIX, libc::SOCK_STREAM]), Answer::Allow);
    assert_eq!(
        answer(libc::SYS_socketpair, &[libc::AF_TIPC, libc::SOCK_STREAM]),
        Answer::Refuse(libc::EAFNOSUPPORT)
    );
}

#[test]
fn the_terminal_is_not_typed_into() {
    for request in [libc::TIOCSTI, libc::TIOCLINUX] {
        assert_eq!(answer(libc::SYS_ioctl, &[0, request as c_int]), Answer::Refuse(libc::EPERM));
    }
    assert_eq!(answer(libc::SYS_ioctl, &[0, libc::TIOCGWINSZ as c_int]), Answer::Allow);
}

#[test]
fn personalities_are_the_usual_ones() {
    for (value, expected) in [
        (0, Answer::Allow),
        (0x0004_0000, Answer::Allow),
        (-1, Answer::Allow),
        (0x0040_0000, Answer::Refuse(libc::EPERM)),
        (8, Answer::Refuse(libc::EPERM)),
    ] {
        assert_eq!(answer(libc::SYS_personality, &[value]), expected, "{value:#x}");
    }
}

#[test]
fn foreign_architectures_and_x32_end_the_process() {
    let confinement = Confinement { user: 1000, processes: None, file_size: None, processors: None };
    let program = assemble(&confinement);
    assert_eq!(run(&program, 0x4000_0003, 1, [0; 6]), Answer::Kill.value());
    #[cfg(target_arch = "x86_64")]
    assert_eq!(run(&program, AUDIT_ARCH, X32_BIT | 1, [0; 6]), Answer::Kill.value());
}

#[test]
fn nothing_is_set_for_the_first_process() {
    let refused = Answer::Refuse(libc::EPERM);
    for number in NOT_ON_THE_FIRST {
        assert_eq!(answer(*number, &[1]), refused, "{number}");
        assert_eq!(answer(*number, &[0]), Answer::Allow, "{number}");
        assert_eq!(answer(*number, &[2]), Answer::Allow, "{number}");
    }
    for (number, process, user) in [(libc::SYS_setpriority, 0, 2), (libc::SYS_ioprio_set, 1, 3)] {
        assert_eq!(answer(number, &[process, 1]), refused);
        assert_eq!(answer(number, &[user, 1000]), refused);
        assert_eq!(answer(number, &[process, 0]), Answer::Allow);
    }
}

#[test]
fn processors_are_kept_where_they_are_limited() {
    let confinement = Confinement { user: 1000, processes: None, file_size: None, processors: Some(2) };
    let number = number_of(libc::SYS_sched_setaffinity);
    assert_eq!(run(&assemble(&confinement), AUDIT_ARCH, number, [0; 6]), Answer::Refuse(libc::EPERM).value());
    assert_eq!(answer(libc::SYS_sched_setaffinity, &[]), Answer::Allow);
}
