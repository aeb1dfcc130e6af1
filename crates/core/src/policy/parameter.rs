//! Names of parameters in a query, as servers compare them.

use super::overrides::decodings;

/// Whether a server may take a parameter of this name for the known one. `written` stands in a query, or in a form:
/// some servers decode it more than once, and some ignore case. PHP drops blanks before a name, ends it at a NUL, and
/// makes `_` of a blank, a dot or an open bracket in it (`parse_str`); a `+` is a blank in a form.
#[must_use]
pub fn same_parameter(known: &str, written: &str) -> bool {
    decodings(written).iter().any(|name| is_read_as(known, name))
}

/// Whether a value holds this text, as a server may read it.
#[must_use]
pub fn parameter_holds(written: &str, text: &str) -> bool {
    decodings(written).iter().any(|value| value.contains(text))
}

/// [`same_parameter`] for a name that is decoded already.
pub(super) fn is_read_as(known: &str, name: &str) -> bool {
    let name = name.split('\0').next().unwrap_or_default();
    let name = name.trim_matches(|c: char| c == '+' || c.is_whitespace()).trim_end_matches("[]");
    let mapped = name.replace([' ', '+', '.', '['], "_");
    name.eq_ignore_ascii_case(known) || mapped.eq_ignore_ascii_case(known)
}
