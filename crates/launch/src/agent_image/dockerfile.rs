//! What is read of a Dockerfile: the images that its stages begin with. The engine does the rest.

use std::collections::BTreeMap;

/// The references of the images that the stages of a Dockerfile begin with, in their order and once each. Stages of
/// the same file and `scratch` are none. A reference with a variable that has no value is left out: the engine says
/// what is wrong with it.
pub(super) fn bases(text: &str, arguments: &BTreeMap<String, String>) -> Vec<String> {
    let (mut global, mut stages, mut bases) = (BTreeMap::new(), Vec::new(), Vec::new());
    for line in instructions(text) {
        let mut words = line.split_whitespace();
        let Some(instruction) = words.next() else { continue };
        if instruction.eq_ignore_ascii_case("ARG") && stages.is_empty() {
            // One before the first FROM has a value in all of them.
            for (name, default) in words.map(|word| word.split_once('=').unwrap_or((word, ""))) {
                let default = default.trim_matches(['"', '\'']);
                let value = arguments.get(name).cloned().unwrap_or_else(|| default.to_owned());
                global.insert(name.to_owned(), value);
            }
        } else if instruction.eq_ignore_ascii_case("FROM") {
            let mut words = words.filter(|word| !word.starts_with("--"));
            let base = words.next().and_then(|word| substitute(word.trim_matches(['"', '\'']), &global));
            let is_stage =
                |name: &String| stages.iter().any(|stage: &String| stage.eq_ignore_ascii_case(name));
            let base = base.filter(|name| name != "scratch" && !is_stage(name) && !bases.contains(name));
            bases.extend(base);
            let names_stage = words.next().is_some_and(|word| word.eq_ignore_ascii_case("AS"));
            // One without a name counts too: arguments that follow are its own.
            stages.push(words.next().filter(|_| names_stage).unwrap_or_default().to_owned());
        }
    }
    bases
}

/// Lines without comments, each joined with those that continue it.
fn instructions(text: &str) -> Vec<String> {
    let mut joined = vec![String::new()];
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (part, continues) = match line.strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line, false),
        };
        if let Some(last) = joined.last_mut() {
            *last += part;
        }
        if !continues {
            joined.push(String::new());
        }
    }
    joined
}

/// Replaces `$NAME`, `${NAME}` and `${NAME:-default}`; `None` where one has no value, or another form is used.
fn substitute(word: &str, values: &BTreeMap<String, String>) -> Option<String> {
    let value = |name: &str| values.get(name).filter(|value| !value.is_empty()).cloned();
    let mut parts = word.split('$');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (value, rest) = match part.strip_prefix('{') {
            Some(braced) => {
                let (variable, rest) = braced.split_once('}')?;
                match variable.split_once(":-") {
                    Some((name, default)) => (value(name).unwrap_or_else(|| default.to_owned()), rest),
                    None => (value(variable)?, rest),
                }
            }
            None => {
                let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
                let end = part.find(|character| !is_name(character)).unwrap_or(part.len());
                (value(&part[..end])?, &part[end..])
            }
        };
        text += &value;
        text += rest;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_found_as_the_engine_finds_them() {
        let text = "# syntax=docker/dockerfile:1\n\
                    ARG BASE=debian:12 \n\
                    ARG \"EMPTY\"\n\
                    from --platform=linux/amd64 \\\n  # why\n  ${BASE} AS Build\n\
                    ARG BASE=other\n\
                    RUN echo FROM nothing\n\
                    FROM scratch\n\
                    FROM build as second\n\
                    FROM host:5000/a/${MISSING:-tools}:$BASE\n\
                    FROM ${BASE}\n\
                    FROM $MISSING\n\
                    FROM ${BASE#x}\n";
        assert_eq!(bases(text, &[].into()), ["debian:12", "host:5000/a/tools:debian:12"]);
        let given = [("BASE".to_owned(), "mirror.example/debian@sha256:00".to_owned())].into();
        assert_eq!(bases(text, &given)[0], "mirror.example/debian@sha256:00");
        assert!(bases("", &[].into()).is_empty());
    }
}
