//! The seccomp filter of every program in a bottle: a list of what is refused, the rest is allowed.
//!
//! Namespaces and lost capabilities already stop what is listed here. The filter takes the kernel's code
//! behind it out of reach as well, because that code is where kernel bugs become escapes. It is assembled
//! here and not by a crate, because one filter answers with different errors and has to know the x32 calls,
//! which have numbers of their own under the same architecture and so pass a list made for the usual ones.

use libc::{c_int, c_long, sock_filter};

use super::steps::Confinement;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Allow,
    Refuse(c_int),
    Kill,
}

impl Answer {
    fn value(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Refuse(errno) => libc::SECCOMP_RET_ERRNO | errno.cast_unsigned(),
            Self::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }
}

/// A test of one argument's lower 32 bits. What the kernel reads as an `int` has no others.
#[derive(Debug, Clone, Copy)]
enum Test {
    /// Equal to this, under this mask.
    Equal { mask: u32, value: u32 },
    /// Any of these bits.
    AnyOf(u32),
}

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xC000_00B7;

/// Calls from here on are those of the x32 ABI.
#[cfg(target_arch = "x86_64")]
const X32_BIT: u32 = 0x4000_0000;

// Offsets in `struct seccomp_data`.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const fn offset_argument(index: u32) -> u32 {
    16 + 8 * index
}

// Instructions, linux/bpf_common.h.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
#[cfg(target_arch = "x86_64")]
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Every flag that makes a namespace. `CLONE_NEWTIME` is no flag of clone(2): its bit is part of the signal.
const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// `PER_LINUX` with these is what debuggers and old runtimes ask for (`ADDR_NO_RANDOMIZE`).
const ALLOWED_PERSONALITIES: [u32; 3] = [0, 0x0004_0000, 0xFFFF_FFFF];

/// Types of internet sockets that are allowed: streams and datagrams.
const SOCKET_TYPE_MASK: u32 = 0xF;

/// Linux 6.15; the same number on every architecture.
const SYS_OPEN_TREE_ATTR: c_long = 467;

/// Refused with EPERM whatever their arguments.
const REFUSED: &[c_long] = &[
    // File systems and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    SYS_OPEN_TREE_ATTR,
    // Handles open files without walking to them (CVE-2014-3519, the "shocker" escape).
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    // Kernel keys are not separated by namespaces.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Wide doors into the kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_vmsplice,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    libc::SYS_mbind,
    libc::SYS_set_mempolicy,
    libc::SYS_get_mempolicy,
    // Memory that neither the operator's search nor the count of a bottle's memory can see.
    libc::SYS_memfd_secret,
    libc::SYS_lookup_dcookie,
    libc::SYS_syslog,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_nfsservctl,
];

/// Refused where the first argument is the bottle's first process. It has the same user on the host, so the
/// kernel would let programs take its descriptors and processors away (prlimit(2), sched(7)).
const NOT_ON_THE_FIRST: &[c_long] = &[
    libc::SYS_prlimit64,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
];

/// The bottle's first process, as programs in it call it.
const FIRST_PROCESS: u32 = 1;

/// `PRIO_USER`, setpriority(2).
const PRIO_USER: u32 = 2;

/// `IOPRIO_WHO_USER`, ioprio_set(2).
const IOPRIO_WHO_USER: u32 = 3;

/// Calls that only this architecture has.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[c_long] = &[
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];
#[cfg(target_arch = "aarch64")]
const REFUSED_HERE: &[c_long] = &[];

/// Builds the filter.
pub(crate) fn assemble(confinement: &Confinement) -> Vec<sock_filter> {
    let mut program = Program(Vec::with_capacity(320));
    program.load(OFFSET_ARCH);
    program.push(JUMP_EQUAL, 1, 0, AUDIT_ARCH);
    program.answer(Answer::Kill);
    program.load(OFFSET_NUMBER);
    #[cfg(target_arch = "x86_64")]
    {
        program.push(JUMP_GREATER_OR_EQUAL, 0, 1, X32_BIT);
        program.answer(Answer::Kill);
    }
    for number in REFUSED.iter().chain(REFUSED_HERE) {
        program.refuse(*number, libc::EPERM);
    }
    if confinement.processors.is_some() {
        program.refuse(libc::SYS_sched_setaffinity, libc::EPERM);
    }
    let is = |value: u32| Test::Equal { mask: u32::MAX, value };
    let refused = Answer::Refuse(libc::EPERM);
    for number in NOT_ON_THE_FIRST {
        program.on(*number, |program| program.when(0, is(FIRST_PROCESS), refused));
    }
    for (number, all_of_a_user) in
        [(libc::SYS_setpriority, PRIO_USER), (libc::SYS_ioprio_set, IOPRIO_WHO_USER)]
    {
        program.on(number, |program| {
            program.when(0, is(all_of_a_user), refused);
            program.when(1, is(FIRST_PROCESS), refused);
        });
    }
    // The flags of clone3 lie in memory, where no filter can look: callers then take clone.
    program.refuse(libc::SYS_clone3, libc::ENOSYS);
    program.on(libc::SYS_clone, |program| {
        program.when(0, Test::AnyOf(NEW_NAMESPACES), Answer::Refuse(libc::EPERM));
    });
    program.on(libc::SYS_ioctl, |program| {
        for request in [libc::TIOCSTI, libc::TIOCLINUX] {
            let value = u32::try_from(request).unwrap_or(u32::MAX);
            program.when(1, Test::Equal { mask: u32::MAX, value }, Answer::Refuse(libc::EPERM));
        }
    });
    program.on(libc::SYS_personality, |program| {
        for value in ALLOWED_PERSONALITIES {
            program.when(0, Test::Equal { mask: u32::MAX, value }, Answer::Allow);
        }
        program.answer(Answer::Refuse(libc::EPERM));
    });
    let family = |value: c_int| Test::Equal { mask: u32::MAX, value: value.cast_unsigned() };
    let kind = |value: c_int| Test::Equal { mask: SOCKET_TYPE_MASK, value: value.cast_unsigned() };
    program.on(libc::SYS_socketpair, |program| {
        program.when(0, family(libc::AF_UNIX), Answer::Allow);
        program.answer(Answer::Refuse(libc::EAFNOSUPPORT));
    });
    program.on(libc::SYS_socket, |program| {
        program.when(0, family(libc::AF_UNIX), Answer::Allow);
        program.unless(0, family(libc::AF_NETLINK), |program| {
            program.when(2, family(libc::NETLINK_ROUTE), Answer::Allow);
            program.answer(Answer::Refuse(libc::EPROTONOSUPPORT));
        });
        for (kinds, protocol) in
            [(libc::SOCK_STREAM, libc::IPPROTO_TCP), (libc::SOCK_DGRAM, libc::IPPROTO_UDP)]
        {
            for internet in [libc::AF_INET, libc::AF_INET6] {
                program.unless(0, family(internet), |program| {
                    program.unless(1, kind(kinds), |program| {
                        program.when(2, family(0), Answer::Allow);
                        program.when(2, family(protocol), Answer::Allow);
                        program.answer(Answer::Refuse(libc::EPROTONOSUPPORT));
                    });
                });
            }
        }
        for internet in [libc::AF_INET, libc::AF_INET6] {
            program.when(0, family(internet), Answer::Refuse(libc::EPERM));
        }
        program.answer(Answer::Refuse(libc::EAFNOSUPPORT));
    });
    program.answer(Answer::Allow);
    program.0
}

struct Program(Vec<sock_filter>);

impl Program {
    fn push(&mut self, code: u16, jump_true: u8, jump_false: u8, value: u32) {
        self.0.push(sock_filter { code, jt: jump_true, jf: jump_false, k: value });
    }

    fn load(&mut self, offset: u32) {
        self.push(LOAD, 0, 0, offset);
    }

    fn answer(&mut self, answer: Answer) {
        self.push(RETURN, 0, 0, answer.value());
    }

    fn refuse(&mut self, number: c_long, errno: c_int) {
        self.push(JUMP_EQUAL, 0, 1, number_of(number));
        self.answer(Answer::Refuse(errno));
    }

    /// What is done with one call. If nothing in `block` answers, the call is allowed.
    fn on(&mut self, number: c_long, block: impl FnOnce(&mut Self)) {
        let jump = self.0.len();
        self.push(JUMP_EQUAL, 0, 0, number_of(number));
        block(self);
        self.answer(Answer::Allow);
        self.0[jump].jf = self.distance(jump);
    }

    /// Answers if an argument is so.
    fn when(&mut self, argument: u32, test: Test, answer: Answer) {
        self.unless(argument, test, |program| program.answer(answer));
    }

    /// Goes over `block` unless an argument is so. `block` has to answer.
    fn unless(&mut self, argument: u32, test: Test, block: impl FnOnce(&mut Self)) {
        self.load(offset_argument(argument));
        let jump = match test {
            Test::Equal { mask, value } => {
                if mask != u32::MAX {
                    self.push(AND, 0, 0, mask);
                }
                self.push(JUMP_EQUAL, 0, 0, value);
                self.0.len() - 1
            }
            Test::AnyOf(bits) => {
                self.push(JUMP_ANY_BIT, 0, 0, bits);
                self.0.len() - 1
            }
        };
        block(self);
        self.0[jump].jf = self.distance(jump);
    }

    /// How far the next instruction is from the one after `jump`.
    fn distance(&self, jump: usize) -> u8 {
        u8::try_from(self.0.len() - jump - 1).expect("a block is shorter than a jump can reach; tested")
    }
}

fn number_of(number: c_long) -> u32 {
    u32::try_from(number).expect("numbers of system calls are small and positive")
}

#[cfg(test)]
mod tests;
