#!/usr/bin/env bash
# Checks the model of the protocol, docs/model/turnstile.pml; see usage() below.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/model.sh             check the model; about a minute on two cores
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
  scripts/model.sh --trace receipt-turn
  SPIN_JOBS=1 scripts/model.sh      one search at a time (default: one for each core)
USAGE
}

die() {
  printf '%s\n' "model.sh: $1" "  next step: $2" >&2
  exit "${3:-1}"
}

model=$(cd "$(dirname "$0")/.." && pwd)/docs/model/turnstile.pml
jobs=${SPIN_JOBS:-$(nproc)}

# The faults that are let in. A rollback and a power loss in one run are not survived by
# design, and its runs may end with everybody waiting for a place that nobody knows (-E).
faults="-DEVICT -DCRASH -DLOSE -DSTALE -DPOWER -DCUT"
rollback="-DROLLBACK -DEVICT -DCRASH -DLOSE -DSTALE"

# name | what it shows | spin's settings
protocol="
safety       | 2 agents, 2 records each, 2 faults           | $faults -DFAULTS=2
three-agents | 3 agents, 1 record each, 1 fault             | $faults -DFAULTS=1 -DAGENTS=3 -DRECORDS=1
rollback     | 2 agents, 2 records each, rollback + 1 fault | $rollback -DFAULTS=1
liveness     | 2 agents, 2 records each, 1 fault            | $faults -DFAULTS=1 -DLIVENESS
"
larger="
large-safety   | 2 agents, 2 records each, 3 faults           | $faults -DFAULTS=3
large-three    | 3 agents, 1 record each, 2 faults            | $faults -DFAULTS=2 -DAGENTS=3 -DRECORDS=1
large-liveness | 2 agents, 2 records each, 2 faults           | $faults -DFAULTS=2 -DLIVENESS
large-rollback | 2 agents, 1 record each, rollback + 3 faults | $rollback -DFAULTS=3 -DRECORDS=1
"
# The faults are those that the guard is there for. HARM: an error is damage, and not
# merely a refusal that was not called for.
guards="
place-delete   | the commit deletes our own place           | -DEVICT -DFAULTS=1 -DHARM -DNO_PLACE_DELETE
head-version   | the commit names head's version            | -DROLLBACK -DLOSE -DFAULTS=1 -DHARM -DNO_HEAD_VERSION
flock          | nobody enters while another is inside      | -DEVICT -DFAULTS=1 -DHARM -DNO_FLOCK
fence          | a token below the fence's stays outside    | -DEVICT -DCRASH -DFAULTS=2 -DHARM -DNO_FENCE
fence-owner    | so does another's that equals it           | -DROLLBACK -DFAULTS=0 -DHARM -DNO_FENCE_OWNER
compare        | the file is held to head, the rest cut off | -DCRASH -DFAULTS=1 -DHARM -DNO_COMPARE
shorter        | a file shorter than head is refused        | -DCUT -DFAULTS=1 -DHARM -DNO_SHORTER -DNO_CHECK_LAST
check-last     | the last frame is the one that head names  | $rollback -DFAULTS=1 -DHARM -DNO_CHECK_LAST
check-noted    | ... though the fence has noted its turn    | -DROLLBACK -DEVICT -DFAULTS=1 -DNO_CHECK_NOTED
fdatasync      | the frame is on disk before the commit     | -DPOWER -DFAULTS=1 -DHARM -DNO_FDATASYNC
fresh-head     | head names the predecessor, or list again  | -DSTALE -DFAULTS=1 -DHARM -DNO_FRESH_HEAD
ack-order      | acknowledged after the commit's success    | -DEVICT -DFAULTS=1 -DHARM -DNO_ACK_ORDER
doubt          | refused after a lost answer is not known   | -DLOSE -DFAULTS=1 -DHARM -DNO_DOUBT
same-resend    | what is sent again is the same             | -DLOSE -DFAULTS=1 -DHARM -DNO_SAME_RESEND
find           | a place without a name is found again      | -DFAULTS=1 -DHARM -DNO_FIND
settle-delete  | settling deletes our place, then reads     | -DLOSE -DFAULTS=1 -DHARM -DRECORDS=1 -DNO_SETTLE_DELETE
settle-token   | settled by the frame, not by the turn      | -DLOSE -DFAULTS=1 -DNO_SETTLE_TOKEN
receipt        | the receipt is noted                       | -DROLLBACK -DFAULTS=0 -DHARM -DNO_RECEIPT
receipt-check  | ... and a head before it is refused        | -DROLLBACK -DFAULTS=0 -DHARM -DNO_RECEIPT_CHECK
receipt-proof  | ... by a newer holder, our frame in place  | -DROLLBACK -DFAULTS=0 -DHARM -DNO_RECEIPT_PROOF
receipt-turn   | ... with our turn noted                    | -DROLLBACK -DCRASH -DFAULTS=1 -DHARM -DNO_RECEIPT_TURN
"
# Belt beside braces. Why each does nothing here stands in docs/model/README.md.
redundant="
redundant          | recheck, one-turn, tail-token               | $rollback -DFAULTS=1 -DNO_RECHECK -DNO_ONE_TURN -DNO_TAIL_TOKEN
redundant-forwards | ... and, without rollback, what is against it | $faults -DFAULTS=1 -DNO_RECHECK -DNO_ONE_TURN -DNO_TAIL_TOKEN -DNO_HEAD_VERSION -DNO_FENCE_OWNER -DNO_CHECK_NOTED -DNO_RECEIPT_TURN
"
witnesses="quarantined torn fenced stale unknown_committed unknown_not unknown_others late_done late_refused
  noted_by_newer power_frame power_fence refused_cut all_acknowledged all_faults"
rollback_witnesses="refused_receipt refused_fence refused_ack refused_head refused_version"

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
  # A guard's lack may be seen in a deadlock, but not after a rollback.
  case " $* " in *' -DROLLBACK '*) run+=(-E) ;; esac
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
    *-DROLLBACK*) ;;
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
  begin_witnesses "$faults -DFAULTS=2" $witnesses
  # shellcheck disable=SC2086
  begin_witnesses "$rollback -DFAULTS=1" $rollback_witnesses
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
  judge_witnesses $witnesses $rollback_witnesses
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
  case $settings in *-DROLLBACK*) run+=(-E) ;; esac
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
    sed -nE 's/^ *[0-9]+:\tproc +([0-9]) \((Agent|World):[0-9]\) turnstile.pml:([0-9]+) \(state [0-9]+\)\t\[(.*)\]$/\2 \1\t\3\t\4/p' |
    grep -vE $'\t(\\.\\(goto\\)|goto :.*|IF|DO|else|break|\\(1\\)|sub-sequence|ATOMIC|assert.*|(turn|by|ahead|lost|done|arrived|late_[a-z]+\\[.\\]|old_[a-z_]+(\\[.\\])?) = 0|[ij] = .*)$'
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
