//! The registry settings of the npm client's configuration files.
//!
//! Only files of the operator and the system are read, never an `.npmrc` of the working directory: a cloned
//! repository must not choose where programs come from or which host receives a token.

/// The settings of one file. Lines are `key=value`; `;` and `#` start comments; the last of two equal keys
/// wins.
#[derive(Debug, Clone, Default)]
pub(super) struct Npmrc {
    settings: Vec<(String, String)>,
}

impl Npmrc {
    /// Reads a file's text. `${NAME}` in a value stands for a variable, and stays as it is where that is not
    /// set.
    pub(super) fn parse(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let settings = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with([';', '#']))
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| {
                let value = value.trim().trim_matches(['"', '\'']);
                (key.trim().to_owned(), expand(value, variable))
            })
            .collect();
        Self { settings }
    }

    /// The value of a setting, if it has one.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let found = self.settings.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The registry for a package: the one of its scope, else the general one.
    pub(super) fn registry(&self, package: &str) -> Option<&str> {
        let scope = package.split_once('/').map(|(scope, _)| scope).filter(|scope| scope.starts_with('@'));
        scope.and_then(|scope| self.get(&format!("{scope}:registry"))).or_else(|| self.get("registry"))
    }

    /// The token for a registry. Keys are the URL without its scheme, from the most specific folder upwards:
    /// `//host/path/:_authToken`.
    pub(super) fn token(&self, registry: &str) -> Option<&str> {
        let (_, mut place) = registry.split_once(':')?;
        place = place.trim_end_matches('/');
        while place.len() > "//".len() {
            if let Some(token) =
                self.get(&format!("{place}/:_authToken")).or_else(|| self.get(&format!("{place}:_authToken")))
            {
                return Some(token);
            }
            place = place.rsplit_once('/')?.0;
        }
        None
    }
}

fn expand(value: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        expanded.push_str(before);
        match after.split_once('}') {
            Some((name, after)) => {
                expanded.push_str(&variable(name).unwrap_or_else(|| format!("${{{name}}}")));
                rest = after;
            }
            None => {
                expanded.push_str("${");
                rest = after;
            }
        }
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Npmrc {
        Npmrc::parse(text, &|name| (name == "TOKEN").then(|| "t0".to_owned()))
    }

    #[test]
    fn reads_settings_as_npm_does() {
        let npmrc = parse(
            "; a comment\nregistry = https://a.test/\n#x=y\nregistry=\"https://b.test/npm/\"\nempty=\n",
        );
        assert_eq!(npmrc.get("registry"), Some("https://b.test/npm/"));
        assert_eq!(npmrc.get("empty"), None);
        assert_eq!(npmrc.get("x"), None);
    }

    #[test]
    fn a_scope_has_its_own_registry() {
        let npmrc = parse("registry=https://a.test/\n@own:registry=https://own.test/");
        assert_eq!(npmrc.registry("@own/tool"), Some("https://own.test/"));
        assert_eq!(npmrc.registry("@other/tool"), Some("https://a.test/"));
        assert_eq!(npmrc.registry("tool"), Some("https://a.test/"));
    }

    #[test]
    fn a_token_is_for_its_registry_only() {
        let npmrc = parse("//a.test/npm/:_authToken=${TOKEN}\n//b.test/:_authToken=${UNSET}");
        assert_eq!(npmrc.token("https://a.test/npm/"), Some("t0"));
        assert_eq!(npmrc.token("https://a.test/npm/deeper/"), Some("t0"));
        assert_eq!(npmrc.token("https://a.test/"), None);
        assert_eq!(npmrc.token("https://evil-a.test/npm/"), None);
        assert_eq!(npmrc.token("https://b.test/x"), Some("${UNSET}"));
    }
}
