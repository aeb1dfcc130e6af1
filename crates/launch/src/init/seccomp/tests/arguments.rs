//! Calls about which their arguments decide.

use super::*;

/// Obsolete, and so deprecated in the crate; the kernel still has it.
const SOCK_PACKET: c_int = 10;

/// Bits that the kernel cuts off an `int`.
const UPPER: u64 = 1 << 32;

fn int(value: c_int) -> u64 {
    u64::from(value.cast_unsigned())
}

#[test]
fn clone_makes_threads_and_processes_but_no_namespaces() {
    assert_eq!(answer(libc::SYS_clone, &[int(libc::SIGCHLD)]), Answer::Allow);
    assert_eq!(answer(libc::SYS_clone, &[int(libc::CLONE_VM | libc::CLONE_THREAD)]), Answer::Allow);
    for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNET, libc::CLONE_NEWPID, libc::CLONE_NEWNS] {
        assert_eq!(answer(libc::SYS_clone, &[int(flag | libc::SIGCHLD)]), REFUSED);
    }
}

#[test]
fn sockets_are_local_tcp_udp_or_route_netlink() {
    let socket =
        |(family, kind, protocol)| answer(libc::SYS_socket, &[int(family), int(kind), int(protocol)]);
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
        assert_eq!(socket(allowed), Answer::Allow, "{allowed:?}");
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
        assert_eq!(socket(refused), Answer::Refuse(errno), "{refused:?}");
    }
    let pair = |family| answer(libc::SYS_socketpair, &[int(family), int(libc::SOCK_STREAM)]);
    assert_eq!(pair(libc::AF_UNIX), Answer::Allow);
    assert_eq!(pair(libc::AF_TIPC), Answer::Refuse(libc::EAFNOSUPPORT));
}

#[test]
fn options_of_sockets_are_the_usual_ones() {
    let option = |level, name| answer(libc::SYS_setsockopt, &[0, int(level), int(name)]);
    for (level, name) in [
        (libc::SOL_SOCKET, libc::SO_REUSEADDR),
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
        (libc::SOL_SOCKET, libc::SO_RCVTIMEO),
        (libc::SOL_SOCKET, libc::SO_PASSCRED),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
        (libc::IPPROTO_IP, libc::IP_TTL),
        (libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP),
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
        (libc::IPPROTO_UDP, libc::UDP_CORK),
        (libc::SOL_NETLINK, libc::NETLINK_EXT_ACK),
    ] {
        assert_eq!(option(level, name), Answer::Allow, "{level} {name}");
    }
    for (level, name) in [
        (libc::IPPROTO_TCP, libc::TCP_ULP),
        (libc::IPPROTO_TCP, libc::TCP_REPAIR),
        (libc::IPPROTO_UDP, libc::UDP_ENCAP),
        (libc::IPPROTO_UDP, libc::UDP_SEGMENT),
        (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
        (libc::SOL_SOCKET, libc::SO_ATTACH_BPF),
        (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF),
        (libc::SOL_SOCKET, libc::SO_ZEROCOPY),
        (libc::IPPROTO_IPV6, libc::IPV6_ADDRFORM),
        // IPT_SO_SET_REPLACE, ARPT_SO_SET_REPLACE, EBT_SO_SET_ENTRIES, MRT_INIT.
        (libc::IPPROTO_IP, 64),
        (libc::IPPROTO_IP, 96),
        (libc::IPPROTO_IP, 128),
        (libc::IPPROTO_IP, 200),
        (libc::IPPROTO_IPV6, 64),
        (libc::SOL_PACKET, 5),
        (libc::SOL_TLS, 1),
    ] {
        let refused = Answer::Refuse(libc::ENOPROTOOPT);
        assert_eq!(option(level, name), refused, "{level} {name}");
        let arguments = [0, UPPER | int(level), UPPER | int(name)];
        assert_eq!(answer(libc::SYS_setsockopt, &arguments), refused, "{level} {name}");
    }
    let read = |level, name| answer(libc::SYS_getsockopt, &[0, int(level), int(name)]);
    assert_eq!(read(libc::SOL_SOCKET, libc::SO_ERROR), Answer::Allow);
    assert_eq!(read(libc::IPPROTO_TCP, libc::TCP_ZEROCOPY_RECEIVE), Answer::Refuse(libc::ENOPROTOOPT));
}

#[test]
fn terminals_are_used_but_not_typed_into() {
    const TIOCSETD: u64 = 0x5423;
    const TIOCCONS: u64 = 0x541D;
    const FS_IOC_SETFLAGS: u64 = 0x4008_6602;
    const FS_IOC_ADD_ENCRYPTION_KEY: u64 = 0xC050_6617;
    const FITRIM: u64 = 0xC018_5879;
    const BTRFS_IOC_SNAP_CREATE: u64 = 0x5000_9401;
    const PIDFD_GET_NET_NAMESPACE: u64 = 0xFF04;
    let request = |request| answer(libc::SYS_ioctl, &[0, request]);
    for refused in [libc::TIOCSTI, libc::TIOCLINUX, TIOCSETD, TIOCCONS] {
        assert_eq!(request(refused), REFUSED, "{refused:#x}");
        assert_eq!(request(UPPER | refused), REFUSED, "{refused:#x}");
    }
    for allowed in [libc::TCGETS, libc::TIOCGWINSZ, libc::FIONREAD, libc::SIOCGIFCONF] {
        assert_eq!(request(allowed), Answer::Allow, "{allowed:#x}");
    }
    assert_eq!(request(libc::FICLONE), Answer::Allow);
    for other in
        [FS_IOC_SETFLAGS, FS_IOC_ADD_ENCRYPTION_KEY, FITRIM, BTRFS_IOC_SNAP_CREATE, PIDFD_GET_NET_NAMESPACE]
    {
        assert_eq!(request(other), Answer::Refuse(libc::ENOTTY), "{other:#x}");
    }
}

#[test]
fn personalities_are_the_usual_ones() {
    for (value, expected) in [
        (0, Answer::Allow),
        (0x0004_0000, Answer::Allow),
        (-1, Answer::Allow),
        (0x0040_0000, REFUSED),
        (8, REFUSED),
    ] {
        assert_eq!(answer(libc::SYS_personality, &[int(value)]), expected, "{value:#x}");
    }
}

#[test]
fn nothing_is_set_for_the_first_process() {
    for number in [
        libc::SYS_prlimit64,
        libc::SYS_sched_setaffinity,
        libc::SYS_sched_setattr,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setscheduler,
    ] {
        assert_eq!(answer(number, &[1]), REFUSED, "{number}");
        assert_eq!(answer(number, &[UPPER | 1]), REFUSED, "{number}");
        assert_eq!(answer(number, &[0]), Answer::Allow, "{number}");
        assert_eq!(answer(number, &[2]), Answer::Allow, "{number}");
    }
    for (number, process, user) in [(libc::SYS_setpriority, 0, 2), (libc::SYS_ioprio_set, 1, 3)] {
        assert_eq!(answer(number, &[process, 1]), REFUSED);
        assert_eq!(answer(number, &[user, 1000]), REFUSED);
        assert_eq!(answer(number, &[process, 0]), Answer::Allow);
    }
}

#[test]
fn core_dumps_stay_limited_and_programs_believe_that_they_set_the_limit() {
    const SOMEWHERE: u64 = 0x7FFF_0000_1000;
    // Its lower half is zero.
    const ELSEWHERE: u64 = 0x7FFF_0000_0000;
    let (core, files) = (u64::from(libc::RLIMIT_CORE), u64::from(libc::RLIMIT_NOFILE));
    assert_eq!(answer(number::SYS_setrlimit, &[core, SOMEWHERE]), Answer::Pretend);
    assert_eq!(answer(number::SYS_setrlimit, &[files, SOMEWHERE]), Answer::Allow);
    let limit = |process, resource, new, old| answer(libc::SYS_prlimit64, &[process, resource, new, old]);
    for process in [0, 2] {
        for address in [SOMEWHERE, ELSEWHERE] {
            assert_eq!(limit(process, core, 0, address), Answer::Allow);
            assert_eq!(limit(process, core, address, 0), Answer::Pretend);
            assert_eq!(limit(process, core, address, address), REFUSED);
            assert_eq!(limit(process, files, address, address), Answer::Allow);
        }
    }
    assert_eq!(limit(1, core, SOMEWHERE, 0), REFUSED);
    assert_eq!(limit(1, core, 0, SOMEWHERE), REFUSED);
}

#[test]
fn huge_pages_of_the_host_are_not_taken() {
    let private = int(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let huge = private | int(libc::MAP_HUGETLB);
    assert_eq!(answer(libc::SYS_mmap, &[0, 4096, 3, private]), Answer::Allow);
    assert_eq!(answer(libc::SYS_mmap, &[0, 4096, 3, huge]), Answer::Refuse(libc::ENOMEM));
    assert_eq!(answer(libc::SYS_memfd_create, &[0, u64::from(libc::MFD_CLOEXEC)]), Answer::Allow);
    let huge = u64::from(libc::MFD_HUGETLB);
    assert_eq!(answer(libc::SYS_memfd_create, &[0, huge]), Answer::Refuse(libc::EINVAL));
    assert_eq!(answer(libc::SYS_shmget, &[0, 4096, int(libc::IPC_CREAT)]), Answer::Allow);
    let huge = int(libc::SHM_HUGETLB);
    assert_eq!(answer(libc::SYS_shmget, &[0, 4096, huge]), Answer::Refuse(libc::ENOMEM));
}

#[test]
fn programs_confine_themselves_but_do_not_answer_for_others() {
    let install = |flags| answer(libc::SYS_seccomp, &[u64::from(libc::SECCOMP_SET_MODE_FILTER), flags]);
    assert_eq!(install(u64::from(libc::SECCOMP_FILTER_FLAG_TSYNC as u32)), Answer::Allow);
    assert_eq!(
        install(u64::from(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32)),
        Answer::Refuse(libc::EINVAL)
    );
    let option = |option| answer(libc::SYS_prctl, &[int(option)]);
    for allowed in
        [libc::PR_SET_NAME, libc::PR_SET_PDEATHSIG, libc::PR_SET_SECCOMP, libc::PR_SET_NO_NEW_PRIVS]
    {
        assert_eq!(option(allowed), Answer::Allow, "{allowed}");
    }
    for refused in [libc::PR_SET_MM, libc::PR_TASK_PERF_EVENTS_ENABLE, libc::PR_SCHED_CORE] {
        assert_eq!(option(refused), Answer::Refuse(libc::EINVAL), "{refused}");
    }
}
