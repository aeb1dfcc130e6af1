//! smolvm failing at each call of a launch: one error, which says where, and nothing stays that `cleanup` does not
//! remove once smolvm works again.

use std::fs;

use anyhow::{Result, ensure};

use crate::{fixture::described, refused::StandIn};

/// A smolvm with one machine that never runs anything. Its state is in its own folder; `FOLDER/scenario` replaces
/// functions of it.
const DOUBLE: &str = r#"
for word; do
    case $word in
        --name=*) name=${word#--name=} ;;
        --label=bot-bottle.run=*) run=${word#--label=bot-bottle.run=} ;;
    esac
done
fail() { printf '{"error":{"code":"SMOLVM_ERROR","message":"%s"}}\n' "$1" >&2; exit 1; }
status() {
    [ -e "$HOME/machine" ] || fail 'vm not found'
    . "$HOME/machine"
    printf '{"name":"%s","state":"%s","cpus":2,"memory_mib":4096,"labels":{"bot-bottle.run":"%s"},"network":true}\n' \
        "$name" "$state" "$run"
}
become() { . "$HOME/machine"; printf 'name=%s run=%s state=%s\n' "$name" "$run" "$1" > "$HOME/machine"; }
create() { printf 'name=%s run=%s state=created\n' "$name" "$run" > "$HOME/machine"; }
start() { become running; }
stop() { become stopped; }
delete() { rm "$HOME/machine"; }
probe() { :; }
init() { exit 3; }
. FOLDER/scenario
case "$*" in
    --version) echo smolvm 1.32.2 ;;
    *' machine ls '*) if [ -e "$HOME/machine" ]; then echo "[$(status)]"; else echo '[]'; fi ;;
    *' machine status '*) status ;;
    *' machine create '*) create ;;
    *' machine start '*) start ;;
    *' machine stop '*) stop ;;
    *' machine delete '*) delete ;;
    *' machine data-dir '*) echo "$HOME/data" ;;
    *' machine exec '*' --version') probe ;;
    *' machine exec '*) init ;;
    *) exit 2 ;;
esac
"#;

/// What is replaced, what the one error says, and whether the machine stays until `cleanup`.
const FAILURES: [(&str, &[&str], bool); 8] = [
    ("create() { fail 'no space left'; }", &["creating the machine", "no space left"], false),
    ("start() { fail 'kvm not available'; }", &["starting the machine", "kvm not available"], false),
    ("start() { :; }", &["starting the machine", "created"], false),
    (
        "probe() { become stopped; fail 'connection refused'; }",
        &["exec channel not ready", "connection refused"],
        false,
    ),
    (
        "probe() { fail 'connection refused'; }",
        &["exec channel not ready after", "connection refused"],
        false,
    ),
    ("init() { exit 3; }", &["machine's workload"], false),
    (
        "start() { fail 'kvm not available'; }; delete() { fail 'locked'; }",
        &["starting the machine", "kvm not available"],
        true,
    ),
    (
        "start() { become running; fail 'too late'; }; stop() { fail 'no answer'; }",
        &["starting the machine", "too late"],
        true,
    ),
];

#[test]
fn a_smolvm_that_fails_at_any_call_is_one_error_and_leaves_nothing() -> Result<()> {
    let stand_in = StandIn::new("")?;
    let double = format!("#!/bin/sh{}", DOUBLE.replace("FOLDER", &stand_in.home().to_string_lossy()));
    fs::write(stand_in.home().join("smolvm"), double)?;
    let play = |scenario: &str| fs::write(stand_in.home().join("scenario"), scenario);
    let state = stand_in.home().join(".bot-bottle/state");
    let runs = || {
        let entries = fs::read_dir(&state).into_iter().flatten().flatten();
        entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count()
    };
    let machine = stand_in.home().join(".bot-bottle/vm/machine");
    for (scenario, texts, stays) in FAILURES {
        play(scenario)?;
        let options = ["run", "--backend", "smolmachines", "--image", "/", "--", "true"];
        let message = described(&stand_in.command(&options)?.output()?);
        let errors = message.lines().filter(|line| line.contains("error: ")).count();
        ensure!(errors == 1, "{scenario}: {errors} errors: {message}");
        for text in texts {
            ensure!(message.contains(text), "{scenario}: no {text:?} in {message}");
        }
        ensure!((machine.exists(), runs() == 1) == (stays, stays), "{scenario}: {message}");
        play("")?;
        let cleaned = stand_in.command(&["cleanup", "--yes"])?.output()?;
        ensure!(cleaned.status.success(), "{scenario}: {}", described(&cleaned));
        ensure!(!machine.exists() && runs() == 0, "{scenario}: {}", described(&cleaned));
    }
    Ok(())
}
