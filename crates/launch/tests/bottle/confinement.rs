use crate::fixture::User;
use libtest_mimic::Trial;
pub(crate) fn trials(_user: User) -> Vec<Trial> {
    Vec::new()
}
