//! Every rule finds its examples, none of its counterexamples; an operator's own files load, or say why not.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bot_bottle_scan::{
    Engine, RuleSet,
    checksum::base62_crc32_of,
    engine::Source,
    rules::{LoadError, load},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    id: String,
    examples: Vec<String>,
    counterexamples: Vec<String>,
}

/// Draws characters; the same for every run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % below
    }

    fn text(&mut self, class: &str, count: usize) -> String {
        let upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let lower = "abcdefghijklmnopqrstuvwxyz";
        let digits = "0123456789";
        let characters = match class {
            "alnum" => format!("{upper}{lower}{digits}"),
            "hex" => format!("{digits}abcdef"),
            "lower" => format!("{lower}{digits}"),
            "upper" => format!("{upper}{digits}"),
            "b64" => format!("{upper}{lower}{digits}+/"),
            "url" => format!("{upper}{lower}{digits}_-"),
            "dig" => digits.to_owned(),
            "b32" => format!("{upper}234567"),
            "word" => format!("{upper}{lower}{digits}_"),
            "alpha" => format!("{upper}{lower}"),
            other => panic!("no class {other}"),
        };
        let characters = characters.as_bytes();
        (0..count).map(|_| char::from(characters[self.next(characters.len())])).collect()
    }

    fn expand(&mut self, template: &str) -> String {
        let mut out = String::new();
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            let (before, after) = rest.split_at(open);
            out.push_str(before);
            let Some(close) = after.find('}') else { break };
            let parts: Vec<&str> = after[1..close].split(':').collect();
            match parts[..] {
                ["uuid"] => {
                    let part: Vec<String> = [8, 4, 4, 4, 12].map(|count| self.text("hex", count)).into();
                    out.push_str(&part.join("-"));
                }
                ["jwt"] => {
                    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
                    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"{}"}}"#, self.text("alnum", 20)));
                    out.push_str(&format!("{header}.{claims}.{}", self.text("url", 43)));
                }
                ["crc32", prefix, count] => {
                    let body = self.text("alnum", count.parse().expect("a count"));
                    let sum = base62_crc32_of(body.as_bytes()).map(char::from);
                    out.push_str(prefix);
                    out.push_str(&body);
                    out.extend(sum);
                }
                [class, count] => out.push_str(&self.text(class, count.parse().expect("a count"))),
                _ => out.push_str(&after[..=close]),
            }
            rest = &after[close + 1..];
        }
        out + rest
    }
}

#[test]
fn every_rule_finds_its_examples_and_not_its_counterexamples() {
    let file: File = toml::from_str(include_str!("../src/rules/built_in.toml")).expect("TOML");
    let set = RuleSet::built_in();
    assert_eq!(set.warnings, []);
    assert!(file.rules.len() >= 200, "{} rules", file.rules.len());
    let engine = Engine::new(set).expect("an engine");
    let mut wrong = Vec::new();
    for (number, rule) in file.rules.iter().enumerate() {
        assert!(!rule.examples.is_empty() && !rule.counterexamples.is_empty(), "{} lacks examples", rule.id);
        let mut random = Random(number as u64 + 1);
        let mut finds = |template: &String| {
            let text = random.expand(template);
            let found = engine.find(text.as_bytes(), Source::default());
            (found.iter().any(|finding| finding.rule == rule.id), text)
        };
        for template in &rule.examples {
            let (found, text) = finds(template);
            if !found {
                wrong.push(format!("{} misses {text}", rule.id));
            }
        }
        for template in &rule.counterexamples {
            let (found, text) = finds(template);
            if found {
                wrong.push(format!("{} finds {text}", rule.id));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_rule_is_an_error_with_its_line_and_name() {
    let error = load("title = 'x'\n\n[[rules]]\nid = 'broken'\nregex = '('\nkeywords = ['x']\n", "own.toml")
        .expect_err("the expression is broken");
    assert!(matches!(&error, LoadError::Rule { line: 4, rule, .. } if rule == "broken"), "{error}");
    let error =
        load("[[rules]]\nid = 'g'\nregex = 'x'\nsecretGroup = 2\n", "own.toml").expect_err("no group");
    assert!(error.to_string().contains("secretGroup is 2"), "{error}");
}

#[test]
fn what_is_not_honoured_is_named() {
    let text = "[extend]\nuseDefault = true\ndisabledRules = ['iban']\n\n[[rules]]\nid = 'one'\nregex = 'tok_([a-z]{8})'\n\
                keywords = ['tok_']\nfilter = 'entropy(x) > 3'\n[[rules.allowlists]]\ncondition = 'AND'\n\
                paths = ['^docs/']\nstopwords = ['demo']\n";
    let set = load(text, "own.toml").expect("it loads");
    assert_eq!(
        set.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["own.toml: rule \"one\": \"filter\" is not honoured"]
    );
    assert!(set.rules.iter().all(|rule| rule.id != "iban"));
    assert!(set.rules.len() > 200);
    let engine = Engine::new(set).expect("an engine");
    let in_docs = Source { path: Some("docs/a.md"), commit: None };
    assert!(engine.find(b"tok_abcdemox", in_docs).is_empty(), "both conditions hold");
    assert_eq!(engine.find(b"tok_abcdemox", Source::default()).len(), 1, "only one of two holds");
    assert_eq!(engine.find(b"tok_abcdefgh", in_docs)[0].secret, 4..12);
}
