//! What is decided about every system call of Linux 6.18, and why. Read against Docker's default profile
//! (github.com/moby/profiles, `seccomp/default_linux.go`) and Flatpak's (`common/flatpak-run.c`).

use super::{Rule, Test};

/// Calls that every architecture has.
macro_rules! calls {
    ($($name:ident)+) => {
        &[$($crate::init::seccomp::Call {
            name: stringify!($name),
            number: Some($crate::init::seccomp::number::$name),
        }),+]
    };
}

/// Calls that x86-64 alone has, most of them older forms of others.
#[cfg(target_arch = "x86_64")]
macro_rules! x86_calls {
    ($($name:ident)+) => { calls![$($name)+] };
}

/// Calls that x86-64 alone has: here they are none.
#[cfg(not(target_arch = "x86_64"))]
macro_rules! x86_calls {
    ($($name:ident)+) => {
        &[$($crate::init::seccomp::Call { name: stringify!($name), number: None }),+]
    };
}

mod files;
mod ioctl;
mod machine;
mod memory;
mod options;
mod processes;
mod sockets;

/// The table.
pub(super) const GROUPS: [(&str, &[Rule]); 7] = [
    ("Files", files::RULES),
    ("Devices and terminals", ioctl::RULES),
    ("Memory", memory::RULES),
    ("Processes", processes::RULES),
    ("Sockets", sockets::RULES),
    ("Options of sockets", options::RULES),
    ("The machine", machine::RULES),
];

/// An argument is one of these values.
const fn is(argument: u32, values: &'static [u32]) -> Test {
    masked(argument, u32::MAX, values)
}

/// What this mask leaves of an argument is one of these values.
const fn masked(argument: u32, mask: u32, values: &'static [u32]) -> Test {
    Test::OneOf { argument, mask, values }
}

/// An argument has any of these bits.
const fn any_of(argument: u32, bits: u32) -> Test {
    Test::AnyOf { argument, bits }
}
