//! Folds the named bottles and their parents into one bottle.

use std::collections::{BTreeMap, BTreeSet};

use crate::{bottle::Bottle, suggest::closest};

use super::{
    Manifest,
    diagnostic::{At, Diagnostic, Problem},
    layer::Layer,
    source::quoted,
};

/// A bottle named by an agent or an option.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'m> {
    pub(super) name: &'m str,
    /// Where it is named; `None`: by an option.
    pub(super) at: Option<&'m At>,
}

/// The state of one fold over bottles and their parents, which visits each bottle once.
struct Fold<'m> {
    manifest: &'m Manifest,
    merged: Layer,
    done: BTreeSet<&'m str>,
    diagnostics: Vec<Diagnostic>,
}

/// A bottle on the path from a wanted bottle to the current parent.
struct FoldStep<'m> {
    name: &'m str,
    parents: std::slice::Iter<'m, (String, At)>,
}

/// The names without repetitions, in order.
pub(super) fn names_once(wanted: &[Wanted<'_>]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for wanted in wanted {
        if !names.iter().any(|name| name == wanted.name) {
            names.push(wanted.name.to_owned());
        }
    }
    names
}

impl Manifest {
    /// Merges the bottles and their parents, each once, and collects the problems of all of them.
    pub(super) fn fold(&self, wanted: &[Wanted<'_>]) -> (Bottle, Vec<Diagnostic>) {
        let mut fold =
            Fold { manifest: self, merged: Layer::default(), done: BTreeSet::new(), diagnostics: Vec::new() };
        for wanted in wanted {
            fold.add(*wanted);
        }
        let Fold { merged, mut diagnostics, .. } = fold;
        diagnostics.extend(merged.contradictions());
        (merged.into_bottle(), diagnostics)
    }
}

impl<'m> Fold<'m> {
    /// Merges a bottle after its parents. The path is a list, not recursion, because a chain may be as long
    /// as there are files.
    fn add(&mut self, wanted: Wanted<'_>) {
        let mut path: Vec<FoldStep<'m>> = Vec::new();
        let mut on_path: BTreeMap<&'m str, usize> = BTreeMap::new();
        self.enter(wanted.name, wanted.at, &mut path, &mut on_path);
        while let Some(step) = path.last_mut() {
            if let Some((parent, at)) = step.parents.next() {
                self.enter(parent, Some(at), &mut path, &mut on_path);
                continue;
            }
            let name = step.name;
            path.pop();
            on_path.remove(name);
            self.done.insert(name);
            if let Some(file) = self.manifest.bottles.get(name) {
                self.diagnostics.extend(file.diagnostics.iter().cloned());
                self.merged = std::mem::take(&mut self.merged).overlaid(file.value.layer.clone());
            }
        }
    }

    fn enter(
        &mut self,
        name: &str,
        at: Option<&At>,
        path: &mut Vec<FoldStep<'m>>,
        on_path: &mut BTreeMap<&'m str, usize>,
    ) {
        let Some((name, file)) = self.manifest.bottles.get_key_value(name) else {
            self.missing(name, at);
            return;
        };
        if let Some(start) = on_path.get(name.as_str()) {
            let chain: Vec<&str> = path[*start..].iter().map(|step| step.name).collect();
            self.cycle(&chain, at);
            return;
        }
        if self.done.contains(name.as_str()) {
            return;
        }
        on_path.insert(name, path.len());
        path.push(FoldStep { name, parents: file.value.extends.iter() });
    }

    fn missing(&mut self, name: &str, at: Option<&At>) {
        let names = || self.manifest.bottles.keys().map(String::as_str);
        let hint = match closest(name, names()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if self.manifest.bottles.is_empty() => {
                "there is none yet: `bot-bottle init` writes a first one".to_owned()
            }
            None => format!("there are {}", super::listed(names())),
        };
        let message = format!("there is no bottle {}", quoted(name));
        self.diagnostics.push(match at {
            Some(at) => Problem::at(at.span, message).hint(hint).into_diagnostic(&at.source),
            None => Diagnostic::without_position(None, message).hint(hint),
        });
    }

    fn cycle(&mut self, chain: &[&str], at: Option<&At>) {
        let Some(at) = at else { return };
        let message = match chain {
            [name] => format!("the bottle `{name}` extends itself"),
            names => format!("bottles extend each other in a circle: {} → {}", names.join(" → "), names[0]),
        };
        let hint = "take one of the names out of `extends`";
        self.diagnostics.push(Problem::at(at.span, message).hint(hint).into_diagnostic(&at.source));
    }
}
