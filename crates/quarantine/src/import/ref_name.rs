//! Names of refs, by the rules of git-check-ref-format(1).

/// Longest name in bytes: a ref is a file, and `refs/bottle/<ID>/` comes before it.
const MAX_LENGTH: usize = 1024;

/// Longest component in bytes: git adds `.lock` to it, and a file name has at most 255.
const MAX_COMPONENT: usize = 250;

/// Why `name` cannot be the name of a ref such as `refs/heads/main`; `None` if it can.
///
/// A function instead of the program, because a bundle may hold a thousand names. The tests compare the two.
pub(crate) fn refusal_of(name: &str) -> Option<&'static str> {
    let forbidden =
        |c: char| c.is_ascii_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    if name.len() > MAX_LENGTH {
        Some("it is too long")
    } else if !name.contains('/') {
        Some("it has no slash")
    } else if name.contains(forbidden) {
        Some("it has a character that git does not allow in names")
    } else if name.contains("..") || name.contains("@{") {
        Some("git has another meaning for `..` and `@{`")
    } else if name.ends_with('.') {
        Some("it ends with a period")
    } else {
        name.split('/').find_map(refusal_of_component)
    }
}

fn refusal_of_component(component: &str) -> Option<&'static str> {
    if component.is_empty() {
        Some("a part of it is empty")
    } else if component.len() > MAX_COMPONENT {
        Some("a part of it is too long")
    } else if component.starts_with('.') {
        Some("a part of it starts with a period")
    } else if component.ends_with(".lock") {
        Some("a part of it ends with `.lock`")
    } else {
        None
    }
}

/// Why `name` cannot be the name of a new branch; `None` if it can. Git refuses the same two more.
pub(crate) fn refusal_of_branch(name: &str) -> Option<&'static str> {
    if name.starts_with('-') {
        Some("it starts with a dash")
    } else if name == "HEAD" {
        Some("git has another meaning for `HEAD`")
    } else {
        refusal_of(&format!("refs/heads/{name}"))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn git_agrees_on_every_name() {
        let names = [
            "refs/heads/main",
            "refs/heads/a/b",
            "refs/heads/ä",
            "refs/heads/-x",
            "refs/heads/@",
            "refs/heads/a@b",
            "refs/heads/{",
            "refs/heads/a.b",
            "refs/heads/a.locked",
            "refs/uncommitted",
            "main",
            "",
            "refs/heads/",
            "refs//heads",
            "/refs/heads",
            "refs/heads/a..b",
            "refs/heads/.a",
            "refs/heads/a.",
            "refs/heads/a.lock",
            "refs/a.lock/b",
            "refs/heads/a b",
            "refs/heads/a~b",
            "refs/heads/a^b",
            "refs/heads/a:b",
            "refs/heads/a?b",
            "refs/heads/a*b",
            "refs/heads/a[b",
            "refs/heads/a\\b",
            "refs/heads/a@{b",
            "refs/heads/a\u{7f}b",
            "refs/heads/a\tb",
            "refs/heads/a\nb",
            "refs/heads/../x",
        ];
        let (mut good, mut bad) = (0, 0);
        for name in names {
            let git =
                Command::new("git").args(["check-ref-format", name]).status().expect("git runs").success();
            assert_eq!(refusal_of(name).is_none(), git, "{name:?}: {:?}", refusal_of(name));
            if git { good += 1 } else { bad += 1 }
        }
        assert!(good > 5 && bad > 5, "{good} {bad}");
        assert!(refusal_of(&format!("refs/heads/{}", "x".repeat(251))).is_some());
        assert!(refusal_of_branch("-x").is_some() && refusal_of_branch("HEAD").is_some());
        assert!(refusal_of_branch("fix/login").is_none());
    }
}
