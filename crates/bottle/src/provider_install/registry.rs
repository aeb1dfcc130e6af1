//! Finds the registry that the host's npm client is configured with.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use zeroize::Zeroizing;

use super::{InstallError, npmrc::Npmrc};

/// A registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Registry {
    /// With a `/` at the end.
    pub(crate) url: String,
    /// The bearer token for the registry, if there is one.
    pub(crate) token: Option<Zeroizing<String>>,
    /// Certificate authorities that it may have besides the system's, PEM.
    pub(crate) authorities: Option<PathBuf>,
}

/// The system's configuration files of npm, besides the one under npm's own prefix.
const SYSTEM_FILES: [&str; 2] = ["/etc/npmrc", "/usr/etc/npmrc"];

/// The longest configuration file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

impl Registry {
    /// The registry for a package. Looked for in this order: `option`, `NPM_CONFIG_REGISTRY`, `~/.npmrc`, the
    /// system's `npmrc`, and what the `npm` program says.
    ///
    /// # Errors
    /// When none of them has a registry, or it is not a URL.
    pub(crate) fn find(
        option: Option<&str>,
        package: &str,
        home: &Path,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, InstallError> {
        let setting = |name: &str| {
            // npm takes both spellings (docs, "config": environment variables are not case-sensitive).
            let names = [format!("NPM_CONFIG_{name}"), format!("npm_config_{}", name.to_lowercase())];
            names.iter().find_map(|name| variable(name)).filter(|value| !value.is_empty())
        };
        let user = setting("USERCONFIG").map_or_else(|| home.join(".npmrc"), PathBuf::from);
        let mut paths = vec![user];
        match setting("GLOBALCONFIG") {
            Some(path) => paths.push(path.into()),
            None => {
                paths.extend(setting("PREFIX").map(|prefix| Path::new(&prefix).join("etc/npmrc")));
                paths.extend(SYSTEM_FILES.map(PathBuf::from));
            }
        }
        let files: Vec<Npmrc> = paths.iter().filter_map(|path| read(path, variable)).collect();

        let url = option
            .map(str::to_owned)
            .or_else(|| setting("REGISTRY"))
            .or_else(|| files.iter().find_map(|file| file.registry(package)).map(str::to_owned))
            .or_else(|| ask_npm(variable))
            .ok_or(InstallError::NoRegistry)?;
        let mut registry = Self::new(&url)?;
        registry.token =
            files.iter().find_map(|file| file.token(&registry.url)).map(|token| token.to_owned().into());
        registry.authorities = setting("CAFILE")
            .or_else(|| files.iter().find_map(|file| file.get("cafile")).map(str::to_owned))
            .map(PathBuf::from);
        Ok(registry)
    }

    /// The registry at this URL.
    ///
    /// # Errors
    /// When it is no URL of a registry.
    pub(crate) fn new(url: &str) -> Result<Self, InstallError> {
        let wrong = |why| InstallError::RegistryUrl { url: url.to_owned(), why };
        let parsed: ureq::http::Uri = url.trim().parse().map_err(|_| wrong("it cannot be read"))?;
        if !matches!(parsed.scheme_str(), Some("https" | "http")) {
            return Err(wrong("it does not start with https://"));
        }
        let host = parsed.authority().ok_or_else(|| wrong("it has no host"))?;
        if host.as_str().contains('@') {
            return Err(wrong("it has a login in it"));
        }
        if parsed.query().is_some() {
            return Err(wrong("it has a query"));
        }
        Ok(Self { url: format!("{}/", url.trim().trim_end_matches('/')), token: None, authorities: None })
    }

    /// Where the registry has the archive of a package: `<registry>/@scope/name/-/name-<version>.tgz`.
    pub(super) fn archive_url(&self, package: &str, version: &str) -> String {
        let name = package.rsplit('/').next().unwrap_or(package);
        format!("{}{package}/-/{name}-{version}.tgz", self.url)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("url", &self.url)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("authorities", &self.authorities)
            .finish()
    }
}

/// The text of a configuration file; `None` if it is missing or unreadable, which is npm's to report.
fn read(path: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Option<Npmrc> {
    if fs::metadata(path).ok()?.len() > MAX_FILE_BYTES {
        return None;
    }
    Some(Npmrc::parse(&fs::read_to_string(path).ok()?, variable))
}

/// Asks the `npm` program, which has a default registry.
fn ask_npm(variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let output = Command::new("npm")
        .args(["config", "get", "registry"])
        // Run in `/`, so that npm does not read an `.npmrc` of the working directory.
        .current_dir("/")
        .env("PATH", variable("PATH")?)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let url = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && url.starts_with("http")).then_some(url)
}

#[cfg(test)]
mod tests {
    use bot_bottle_core::error::Hint;

    use super::*;

    fn find(option: Option<&str>, variables: &[(&str, &str)], npmrc: &str) -> Result<Registry, InstallError> {
        let home = tempfile::tempdir().expect("a folder");
        fs::write(home.path().join(".npmrc"), npmrc).expect("a file");
        let none = home.path().join("none").display().to_string();
        let variable = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned()).or_else(|| {
                // The test's host may have its own npm configuration.
                (name == "NPM_CONFIG_GLOBALCONFIG").then(|| none.clone())
            })
        };
        Registry::find(option, "@scope/tool", home.path(), &variable)
    }

    #[test]
    fn the_nearest_word_counts() {
        let npmrc = "registry=https://file.test\n//file.test/:_authToken=t0\ncafile=/ca.pem";
        let variables = [("npm_config_registry", "https://variable.test/")];
        let url = |found: Result<Registry, _>| found.expect("a registry").url;
        assert_eq!(url(find(Some("https://option.test/npm"), &variables, npmrc)), "https://option.test/npm/");
        assert_eq!(url(find(None, &variables, npmrc)), "https://variable.test/");
        let found = find(None, &[], npmrc).expect("a registry");
        assert_eq!(found.url, "https://file.test/");
        assert_eq!(found.token.as_ref().map(|token| token.as_str()), Some("t0"));
        assert_eq!(found.authorities, Some("/ca.pem".into()));
        assert!(!format!("{found:?}").contains("t0"));
    }

    #[test]
    fn no_word_is_an_error_that_says_how_to_give_one() {
        let error = find(None, &[], "").expect_err("none");
        assert!(matches!(error, InstallError::NoRegistry), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("--registry URL")));
    }

    #[test]
    fn what_is_no_registry_is_refused() {
        for bad in ["", "host", "ftp://host/", "https://", "https://user:pass@host/", "https://host/?a=b"] {
            assert!(matches!(find(Some(bad), &[], ""), Err(InstallError::RegistryUrl { .. })), "{bad}");
        }
    }

    #[test]
    fn archives_lie_where_registries_have_them() {
        let registry = Registry::new("https://host.test/npm").expect("a registry");
        assert_eq!(
            registry.archive_url("@scope/tool", "1.2.3"),
            "https://host.test/npm/@scope/tool/-/tool-1.2.3.tgz"
        );
        assert_eq!(registry.archive_url("tool", "1.2.3-x"), "https://host.test/npm/tool/-/tool-1.2.3-x.tgz");
    }
}
