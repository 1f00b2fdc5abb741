#!/usr/bin/env bash
# One program's output through one agent: MB/s, beside dd and go-zookeeper's Lock.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/bench-stdin.sh [--size BYTES] [--rounds 3] [--old BINARY] [--dir DIR]

A log of 200 MB goes onto the disk, side by side in one run, in rounds, each with a fresh
ZooKeeper 3.8: through `agent run --source stdin` with the defaults, through the same with a
sync that takes 2 ms longer, through go-zookeeper's Lock in turns of 64 KiB (append and
fdatasync in the lock), through `dd bs=1M conv=fdatasync`, and with --old through another
agent's binary. Printed are medians, ratios to the first, and the most memory that each
process had. Run it on a quiet machine. Needs Go, Java, and Debian's libzookeeper-java.
USAGE
}

case " $* " in *" --help "* | *" -h "*) usage; exit 0 ;; esac
if ! command -v java >/dev/null || ! [ -e /usr/share/java/zookeeper.jar ]; then
  echo "bench-stdin: Java or /usr/share/java/zookeeper.jar is missing" >&2
  echo "  next step: apt-get install default-jre-headless libzookeeper-java" >&2
  exit 1
fi
cd "$(dirname "$0")/.."
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/bench-turns" ./test/bench-turns
go build -o "$bin/agent" ./cmd/agent
"$bin/bench-turns" stdin --agent "$bin/agent" "$@"
