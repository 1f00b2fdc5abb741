#!/usr/bin/env bash
# Checks the model of the protocol, docs/model/turnstile.pml; see usage() below.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/model.sh             check the model; about two minutes on one core
       scripts/model.sh --large     the same, and once more with larger bounds; about ten minutes
       scripts/model.sh --trace RUN the shortest run to the error of one line of the table

Needs spin and gcc (Debian: apt-get install spin gcc libc6-dev). It runs

  the protocol     every reachable state within the bounds: no error may be found
  without a guard  each guard left out in turn: an error must be found
  redundant        guards whose lack must do no harm, all left out at once: no error
  witnesses        each interesting state must be reached, else "no error" would mean nothing

and exits with 1 when any of that is otherwise. A search without error counts only when
pan says that it was complete. docs/model/README.md explains the model and its bounds.

Examples:
  scripts/model.sh
  scripts/model.sh --trace own-write
  SPIN_JOBS=1 scripts/model.sh      one search at a time (default: one for each core)
USAGE
}

die() {
  printf '%s\n' "model.sh: $1" "  next step: $2" >&2
  exit "${3:-1}"
}

model=$(cd "$(dirname "$0")/.." && pwd)/docs/model/turnstile.pml
jobs=${SPIN_JOBS:-$(nproc)}

# All faults but the cut: with a volume that went back, losing a turn is not our error.
faults="-DEVICT -DCRASH -DLOSE -DPOWER -DFAIL -DSTALE"
# … and those that leave an agent its memory.
alive="-DEVICT -DLOSE -DFAIL -DSTALE"

# name | what it shows | spin's settings
protocol="
safety       | one turn under way, 2+1 turns, any 1 fault          | $faults -DFAULTS=1 -DFEWER=1
safety-two   | two under way, 2+1 turns, 1 fault, no death         | $alive -DFAULTS=1 -DFEWER=1 -DUNDER_WAY=2
safety-death | two under way, 2+1 turns, 1 death                   | -DCRASH -DFAULTS=1 -DFEWER=1 -DUNDER_WAY=2
safety-twice | one under way, 2+1 turns, 2 faults, no death        | $alive -DFAULTS=2 -DFEWER=1
safety-full  | two under way, 2+2 turns, no fault                  | -DFAULTS=0 -DUNDER_WAY=2
disk-twice   | 1+1 turns, 2 of death and failed sync               | -DCRASH -DFAIL -DFAULTS=2 -DRECORDS=1
anybody      | 1+1 turns, 1 failed sync, all settle any turn       | -DFAIL -DFAULTS=1 -DRECORDS=1 -DANYBODYS
three-agents | 3 agents, 1 turn each, no fault                     | -DFAULTS=0 -DAGENTS=3 -DRECORDS=1
cut          | 2+1 turns, the file is cut                          | -DCUT -DFAULTS=1 -DFEWER=1
liveness     | one under way, 1+1 turns, 1 fault, no death         | -DEVICT -DLOSE -DFAIL -DFAULTS=1 -DRECORDS=1 -DLIVENESS
liveness-two | two under way, 2+1 turns, no fault                  | -DFAULTS=0 -DFEWER=1 -DUNDER_WAY=2 -DLIVENESS
"
larger="
large-safety   | one under way, 2+2 turns, any 1 fault             | $faults -DFAULTS=1
large-two      | two under way, 2+1 turns, any 1 fault             | $faults -DFAULTS=1 -DFEWER=1 -DUNDER_WAY=2
large-alive    | two under way, 2+2 turns, 1 fault, no death       | $alive -DFAULTS=1 -DUNDER_WAY=2
large-twice    | 1+1 turns, any 2 faults                           | $faults -DFAULTS=2 -DRECORDS=1
large-anybody  | 1+1 turns, any 1 fault, all settle any turn       | $faults -DFAULTS=1 -DRECORDS=1 -DANYBODYS
large-cut      | 1+1 turns, the file is cut, and 1 fault           | -DCUT -DEVICT -DCRASH -DLOSE -DFAULTS=2 -DRECORDS=1
large-liveness | one under way, 1+1 turns, any 1 fault             | $faults -DFAULTS=1 -DRECORDS=1 -DLIVENESS
"
# The faults are those that the guard is there for.
guards="
commit-first    | written after the commit, not before             | -DFAULTS=0 -DNO_COMMIT_FIRST
place           | the commit deletes our own place                 | -DLOSE -DFAULTS=1 -DNO_PLACE
head-version    | ... names head's version (without fresh-head)    | -DSTALE -DFAULTS=1 -DNO_FRESH_HEAD -DNO_BEYOND -DNO_HEAD_VERSION
fresh-head      | head names the predecessor, or list again        | -DSTALE -DFAULTS=1 -DNO_FRESH_HEAD
confirm         | refused only while a quorum has our place        | -DSTALE -DEVICT -DFAULTS=2 -DNO_CONFIRM
look-again      | not refused at the first NoNode                  | -DFAULTS=0 -DNO_LOOK_AGAIN
shorter         | ... but when the file is short again             | -DCUT -DFAULTS=1 -DFEWER=1 -DNO_SHORTER
drop            | a failed delete gives no commit up               | -DFAULTS=0 -DNO_DROP
unknown         | no answer is not a no                            | -DLOSE -DFAULTS=1 -DNO_UNKNOWN
settle-delete   | settling deletes our place, then reads           | -DLOSE -DFAULTS=1 -DNO_SETTLE_DELETE
settle-token    | the turn of our number must be ours              | -DLOSE -DFAULTS=1 -DNO_SETTLE_TOKEN
settle-file     | no node: the file may have it                    | -DLOSE -DFAULTS=1 -DNO_SETTLE_FILE
next-place      | the next place is found after a lost answer      | -DLOSE -DFAULTS=1 -DUNDER_WAY=2 -DNO_NEXT_PLACE
fill            | what is missing is written first                 | -DFAULTS=0 -DNO_FILL
own-write       | the own turn is written, though it is visible    | -DFAULTS=0 -DNO_OWN_WRITE
ack-after-sync  | acknowledged after the sync                      | -DFAULTS=0 -DNO_ACK_AFTER_SYNC
rewrite         | a failed sync: written again, not only synced    | -DFAIL -DFAULTS=1 -DNO_REWRITE
rewrite-all     | ... all since the last good one                  | -DFAIL -DFAULTS=1 -DNO_REWRITE_ALL
one-descriptor  | ... and who is told of another's, too            | -DFAIL -DFAULTS=1 -DNO_ONE_DESCRIPTOR
delete-own-sync | a node is not deleted on sight of its turn       | -DCRASH -DFAULTS=1 -DNO_DELETE_AFTER_SYNC
leftovers       | what a dead owner left is settled                | -DCRASH -DFAULTS=1 -DRECORDS=1 -DNO_LEFTOVERS
leftover-order  | ... in order                                     | -DCRASH -DFAULTS=1 -DNO_LEFTOVER_ORDER
"
# Belt beside braces. Why each does nothing here stands in docs/model/README.md.
redundant="
redundant       | head-version, drop-condition, beyond             | $alive -DFAULTS=1 -DFEWER=1 -DNO_HEAD_VERSION -DNO_DROP_CONDITION -DNO_BEYOND
redundant-two   | ... with two turns under way                     | -DLOSE -DFAIL -DFAULTS=1 -DFEWER=1 -DUNDER_WAY=2 -DNO_HEAD_VERSION -DNO_DROP_CONDITION -DNO_BEYOND
"
# Each list is searched with the settings that follow it.
witnesses="filled gone looked_again delete_failed deleted_in_commit unknown_head unknown_node unknown_file
  unknown_not unknown_others late_done late_refused sync_failed told all_acknowledged"
witnesses_settings="-DLOSE -DFAIL -DFAULTS=1"
two_witnesses="next_used next_removed"
two_settings="-DLOSE -DFAULTS=1 -DFEWER=1 -DUNDER_WAY=2"
stale_witnesses="stale overtaken"
stale_settings="-DSTALE -DEVICT -DFAULTS=2"
power_witnesses="leftover power_hole power_zeros all_faults"
power_settings="-DCRASH -DPOWER -DFAULTS=1"
cut_witnesses="refused_look refused_fill"
cut_settings="-DCUT -DFAULTS=1 -DFEWER=1"

# What still runs is ours and goes with us: every search is a process group of its own.
set -m
clean_up() {
  local group
  for group in $(jobs -p); do kill -- "-$group" 2>/dev/null || true; done
  wait
  rm -rf "$work"
}

# --- one search

# search DIR OPTIMIZE SETTINGS…: what pan says goes to DIR/out
search() {
  local dir=$1 optimize=$2 compile=(-DSAFETY) run=(-m100000)
  shift 2
  case " $* " in *' -DLIVENESS '*) compile=(-DNFAIR=3) run+=(-a -f) ;; esac
  # COLLAPSE is slower and keeps every state all the same.
  case $optimize in large) optimize=-O2 compile+=(-DCOLLAPSE) ;; esac
  mkdir -p "$dir"
  cd "$dir"
  : >out
  spin -a "$@" "$model" >spin.out 2>&1 || return 0 # judged by what pan says, not by exit codes
  gcc -w "$optimize" -DMEMLIM=16000 "${compile[@]}" -o pan pan.c >>spin.out 2>&1 || return 0
  timeout --foreground 900 ./pan "${run[@]}" >out 2>&1 || true
  rm -f pan pan.?
}

# complete DIR: the search has seen every state, and looked for what it should
complete() {
  local out=$1/out what=('assertion violations[[:space:]]*+')
  case $(cat "$1/settings") in
    *-DLIVENESS*) what+=('never claim[[:space:]]*+ (live)' 'acceptance   cycles[[:space:]]*+ (fairness enabled)') ;;
    *) what+=('invalid end states[[:space:]]*+') ;;
  esac
  for line in '^Full statespace search for:' 'errors: 0$' "${what[@]}"; do
    grep -q "$line" "$out" || return 1
  done
  ! grep -qiE 'too small|not completed|out of memory|memory limit|interrupted|error:|hash-?compact|bit statespace' "$out"
}

# found DIR: the property that the search saw violated, nothing if none. A bound of the
# model that was too small is no property.
found() {
  sed -nE 's/^pan:1: assertion violated ([a-z_]+) \(at depth .*/\1/p
    s/^pan:1: invalid end state.*/somebody waits for ever/p
    s/^pan:1: acceptance cycle.*/somebody never ends/p' "$1/out"
}

# row VERDICT DIR NAME WHAT OUTCOME: one line of the table
row() {
  local depth states seconds
  depth=$(sed -nE 's/^pan:1: .*\(at depth ([0-9]+)\)$/\1/p' "$2/out")
  states=$(sed -nE 's/^ *([0-9.e+]+) states, stored.*/\1/p' "$2/out")
  seconds=$(sed -nE 's/^pan: elapsed time ([0-9.e+-]+) seconds$/\1/p' "$2/out")
  printf '%-5s %-18s %-52s %-32s %5s %8s %7s\n' "$1" "$3" "$4" "$5" "${depth:--}" "${states:--}" "${seconds:--}"
}

failed=0
# judge WANT NAME WHAT: prints the line; WANT is none, error or a witness's number
judge() {
  local dir=$work/$2 verdict=ok outcome
  outcome=$(found "$dir")
  case $1 in
    none) if complete "$dir"; then outcome='no error'; else verdict=WRONG; fi ;;
    error) [ -n "$outcome" ] || verdict=WRONG ;;
    *) if grep -q "^pan:1: assertion violated ($1!=$1) " "$dir/out"; then outcome=reached; else verdict=WRONG; fi ;;
  esac
  if complete "$dir" && [ -z "$outcome" ]; then outcome='no error'; fi
  row "$verdict" "$dir" "$2" "$3" "${outcome:-the search failed}"
  [ "$verdict" = ok ] && return
  failed=$((failed + 1))
  complete "$dir" || { grep -hE '^pan:[0-9]|rror:|Warning:' "$dir/out" "$dir/spin.out" || true; } | sed 's/^/      | /' | head -n 4
}

# --- all of them

# begin NAME OPTIMIZE SETTINGS…: as soon as a job is free
begin() {
  local name=$1
  shift
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
  mkdir -p "$work/$name"
  echo "${*:2}" >"$work/$name/settings"
  (search "$work/$name" "$@") &
}

# each LINES COMMAND…: COMMAND NAME WHAT SETTINGS for every line of a list above
each() {
  local lines=$1 name what settings
  shift
  while IFS='|' read -r name what settings; do
    [ -n "$name" ] || continue
    read -r name <<<"$name"
    read -r what <<<"$what"
    "$@" "$name" "$what" "$settings"
  done <<<"$lines"
}

begin_with() { # OPTIMIZE NAME WHAT SETTINGS
  # shellcheck disable=SC2086 # the settings are several words
  begin "$2" "$1" $4
}

judge_with() { judge "$1" "$2" "$3"; } # WANT NAME WHAT SETTINGS

witness_number() { sed -nE "s/^#define W_$1 ([0-9]+)( .*)?$/\1/p" "$model"; }

begin_witnesses() { # SETTINGS WITNESS…
  local settings=$1 name
  shift
  for name in "$@"; do
    # shellcheck disable=SC2086 # the settings are several words
    begin "$name" -O0 $settings "-DWITNESS=W_$name"
  done
}

judge_witnesses() {
  local name
  for name in "$@"; do
    judge "$(witness_number "$name")" "$name" "$(sed -nE "s|^#define W_$name [0-9]+ */\* (.*) \*/$|\1|p" "$model" | sed 's/…/.../')"
  done
}

heading() { printf '\n%-5s %-18s %-52s %-32s %5s %8s %7s\n' '' "$1" '' "$2" steps states seconds; }

check() {
  local size=$1
  # The long ones first. Lists of names are split into words on purpose.
  if [ "$size" = large ]; then each "$larger" begin_with large; fi
  each "$protocol" begin_with -O2
  each "$redundant" begin_with -O2
  each "$guards" begin_with -O0
  # shellcheck disable=SC2086
  {
    begin_witnesses "$witnesses_settings" $witnesses
    begin_witnesses "$two_settings" $two_witnesses
    begin_witnesses "$stale_settings" $stale_witnesses
    begin_witnesses "$power_settings" $power_witnesses
    begin_witnesses "$cut_settings" $cut_witnesses
  }
  wait

  heading 'the protocol' 'must have no error'
  each "$protocol" judge_with none
  if [ "$size" = large ]; then each "$larger" judge_with none; fi
  heading 'without a guard' 'must have an error:'
  each "$guards" judge_with error
  heading redundant 'must have no error'
  each "$redundant" judge_with none
  heading witnesses 'must be reached'
  # shellcheck disable=SC2086
  judge_witnesses $witnesses $two_witnesses $stale_witnesses $power_witnesses $cut_witnesses
  echo
  [ "$failed" = 0 ] || die "$failed lines are WRONG" "scripts/model.sh --trace NAME shows the run to an error"
  echo "all as it must be, $SECONDS s"
}

# --- one counterexample

settings_of() { [ "$1" != "$2" ] || echo "$4"; } # WANTED NAME WHAT SETTINGS

trace() {
  local settings
  settings=$(each "$protocol$larger$guards$redundant" settings_of "$1")
  [ -n "$settings" ] || die "there is no line '$1' in the table that could have an error" "scripts/model.sh --help" 2
  cd "$work"
  # Breadth first finds the shortest run; it knows no liveness, and needs none here: who
  # waits for ever is seen in a state in which nobody can do anything.
  settings=${settings/-DLIVENESS/}
  local run=(-m100000)
  cp "$model" turnstile.pml
  # shellcheck disable=SC2086 # the settings are several words
  spin -a $settings turnstile.pml >/dev/null
  gcc -w -O2 -DSAFETY -DBFS -DMEMLIM=16000 -o pan pan.c
  ./pan "${run[@]}" >out
  sed -n '/^pan:1: /p' out
  [ -e turnstile.pml.trail ] || { echo "no error: the search saw every state within the bounds"; return; }
  # Leave spin's own bookkeeping and resets out: who did what, at which line of the model.
  # shellcheck disable=SC2086 # the settings are several words
  spin -t -p $settings turnstile.pml |
    sed -nE 's/^ *[0-9]+:\tproc +([0-9]) \((Line|Disk|World):[0-9]\) turnstile.pml:([0-9]+) \(state [0-9]+\)\t\[(.*)\]$/\2 \1\t\3\t\4/p' |
    grep -vE $'\t(\\.\\(goto\\)|goto :.*|IF|DO|else|break|\\(1\\)|sub-sequence|ATOMIC|assert.*|(no|one|tokens|only|acknowledged|refused|everybody)_[a-z_]+ = .*|[a-z_]+(\\[.*\\])? = 0|k = .*|.*\\bk<.*|k\+\+)$'
}

mode=check
for argument in "$@"; do
  case $argument in
    -h | --help) usage; exit 0 ;;
  esac
done
case ${1:-} in
  '') ;;
  --large) mode=large ;;
  --trace) mode=trace ;;
  *) usage >&2; exit 2 ;;
esac
if [ "$mode" = trace ]; then [ $# = 2 ] || { usage >&2; exit 2; }; else [ $# -le 1 ] || { usage >&2; exit 2; }; fi
for tool in spin gcc; do
  command -v "$tool" >/dev/null || die "$tool is not installed" "apt-get install spin gcc libc6-dev"
done

work=$(mktemp -d "${TMPDIR:-/tmp}/turnstile-model.XXXXXX")
trap clean_up EXIT
trap 'exit 130' INT TERM

case $mode in
  trace) trace "$2" ;;
  *) check "$mode" ;;
esac
