//! Changes one parameter of a query, and not a byte of the rest.

use bot_bottle_core::decision::{DecidedBy, Reason};
use http::{
    StatusCode,
    uri::{PathAndQuery, Uri},
};

use super::refuse::Refusal;

/// A query without the parameters that `is_removed` says, by name and value as they are written; `None` where there are
/// none. Each goes with the separator before it.
///
/// `;` separates as well as `&`: HTML 4 recommended it (appendix B.2.2), and servers that still split there would read a
/// parameter that others take for a part of the one before. A `?` in front of a name is dropped, as the constructor of
/// `URLSearchParams` does (WHATWG URL section 6.2).
pub(super) fn without(query: &str, mut is_removed: impl FnMut(&str, &str) -> bool) -> Option<String> {
    let mut kept = String::with_capacity(query.len());
    let (mut start, mut is_first) = (0, true);
    for parameter in query.split(SEPARATORS) {
        let separator = query.get(start.max(1) - 1..start).unwrap_or_default();
        start += parameter.len() + 1;
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if is_removed(name.trim_start_matches('?'), value) {
            continue;
        }
        if !is_first {
            kept.push_str(separator);
        }
        kept.push_str(parameter);
        is_first = false;
    }
    (kept.len() < query.len()).then_some(kept)
}

/// A query with one parameter more, at its end: there it is one for every server, whatever separates the others.
pub(super) fn with(query: Option<&str>, name: &str, value: &str) -> String {
    match query {
        None | Some("") => format!("{name}={value}"),
        Some(query) => format!("{query}&{name}={value}"),
    }
}

/// Puts another query into a target; an empty one goes with its `?`.
pub(super) fn set(uri: &mut Uri, query: &str) -> Result<(), Refusal> {
    let target = if query.is_empty() { uri.path().to_owned() } else { format!("{}?{query}", uri.path()) };
    let mut parts = std::mem::take(uri).into_parts();
    // A target has 65,534 bytes at most, in this library and in most servers fewer.
    let too_long =
        |_| Refusal::new(Reason::LimitReached, DecidedBy::Limits).with_status(StatusCode::URI_TOO_LONG);
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(too_long)?);
    *uri = Uri::from_parts(parts).map_err(|_| Refusal::internal())?;
    Ok(())
}

const SEPARATORS: [char; 2] = ['&', ';'];

#[cfg(test)]
mod tests {
    use bot_bottle_core::policy::same_parameter;
    use proptest::prelude::*;

    use super::*;

    fn without_key(query: &str) -> Option<String> {
        without(query, |name, _| same_parameter("key", name))
    }

    #[test]
    fn every_spelling_of_a_parameter_goes() {
        for (query, kept) in [
            ("key=x", ""),
            ("key", ""),
            ("key=", ""),
            ("key=a=b", ""),
            ("KEY=x&a=1", "a=1"),
            ("a=1&k%65y=x&b=2", "a=1&b=2"),
            ("a=1&key=x&b=2&Key=y", "a=1&b=2"),
            ("a=1;key=x", "a=1"),
            ("a=1;key=x&b=2", "a=1&b=2"),
            ("key=x;b=2", "b=2"),
            ("&key=x&", "&"),
            ("key=x&", ""),
            ("a=&&key=x", "a=&"),
            ("?key=x&a", "a"),
            ("+key=x&a", "a"),
            ("key[]=x&a=%26", "a=%26"),
        ] {
            assert_eq!(without_key(query).as_deref(), Some(kept), "{query}");
        }
        for query in ["", "a=1", "keys=1", "a=key", "a=key=1", "a%26key=1", "&&;", "a=1&monkey=2;"] {
            assert_eq!(without_key(query), None, "{query}");
        }
    }

    /// A parameter as an agent may write it, of any name but `key`.
    fn other() -> impl Strategy<Value = String> {
        "[a-jl-zA-Z0-9._~%+=?/:@!$'()*,-]{0,12}".prop_filter("the parameter itself", |text| {
            let name = text.split('=').next().unwrap_or_default().trim_start_matches('?');
            !same_parameter("key", name)
        })
    }

    fn separator() -> impl Strategy<Value = char> {
        prop::sample::select(SEPARATORS.to_vec())
    }

    proptest! {
        #[test]
        fn nothing_else_changes(
            parts in proptest::collection::vec((separator(), other()), 1..8),
            own_separator in separator(),
            at in 0usize..8,
            spelling in prop::sample::select(vec!["key=mine", "KEY", "k%65y=", "%6bey=a%26b"]),
        ) {
            let honest: String = parts.iter().map(|(separator, text)| format!("{separator}{text}")).collect();
            let honest = &honest[1..];
            prop_assert_eq!(without_key(honest), None);
            let sent = with(Some(honest), "key", "value");
            let expected = if honest.is_empty() { "key=value".to_owned() } else { format!("{honest}&key=value") };
            prop_assert_eq!(sent, expected);
            // The agent's own parameter, behind any of the others, goes and takes nothing along.
            let mut agents = parts.clone();
            agents.insert(at % parts.len() + 1, (own_separator, spelling.to_owned()));
            let agents: String = agents.iter().map(|(separator, text)| format!("{separator}{text}")).collect();
            let kept = without_key(&agents[1..]);
            prop_assert_eq!(kept.as_deref(), Some(honest));
        }

        #[test]
        fn any_text_is_survived(query in "\\PC{0,40}") {
            if let Some(kept) = without_key(&query) {
                prop_assert!(kept.len() < query.len());
                prop_assert_eq!(without_key(&kept), None);
            }
        }
    }
}
