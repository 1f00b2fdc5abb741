#!/usr/bin/env bash
# Runs schedules of the simulator on all processors, one process each.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/simulate.sh [--schedules N] [--jobs N] [--seed N] [--mutants]

Runs N schedules (default 100000) of a simulated fleet: the production code, with file
system, clock and ZooKeeper simulated, and everything broken that can break. A schedule
counts when at least one fault fired and two turns were committed. One that breaks a
promise is shortened and told as a story; the exit code is 1 then.

  --jobs N     how many processes (default: one for each processor)
  --seed N     the first process's first seed (default: any); the others follow it far off
  --mutants    instead: leave out each guard of the code in turn, and count the schedules
               until the simulator notices

Examples:
  scripts/simulate.sh
  scripts/simulate.sh --schedules 5000000
  scripts/simulate.sh --mutants
  go test ./test/sim -run Schedules -sim.story -sim.seed 42   # one schedule's story
USAGE
}

cd "$(dirname "$0")/.."
schedules=100000 jobs=$(nproc) seed=0 mutants=
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --schedules) schedules=${2:?--schedules wants a number}; shift ;;
    --jobs) jobs=${2:?--jobs wants a number}; shift ;;
    --seed) seed=${2:?--seed wants a number}; shift ;;
    --mutants) mutants=1 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

if [ "$mutants" ]; then
  exec go test ./test/sim -run TestMutantsDie -v -count=1 -timeout 2h -sim.mutants -sim.seed "$seed"
fi
[ "$seed" != 0 ] || seed=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')

work=$(mktemp -d)
pids=()
trap '[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
go test -c -o "$work/sim.test" ./test/sim
began=$SECONDS
for ((i = 0; i < jobs; i++)); do
  # One processor each: a schedule is one thread's work.
  GOMAXPROCS=1 "$work/sim.test" -test.run '^TestSchedules$' -test.v -test.timeout 0 \
    -sim.schedules $(((schedules + jobs - 1 - i) / jobs)) -sim.seed $((seed + i * 1000000000)) >"$work/$i.log" &
  pids+=($!)
done
failed=0
for ((i = 0; i < jobs; i++)); do
  wait "${pids[i]}" || failed=1
  cat "$work/$i.log"
done
pids=()
echo "$schedules schedules in $((SECONDS - began)) s, $jobs processes: $([ $failed = 0 ] && echo 'no promise broken' || echo 'a promise was BROKEN')"
exit $failed
