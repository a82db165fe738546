#!/bin/sh
# One task of the crash campaign: proves by files of its own what ran, how often, and beside what.
#
# usage: task.sh LABEL SECONDS FAILS STRAGGLER
#   FAILS: how many of its runs fail. STRAGGLER: what it leaves behind: 0 nothing, 1 a child that holds the slot's lock,
#   2 one that has dropped it, 3 one that has also left the process group.
#
# Trusts nothing of the manager's but the names in its environment: exclusive creation decides, and a marker of a run
# that was killed is told from one of a run that lives by pid and start time of its process. Between containers pids mean
# nothing; there a run holds a fifo open, and so do the children that it leaves behind.

set -u
label=$1 seconds=$2 fails=$3 straggler=$4
ws=$AIR_WORKSPACE slot=$AIR_SLOT run=$AIR_RUN_ID
# Pods without a volume share their workspace with nobody while they run.
if [ -n "${CRASH_MARKS-}" ]; then ws=$CRASH_MARKS/$AIR_JOB_ID && mkdir -p "$ws"; fi
busy=$ws/slot-$slot.busy

violation() {
    echo "$label $run: $*" >>"$ws/violations"
}

# Sets `start` to the start time of process $1; fails if it is dead.
look() {
    [ -n "$1" ] || return 1 # killed while it wrote its marker
    read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
    stat=${stat##*) }
    # shellcheck disable=SC2086 # splitting is the point
    set -- $stat
    case $1 in Z | X) return 1 ;; esac
    start=${20}
}

# Tells whether the process with pid $1 and start time $2 is alive, or anything of run $3 where that is what counts.
alive() {
    if [ -p "$ws/pulse.$3" ]; then
        # Who reads has the end at once when nobody could write any more. To open it without waiting takes somebody who
        # could: ourselves, for a moment.
        # shellcheck disable=SC2094
        exec 6<>"$ws/pulse.$3" 5<"$ws/pulse.$3" 6>&-
        ! timeout 5 cat <&5
        return
    fi
    look "$1" && [ "$start" = "$2" ]
}

# --- the run begins: once, and alone in its slot

set -C
true 2>/dev/null >"$ws/begin.$label.$run" || violation 'began twice'
set +C

echo '{"usage": {"runs": 1}}' >>"$AIR_QUEUE" || exit 1 # counts once, however this run ends

case $ws in /air/* | /marks/*) mkfifo "$ws/pulse.$run" && exec 7<>"$ws/pulse.$run" ;; esac
look "$$"
me="$$ $start $run"
echo "$me" >"$ws/tmp.$run"
tries=0
until ln "$ws/tmp.$run" "$busy" 2>/dev/null; do
    tries=$((tries + 1))
    if [ "$tries" -gt 20 ]; then
        violation "cannot create $busy"
        break
    fi
    read -r pid began other 2>/dev/null <"$busy" || continue
    if alive "$pid" "$began" "$other"; then
        violation "slot $slot is taken by run $other, pid $pid"
        break
    fi
    rm -f "$busy"
done
rm -f "$ws/tmp.$run"
for mark in "$ws/straggler-$slot".*; do
    [ -e "$mark" ] || continue
    read -r pid began other <"$mark"
    if alive "$pid" "$began" "$other"; then violation "run $other left pid $pid in slot $slot"; fi
done

finish() {
    read -r holder 2>/dev/null <"$busy" || holder=nobody
    [ "$holder" = "$me" ] || violation "slot $slot was taken by $holder meanwhile"
    mv "$busy" "$ws/$1.$label.$run"
}

# --- work

if [ "$fails" -gt 0 ]; then
    set -- "$ws/failed.$label".*
    [ -e "$1" ] || set --
    if [ $# -lt "$fails" ]; then
        # What a failed run queues must never exist.
        printf '{"command": ["./task.sh", "poison-%s", "0", "0", "0"]}\n' "$label" >>"$AIR_QUEUE"
        finish failed
        exit 1
    fi
fi
if [ "$seconds" != 0 ]; then sleep "$seconds"; fi
case $straggler in
    1) sleep 30 & ;;
    2) sleep 30 9>&- & ;;
    3) setsid sleep 30 9>&- & ;;
esac
if [ "$straggler" != 0 ] && look "$!"; then echo "$! $start $run" >"$ws/straggler-$slot.$run"; fi
# Each of these may be the process that is killed: a task that goes on without it would call its own loss a success.
if [ -e "plan/$label.jsonl" ]; then cat "plan/$label.jsonl" >>"$AIR_QUEUE" || exit 1; fi
case $label in
    *merge) cp "$AIR_INPUTS" "$ws/inputs.$label.$run" || exit 1 ;;
esac
items=
if [ -e "plan/$label.items" ]; then items=", \"items\": $(cat "plan/$label.items")" || exit 1; fi
printf '{"label": "%s", "run": "%s"%s}' "$label" "$run" "$items" >"$AIR_RESULT"
if [ -n "${CRASH_MARKS-}" ]; then : >"$AIR_WORKSPACE/done.$label.$run" || exit 1; fi
finish end
