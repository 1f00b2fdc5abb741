#!/usr/bin/env bash
# What many waiting agents cost an ensemble of three servers, and a table to size one by.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/bench-many.sh [--few 10] [--many 1000] [--for 6s] [--settle 5s] [--rounds 2]
                             [--processes 2] [--within 10m] [--dir DIR] [--json FILE]
                             [--peers turnstile-8,go-zookeeper] [--no-sizes] [--profile DIR] [--docs]

Agents take turns without rest on an ensemble of three ZooKeeper 3.8 servers, Java processes
on this machine, each synced and with data of its own. They are goroutines of a few processes,
each with a session of its own. Measured, in rounds, side by side, with a fresh ensemble each
time, after --settle and 30 ms for each agent: 10 of them and 1,000, of Turnstile and of go-zookeeper's Lock (append and fdatasync
inside the lock). Then, once: turns of 4 and of 64 KiB, and 100 turns a second of 10 agents and
of 1,000. Printed are turns a second, the processor time of agents and servers, the servers'
memory, how their transaction logs grow, what they write to the disk, and what follows for
other sizes.

  --peers LIST   of turnstile-8, turnstile-1, go-zookeeper
  --no-sizes     only the first table
  --docs         the tables into docs/performance.md
  --profile DIR  processor profiles of the agents' processes (go tool pprof)

  scripts/bench-many.sh --few 4 --many 40 --for 1s --rounds 1
  scripts/bench-many.sh --docs --json many.json

Run it on a quiet machine. Needs Go, Java, and Debian's libzookeeper-java.
USAGE
}

here=$PWD
absolute() { case $1 in /*) echo "$1" ;; *) echo "$here/$1" ;; esac; }
typed=scripts/bench-many.sh # without what names a place on this machine
docs='' pass=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --docs) docs=yes typed+=" $1"; shift; continue ;;
    --no-sizes) pass+=(--sizes=false) typed+=" $1"; shift; continue ;;
    --few | --many | --for | --settle | --rounds | --processes | --peers | --within) pass+=("$1" "${2:?$1 needs a value}") typed+=" $1 $2" ;;
    --dir | --json | --profile) pass+=("$1" "$(absolute "${2:?$1 needs a value}")") ;;
    *) usage >&2; exit 2 ;;
  esac
  shift 2
done
if ! command -v java >/dev/null || ! [ -e /usr/share/java/zookeeper.jar ]; then
  echo "bench-many: Java or /usr/share/java/zookeeper.jar is missing" >&2
  echo "  next step: apt-get install default-jre-headless libzookeeper-java" >&2
  exit 1
fi
cd "$(dirname "$0")/.."
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/bench-turns" ./test/bench-turns
[ -z "$docs" ] || pass+=(--docs docs/performance.md)
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
git diff --quiet HEAD -- cmd internal test go.mod 2>/dev/null || commit+=" with changes"
"$bin/bench-turns" many --commit "$commit" --command "$typed" ${pass[@]+"${pass[@]}"}
