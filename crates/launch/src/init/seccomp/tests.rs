use std::collections::{BTreeMap, BTreeSet};

use super::{
    program::{
        AND, AUDIT_ARCH, JUMP, JUMP_ANY_BIT, JUMP_EQUAL, JUMP_GREATER_OR_EQUAL, LOAD, OFFSET_ARCH,
        OFFSET_ARGUMENTS, OFFSET_NUMBER, RETURN, value_of,
    },
    *,
};

mod arguments;

const EVERYTHING: Confinement =
    Confinement { user: 1000, processes: None, file_size: None, processors: None };

/// The last number of the kernel that the table was read against, and the numbers between which there is no
/// call.
const LAST_NUMBER: u32 = 469;
#[cfg(target_arch = "x86_64")]
const GAPS: &[(u32, u32)] = &[(337, 423)];
#[cfg(target_arch = "aarch64")]
const GAPS: &[(u32, u32)] = &[(244, 259), (295, 423)];

/// Runs a filter as the kernel does.
fn run(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
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
                    offset => {
                        let offset = offset - OFFSET_ARGUMENTS;
                        let bytes = arguments[offset as usize / 8].to_le_bytes();
                        let [low, high] = [0, 4].map(|at| {
                            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
                        });
                        if offset.is_multiple_of(8) { low } else { high }
                    }
                }
            }
            AND => accumulator &= k,
            JUMP => counter += k as usize,
            JUMP_EQUAL => counter += jump(accumulator == k),
            JUMP_GREATER_OR_EQUAL => counter += jump(accumulator >= k),
            JUMP_ANY_BIT => counter += jump(accumulator & k != 0),
            RETURN => return k,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

fn meaning(value: u32) -> Answer {
    match value & 0xFFFF_0000 {
        libc::SECCOMP_RET_ALLOW => Answer::Allow,
        libc::SECCOMP_RET_ERRNO if value & 0xFFFF == 0 => Answer::Pretend,
        libc::SECCOMP_RET_ERRNO => Answer::Refuse((value & 0xFFFF) as c_int),
        libc::SECCOMP_RET_KILL_PROCESS => Answer::Kill,
        other => panic!("unknown answer {other:#x}"),
    }
}

fn answer(number: c_long, arguments: &[u64]) -> Answer {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    meaning(run(&assemble(&EVERYTHING), AUDIT_ARCH, number_of(number), all))
}

/// What the table says, by number.
fn decisions() -> BTreeMap<u32, (&'static str, Decision)> {
    let rules = table::GROUPS.into_iter().flat_map(|(_, rules)| rules);
    let mut decided = BTreeMap::new();
    for (call, decision) in rules.flat_map(|rule| rule.calls.iter().map(|call| (call, rule.decision))) {
        if let Some(number) = call.number {
            let before = decided.insert(number_of(number), (call.name, decision));
            assert!(before.is_none(), "{} is decided twice", call.name);
        }
    }
    decided
}

#[test]
fn every_call_of_the_kernel_has_one_decision() {
    let decided: BTreeSet<_> = decisions().into_keys().collect();
    let is_gap = |number: &u32| GAPS.iter().any(|(first, last)| (first..=last).contains(&number));
    let expected: BTreeSet<_> = (0..=LAST_NUMBER).filter(|number| !is_gap(number)).collect();
    assert_eq!(decided, expected);
}

#[test]
fn the_filter_says_what_the_table_says() {
    let (program, decided) = (assemble(&EVERYTHING), decisions());
    for number in 0..LAST_NUMBER + 1000 {
        let expected = match decided.get(&number) {
            Some((_, Decision::Always(answer))) => *answer,
            Some((_, Decision::ByArgument { .. })) => continue,
            None => UNKNOWN,
        };
        assert_eq!(meaning(run(&program, AUDIT_ARCH, number, [0; 6])), expected, "{number}");
    }
    assert_eq!(meaning(run(&program, AUDIT_ARCH, X32_OR_LAST - 1, [0; 6])), UNKNOWN);
}

#[cfg(target_arch = "x86_64")]
const X32_OR_LAST: u32 = program::X32_BIT;
#[cfg(not(target_arch = "x86_64"))]
const X32_OR_LAST: u32 = u32::MAX;

#[test]
fn the_kernel_takes_the_filter() {
    let program = assemble(&EVERYTHING);
    assert!(program.len() < 4096, "BPF_MAXINSNS");
    assert_eq!(program.last().map(|last| last.code), Some(RETURN));
    for (at, instruction) in program.iter().enumerate() {
        let furthest = match instruction.code {
            JUMP => instruction.k as usize,
            _ => usize::from(instruction.jt.max(instruction.jf)),
        };
        assert!(at + 1 + furthest < program.len() || instruction.code == RETURN, "instruction {at}");
    }
}

#[test]
fn foreign_architectures_and_x32_end_the_process() {
    let program = assemble(&EVERYTHING);
    assert_eq!(run(&program, 0x4000_0003, 1, [0; 6]), value_of(Answer::Kill));
    #[cfg(target_arch = "x86_64")]
    assert_eq!(run(&program, AUDIT_ARCH, program::X32_BIT | 1, [0; 6]), value_of(Answer::Kill));
}

#[test]
fn processors_are_kept_where_they_are_limited() {
    let confinement = Confinement { processors: Some(2), ..EVERYTHING };
    let number = number_of(libc::SYS_sched_setaffinity);
    assert_eq!(meaning(run(&assemble(&confinement), AUDIT_ARCH, number, [0; 6])), REFUSED);
    assert_eq!(answer(libc::SYS_sched_setaffinity, &[]), Answer::Allow);
}
