//! Fake IPs: the bottle's DNS answers each allowed name with an address of its own (198.19.0.0/16), and a
//! connection to such an address is a connection to the name.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bot_bottle_core::{
    host::{HostName, HostPattern},
    plan::NAME_ADDRESSES,
    policy::Policy,
};

use crate::limits::MAX_NAMES;

/// Which fake IP stands for which name. An entry is never removed or reused while the gateway lives, because
/// clients cache addresses for longer than any TTL says.
#[derive(Debug, Default)]
pub(crate) struct FakeIpTable(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    numbers: HashMap<HostName, usize>,
    names: Vec<HostName>,
}

impl FakeIpTable {
    /// Gives every name of an exact route its address, so that a wildcard below which many names were asked
    /// for does not take it.
    pub(crate) fn reserve(&self, policy: &Policy) {
        for route in &policy.routes {
            if let HostPattern::Exact(name) = &route.host {
                self.address_of(name);
            }
        }
    }

    /// The address that stands for the name; `None` when there are too many names.
    pub(crate) fn address_of(&self, name: &HostName) -> Option<Ipv4Addr> {
        let mut table = self.table();
        if let Some(number) = table.numbers.get(name) {
            return Some(address(*number));
        }
        let number = table.names.len();
        if number >= MAX_NAMES {
            return None;
        }
        table.numbers.insert(name.clone(), number);
        table.names.push(name.clone());
        Some(address(number))
    }

    /// The name that the address stands for.
    pub(crate) fn name_at(&self, address: Ipv4Addr) -> Option<HostName> {
        let number = address.to_bits().checked_sub(NAME_ADDRESSES.0.to_bits())?.checked_sub(FIRST)?;
        self.table().names.get(usize::try_from(number).ok()?).cloned()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Names are pushed after they are inserted; a panic between the two loses one address, no more.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Some clients take an address that ends in zero for that of a network.
const FIRST: u32 = 1;

fn address(number: usize) -> Ipv4Addr {
    let number = u32::try_from(number).expect("MAX_NAMES is far below the size of the network");
    Ipv4Addr::from_bits(NAME_ADDRESSES.0.to_bits() + FIRST + number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(written: &str) -> HostName {
        HostName::parse(written).expect("a name")
    }

    #[test]
    fn an_address_means_one_name_for_ever() {
        let names = FakeIpTable::default();
        let one = names.address_of(&name("one.test")).expect("an address");
        let two = names.address_of(&name("two.test")).expect("an address");
        assert_ne!(one, two);
        assert_eq!(names.address_of(&name("one.test")), Some(one));
        assert_eq!(names.name_at(one), Some(name("one.test")));
        assert_eq!(names.name_at(two), Some(name("two.test")));
        for stranger in ["198.19.0.0", "198.19.0.3", "198.18.255.1", "8.8.8.8", "255.255.255.255", "0.0.0.0"]
        {
            assert_eq!(names.name_at(stranger.parse().expect("an address")), None, "{stranger}");
        }
    }

    fn exact(host: &str) -> Policy {
        let route = serde_json::json!({"host": host, "ports": [443], "owner": "manifest"});
        serde_json::from_value(serde_json::json!({"routes": [route]})).expect("a policy")
    }

    #[test]
    fn a_wildcard_cannot_take_the_address_of_an_exact_route() {
        let names = FakeIpTable::default();
        names.reserve(&exact("exact.test"));
        for number in 0..=MAX_NAMES {
            names.address_of(&name(&format!("n{number}.wild.test")));
        }
        assert_eq!(names.address_of(&name("another.wild.test")), None);
        assert!(names.address_of(&name("exact.test")).is_some());
    }

    #[test]
    fn there_may_be_so_many_names_and_not_one_more() {
        let names = FakeIpTable::default();
        for number in 0..MAX_NAMES {
            assert!(names.address_of(&name(&format!("n{number}.test"))).is_some(), "{number}");
        }
        assert_eq!(names.address_of(&name("more.test")), None);
        assert!(names.address_of(&name("n0.test")).is_some(), "those that are known stay known");
        names.reserve(&exact("late.test"));
        assert_eq!(names.address_of(&name("late.test")), None);
        let (network, bits) = NAME_ADDRESSES;
        let last = names.address_of(&name(&format!("n{}.test", MAX_NAMES - 1))).expect("an address");
        assert_eq!(last.to_bits() >> (32 - bits), network.to_bits() >> (32 - bits), "{last} is in the range");
    }
}
