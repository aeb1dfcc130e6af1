//! Honest clients in a real bottle, against upstreams with a private certificate authority and without any
//! setting of their own. The tables of [`table`] drive the tests, and `docs/compatibility.md` is made of them.

mod bottle;
mod credentials;
mod packages;
mod page;
mod requests;
mod table;
mod targets;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let mut trials = vec![
        Trial::test("the_page_is_not_stale", || Ok(page::is_fresh()?)),
        Trial::test("targets::arrive_as_they_were_sent", || Ok(targets::arrive_as_they_were_sent()?)),
    ];
    trials.push(Trial::test("credentials::take_the_place_of_placeholders", || {
        Ok(credentials::take_the_place_of_placeholders()?)
    }));
    trials.extend(table::CLIENTS.iter().map(|client| {
        Trial::test(format!("requests::{}", client.name), || Ok(requests::work_and_are_refused(client)?))
    }));
    trials.extend(table::MANAGERS.iter().map(|manager| {
        Trial::test(format!("packages::{}", manager.name), || Ok(packages::fetch_and_are_refused(manager)?))
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
