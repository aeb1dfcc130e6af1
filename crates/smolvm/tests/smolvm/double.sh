#!/bin/sh
# Plays smolvm with one machine, which is called `one`. Records what it is given, and does what the test put into
# `scenario`: functions that replace the ones here. `HOME` is the state directory.
printf '%s\n' "$*" >>"$HOME/calls"
env >"$HOME/environment"

version() { echo smolvm 1.32.2; }
fail() {
    printf '{"error":{"code":"%s","message":"%s"}}\n' "${2:-SMOLVM_ERROR}" "$1" >&2
    exit 1
}
network() { [ -e "$HOME/network" ] && echo true || echo false; }
machine() {
    printf '{"name":"one","state":"%s","cpus":1,"memory_mib":512,"labels":{"bottle":"x"},"network":%s}\n' \
        "$(cat "$HOME/machine")" "$(network)"
}
ls_() { if [ -e "$HOME/machine" ]; then echo "[$(machine)]"; else echo '[]'; fi; }
status() { if [ -e "$HOME/machine" ]; then machine; else fail 'vm not found: one' NOT_FOUND; fi; }
become() { echo "$1" >"$HOME/machine"; }
create() { become created; }
start() { become running; }
stop() { become stopped; }
delete() { rm "$HOME/machine"; }
data_dir() { echo "$HOME/data"; }
logs() { echo a line of the log; }
cp_() { :; }
exec_() { :; }

. "$HOME/scenario"

case "$*" in
    --version) version ;;
    *' machine ls '*) ls_ ;;
    *' machine status '*) status ;;
    *' machine create '*)
        case "$*" in *' --net '*) : >"$HOME/network" ;; esac
        create
        ;;
    *' machine start '*) start ;;
    *' machine stop '*) stop ;;
    *' machine delete '*) delete ;;
    *' machine data-dir '*) data_dir ;;
    *' machine logs '*) logs ;;
    *' machine cp '*) cp_ ;;
    *' machine exec '*) exec_ ;;
    *) echo "error: unexpected arguments: $*" >&2; exit 2 ;;
esac
