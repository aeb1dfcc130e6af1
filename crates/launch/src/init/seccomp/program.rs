//! From decisions to instructions: a binary search for the number of the call, with the tests of its
//! arguments at the leaves. Every piece ends with an answer and jumps only within itself, so that pieces are
//! joined by putting one after the other.
//!
//! The instructions are those that the kernel understands when it looks, once for each number, whether a
//! filter allows it whatever the arguments (`seccomp_is_const_allow`, Linux 5.11). Such a call is not
//! filtered any more.

use libc::sock_filter;

use super::{Answer, Case, Decision, Test, UNKNOWN};

#[cfg(target_arch = "x86_64")]
pub(super) const AUDIT_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
pub(super) const AUDIT_ARCH: u32 = 0xC000_00B7;

/// Calls from here on are those of the x32 ABI.
#[cfg(target_arch = "x86_64")]
pub(super) const X32_BIT: u32 = 0x4000_0000;

// Offsets in `struct seccomp_data`. Both architectures are little-endian: the lower half comes first.
pub(super) const OFFSET_NUMBER: u32 = 0;
pub(super) const OFFSET_ARCH: u32 = 4;
pub(super) const OFFSET_ARGUMENTS: u32 = 16;

// Instructions, linux/bpf_common.h.
pub(super) const LOAD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
pub(super) const JUMP_ANY_BIT: u16 = 0x45;
pub(super) const RETURN: u16 = 0x06;

/// The whole filter. Numbers that are not among the decisions are [`UNKNOWN`].
pub(super) fn assemble(mut decisions: Vec<(u32, Decision)>) -> Vec<sock_filter> {
    decisions.sort_by_key(|(number, _)| *number);
    let mut ranges = Vec::with_capacity(decisions.len());
    let mut next = 0;
    for (number, decision) in decisions {
        if number > next {
            ranges.push((next, Decision::Always(UNKNOWN)));
        }
        ranges.push((number, decision));
        next = number + 1;
    }
    ranges.push((next, Decision::Always(UNKNOWN)));
    ranges.dedup_by_key(|(_, decision)| *decision);

    let mut program = vec![
        plain(LOAD, OFFSET_ARCH),
        jump(JUMP_EQUAL, 1, 0, AUDIT_ARCH),
        answer(Answer::Kill),
        plain(LOAD, OFFSET_NUMBER),
    ];
    #[cfg(target_arch = "x86_64")]
    program.extend([jump(JUMP_GREATER_OR_EQUAL, 0, 1, X32_BIT), answer(Answer::Kill)]);
    program.extend(search(&ranges));
    program
}

/// Finds the range in which the loaded number lies. Each holds from its number up to that of the next.
fn search(ranges: &[(u32, Decision)]) -> Vec<sock_filter> {
    if let [(_, decision)] = ranges {
        return decide(*decision);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (boundary, low, high) = (high[0].0, search(low), search(high));
    let mut found = match u8::try_from(low.len()) {
        Ok(over_low) => vec![jump(JUMP_GREATER_OR_EQUAL, over_low, 0, boundary)],
        // Only the unconditional jump reaches further than 255 instructions.
        Err(_) => vec![
            jump(JUMP_GREATER_OR_EQUAL, 0, 1, boundary),
            plain(JUMP, u32::try_from(low.len()).expect("a filter has at most 4096 instructions")),
        ],
    };
    found.extend(low);
    found.extend(high);
    found
}

fn decide(decision: Decision) -> Vec<sock_filter> {
    match decision {
        Decision::Always(always) => vec![answer(always)],
        Decision::ByArgument { cases, otherwise } => {
            cases.iter().flat_map(case).chain([answer(otherwise)]).collect()
        }
    }
}

/// Answers if every test is passed, and goes on behind itself if one is not.
fn case(case: &Case) -> Vec<sock_filter> {
    case.tests.iter().rev().fold(vec![answer(case.answer)], |then, test| {
        let mut tested = test_before(*test, reach(then.len()));
        tested.extend(then);
        tested
    })
}

/// Goes on if the test is passed, and else over so many instructions behind it.
fn test_before(test: Test, over: u8) -> Vec<sock_filter> {
    match test {
        Test::OneOf { argument, mask, values } => {
            let mut tested = vec![plain(LOAD, lower_half(argument))];
            if mask != u32::MAX {
                tested.push(plain(AND, mask));
            }
            let jumps = values.iter().enumerate().map(|(index, value)| {
                let left = reach(values.len() - index - 1);
                jump(JUMP_EQUAL, left, if left == 0 { over } else { 0 }, *value)
            });
            tested.extend(jumps);
            tested
        }
        Test::AnyOf { argument, bits } => {
            vec![plain(LOAD, lower_half(argument)), jump(JUMP_ANY_BIT, 0, over, bits)]
        }
        Test::Null { argument } => vec![
            plain(LOAD, lower_half(argument) + 4),
            jump(JUMP_EQUAL, 0, over + 2, 0),
            plain(LOAD, lower_half(argument)),
            jump(JUMP_EQUAL, 0, over, 0),
        ],
    }
}

fn lower_half(argument: u32) -> u32 {
    OFFSET_ARGUMENTS + 8 * argument
}

fn reach(distance: usize) -> u8 {
    u8::try_from(distance).expect("the tests of one case are fewer than a jump can reach; tested")
}

fn plain(code: u16, value: u32) -> sock_filter {
    jump(code, 0, 0, value)
}

fn jump(code: u16, if_true: u8, if_false: u8, value: u32) -> sock_filter {
    sock_filter { code, jt: if_true, jf: if_false, k: value }
}

fn answer(answer: Answer) -> sock_filter {
    plain(RETURN, value_of(answer))
}

pub(super) fn value_of(answer: Answer) -> u32 {
    match answer {
        Answer::Allow => libc::SECCOMP_RET_ALLOW,
        Answer::Refuse(errno) => libc::SECCOMP_RET_ERRNO | errno.cast_unsigned(),
        // An error that is none (seccomp(2)).
        Answer::Pretend => libc::SECCOMP_RET_ERRNO,
        Answer::Kill => libc::SECCOMP_RET_KILL_PROCESS,
    }
}
