//! What proxies cost, as the kernel accounts for it: proc(5).

use std::{collections::HashMap, fs, time::Duration};

/// What a process and its descendants have used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time, in ticks of 10 ms.
    pub(crate) processor: Duration,
    /// Resident bytes.
    pub(crate) resident: u64,
}

/// `sysconf(_SC_CLK_TCK)`, 100 on every architecture of Linux that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

struct Process {
    parent: u32,
    usage: Usage,
}

/// Of a process and its descendants: squid serves in one child and signs in others.
pub(crate) fn usage(id: u32) -> Usage {
    let all: HashMap<u32, Process> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|id| Some((id, read(id)?)))
        .collect();
    let belongs = |mut one: u32| {
        while one != id {
            match all.get(&one) {
                Some(process) if process.parent != 0 => one = process.parent,
                _ => return false,
            }
        }
        true
    };
    let mut sum = Usage::default();
    for (one, process) in &all {
        if belongs(*one) {
            sum.processor += process.usage.processor;
            sum.resident += process.usage.resident;
        }
    }
    sum
}

/// `None` once it has ended.
fn read(id: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in parentheses, may hold spaces. After it, the state is field 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)?;
    let usage = Usage {
        processor: Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND),
        resident: field(24)? * rustix::param::page_size() as u64,
    };
    Some(Process { parent: u32::try_from(field(4)?).ok()?, usage })
}
