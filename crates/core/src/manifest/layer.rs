//! Layers: the content of one bottle file, and the merge of several into one bottle.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    bottle::{
        BackendName, Bottle, CiFiles, EgressLog, EgressSettings, EnvEntry, GitKey, GitRemote, GitSettings,
        GitUser, Origin, Provenance, ProviderSettings, PushRules, WorkspaceMode, WorkspacePath,
        WorkspaceSettings,
    },
    host::HostPattern,
    limits::Limits,
    policy::Route,
    provider::{self, BaseUrl, ExtraRoute},
    secret::SecretRef,
};

use super::{
    diagnostic::{At, Diagnostic, Problem},
    reader::Given,
};

/// The content of one bottle file. Absent keys stay absent, so that layers can be merged in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    pub(super) backend: Given<BackendName>,
    pub(super) provider: ProviderLayer,
    pub(super) env: BTreeMap<String, EnvEntry>,
    pub(super) user: UserLayer,
    pub(super) remotes: BTreeMap<String, RemoteLayer>,
    pub(super) log: Given<EgressLog>,
    pub(super) routes: Routes,
    pub(super) workspace: WorkspaceLayer,
    pub(super) supervise: Given<bool>,
    pub(super) limits: Limits,
}

#[derive(Debug, Clone, Default)]
pub(super) struct ProviderLayer {
    pub(super) template: Given<String>,
    pub(super) image: Given<String>,
    pub(super) dockerfile: Given<PathBuf>,
    pub(super) auth_token: Given<SecretRef>,
    pub(super) forward_host_credentials: Given<bool>,
    pub(super) api_key: Given<SecretRef>,
    pub(super) base_url: Given<BaseUrl>,
    pub(super) extra_routes: Vec<ExtraRoute>,
    pub(super) settings: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct WorkspaceLayer {
    pub(super) mode: Given<WorkspaceMode>,
    pub(super) exclude: Vec<String>,
    pub(super) path: Given<WorkspacePath>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct UserLayer {
    pub(super) name: Option<String>,
    pub(super) email: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct RemoteLayer {
    /// The remote's name in the last file that mentions it.
    pub(super) at: At,
    pub(super) url: Given<String>,
    pub(super) host_key: Given<String>,
    pub(super) key: Given<GitKey>,
    pub(super) token_ref: Given<SecretRef>,
    pub(super) push: PushLayer,
}

#[derive(Debug, Clone, Default)]
pub(super) struct PushLayer {
    pub(super) branches: Given<Vec<String>>,
    pub(super) tags: Given<bool>,
    pub(super) force: Given<bool>,
    pub(super) delete: Given<bool>,
    pub(super) ci_files: Given<CiFiles>,
}

/// Routes in the order of their first mention, one per host pattern.
#[derive(Debug, Clone, Default)]
pub(super) struct Routes {
    routes: Vec<Route>,
    by_host: BTreeMap<HostPattern, usize>,
}

impl Routes {
    /// Adds a route, or replaces the route of the same host in place.
    pub(super) fn put(&mut self, route: Route) {
        match self.by_host.get(&route.host) {
            Some(&index) => self.routes[index] = route,
            None => {
                self.by_host.insert(route.host.clone(), self.routes.len());
                self.routes.push(route);
            }
        }
    }
}

impl Layer {
    /// Merges with `over`, whose values win.
    pub(super) fn overlaid(mut self, over: Self) -> Self {
        self.env.extend(over.env);
        for (name, remote) in over.remotes {
            let merged = match self.remotes.remove(&name) {
                Some(below) => below.overlaid(remote),
                None => remote,
            };
            self.remotes.insert(name, merged);
        }
        for route in over.routes.routes {
            self.routes.put(route);
        }
        Self {
            backend: self.backend.overlaid(over.backend),
            provider: self.provider.overlaid(over.provider),
            env: self.env,
            user: UserLayer {
                name: over.user.name.or(self.user.name),
                email: over.user.email.or(self.user.email),
            },
            remotes: self.remotes,
            log: self.log.overlaid(over.log),
            routes: self.routes,
            workspace: self.workspace.overlaid(over.workspace),
            supervise: self.supervise.overlaid(over.supervise),
            limits: Limits {
                memory: over.limits.memory.or(self.limits.memory),
                cpus: over.limits.cpus.or(self.limits.cpus),
                pids: over.limits.pids.or(self.limits.pids),
                disk: over.limits.disk.or(self.limits.disk),
                time: over.limits.time.or(self.limits.time),
            },
        }
    }

    /// Problems that show only in the merged result: contradictions and missing fields.
    pub(super) fn contradictions(&self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        let provider = &self.provider;
        let token = provider.auth_token.given().map(|(_, at)| ("auth_token", at));
        let key = provider.api_key.given().map(|(_, at)| ("api_key", at));
        let template = provider.template.given().map_or("claude", |(name, _)| name.as_str());
        let takes_token = provider::by_name(template).is_some_and(|found| found.token_login().is_some());
        if let Some((_, at)) = token
            && !takes_token
        {
            let message = format!("`auth_token` is no way to log in for `{template}`");
            let hint =
                "write `api_key: NAME`, or `forward_host_credentials: true` to use the login of this host";
            found.push(Problem::at(at.span, message).hint(hint).into_diagnostic(&at.source));
        }
        let forward = provider.forward_host_credentials.given().filter(|(value, _)| **value);
        let forward = forward.map(|(_, at)| ("forward_host_credentials", at));
        for (one, other) in [(token, forward), (token, key), (key, forward)] {
            let (Some((name, at)), Some((other_name, other_at))) = (one, other) else { continue };
            let problem = Problem::at(
                other_at.span,
                format!("`{other_name}` and `{name}` are two ways to log in, and both are given"),
            );
            let hint = match other_name {
                "forward_host_credentials" => {
                    "keep one: take the other out, or write `forward_host_credentials: false`"
                }
                _ => "keep one: take the other out",
            };
            let problem = problem.related(at.clone(), format!("`{name}` is here")).hint(hint);
            found.push(problem.into_diagnostic(&other_at.source));
        }
        if let (Some((_, image)), Some((_, dockerfile))) =
            (provider.image.given(), provider.dockerfile.given())
        {
            let problem =
                Problem::at(dockerfile.span, "`dockerfile` and `image` both say where the image comes from");
            let problem = problem
                .related(image.clone(), "`image` is here")
                .hint("keep one: take the other out, or name the image in the Dockerfile, as `FROM`");
            found.push(problem.into_diagnostic(&dockerfile.source));
        }
        for (name, remote) in &self.remotes {
            remote.contradictions(name, &mut found);
        }
        found
    }

    pub(super) fn into_bottle(self) -> Bottle {
        let from_bottle = |value: String| Provenance { value, from: Origin::Bottle };
        let remotes = self.remotes.into_iter().filter_map(|(name, remote)| Some((name, remote.finished()?)));
        Bottle {
            backend: self.backend.value(),
            provider: ProviderSettings {
                template: self.provider.template.value(),
                image: self.provider.image.value(),
                dockerfile: self.provider.dockerfile.value(),
                auth_token: self.provider.auth_token.value(),
                forward_host_credentials: self.provider.forward_host_credentials.value().unwrap_or(false),
                api_key: self.provider.api_key.value(),
                base_url: self.provider.base_url.value(),
                extra_routes: self.provider.extra_routes,
                settings: self.provider.settings,
            },
            env: self.env,
            git: GitSettings {
                user: GitUser {
                    name: self.user.name.map(from_bottle),
                    email: self.user.email.map(from_bottle),
                },
                remotes: remotes.collect(),
            },
            egress: EgressSettings { log: self.log.value().unwrap_or_default(), routes: self.routes.routes },
            workspace: WorkspaceSettings {
                mode: self.workspace.mode.value().unwrap_or_default(),
                exclude: self.workspace.exclude,
                path: self.workspace.path.value().unwrap_or_default(),
            },
            supervise: self.supervise.value(),
            limits: self.limits,
        }
    }
}

impl WorkspaceLayer {
    fn overlaid(mut self, over: Self) -> Self {
        for pattern in over.exclude {
            if !self.exclude.contains(&pattern) {
                self.exclude.push(pattern);
            }
        }
        Self {
            mode: self.mode.overlaid(over.mode),
            exclude: self.exclude,
            path: self.path.overlaid(over.path),
        }
    }
}

impl ProviderLayer {
    fn overlaid(mut self, over: Self) -> Self {
        self.settings.extend(over.settings);
        for route in over.extra_routes {
            if !self.extra_routes.contains(&route) {
                self.extra_routes.push(route);
            }
        }
        // Either says where the image comes from, so it replaces the other one of a parent.
        if !over.dockerfile.is_absent() {
            self.image = Given::Absent;
        }
        if !over.image.is_absent() {
            self.dockerfile = Given::Absent;
        }
        Self {
            template: self.template.overlaid(over.template),
            image: self.image.overlaid(over.image),
            dockerfile: self.dockerfile.overlaid(over.dockerfile),
            auth_token: self.auth_token.overlaid(over.auth_token),
            forward_host_credentials: self.forward_host_credentials.overlaid(over.forward_host_credentials),
            api_key: self.api_key.overlaid(over.api_key),
            base_url: self.base_url.overlaid(over.base_url),
            extra_routes: self.extra_routes,
            settings: self.settings,
        }
    }
}

impl RemoteLayer {
    fn overlaid(self, over: Self) -> Self {
        let (push, over_push) = (self.push, over.push);
        Self {
            at: over.at,
            url: self.url.overlaid(over.url),
            host_key: self.host_key.overlaid(over.host_key),
            key: self.key.overlaid(over.key),
            token_ref: self.token_ref.overlaid(over.token_ref),
            push: PushLayer {
                branches: push.branches.overlaid(over_push.branches),
                tags: push.tags.overlaid(over_push.tags),
                force: push.force.overlaid(over_push.force),
                delete: push.delete.overlaid(over_push.delete),
                ci_files: push.ci_files.overlaid(over_push.ci_files),
            },
        }
    }

    fn contradictions(&self, name: &str, found: &mut Vec<Diagnostic>) {
        let mut report = |at: &At, message: String, hint: &str| {
            found.push(Problem::at(at.span, message).hint(hint).into_diagnostic(&at.source));
        };
        let Some((url, url_at)) = self.url.given() else {
            if self.url.is_absent() {
                let message = format!("the remote `{name}` has no `url`");
                report(&self.at, message, "write where it leads: `url: ssh://git@github.com/me/app.git`");
            }
            return;
        };
        if url.starts_with("ssh://") {
            if self.host_key.is_absent() {
                let message = format!("the remote `{name}` is reached over ssh and has no `host_key`");
                let hint = "write the server's public key, `host_key: \"ssh-ed25519 AAAA…\"`, as its operator \
                            publishes it; no key is trusted on first use";
                report(url_at, message, hint);
            }
            if let Some((_, at)) = self.token_ref.given() {
                let message =
                    format!("`token_ref` is for https, and the remote `{name}` is reached over ssh");
                report(at, message, "take it out, or write an `https://` address");
            }
        } else {
            let ssh_only = [
                ("host_key", self.host_key.given().map(|(_, at)| at)),
                ("key", self.key.given().map(|(_, at)| at)),
            ];
            for (key, at) in ssh_only {
                if let Some(at) = at {
                    let message =
                        format!("`{key}` is for ssh, and the remote `{name}` is reached over https");
                    report(at, message, "take it out and use `token_ref`, or write an `ssh://` address");
                }
            }
        }
    }

    /// `None` if there is no usable address, which has been reported.
    fn finished(self) -> Option<GitRemote> {
        let defaults = PushRules::default();
        Some(GitRemote {
            url: self.url.value()?,
            host_key: self.host_key.value(),
            key: self.key.value(),
            token_ref: self.token_ref.value(),
            push: PushRules {
                branches: self.push.branches.value().or(defaults.branches),
                tags: self.push.tags.value().unwrap_or(defaults.tags),
                force: self.push.force.value().unwrap_or(defaults.force),
                delete: self.push.delete.value().unwrap_or(defaults.delete),
                ci_files: self.push.ci_files.value().unwrap_or(defaults.ci_files),
            },
        })
    }
}
