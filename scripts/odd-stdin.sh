#!/usr/bin/env bash
# Much input with odd lines: every byte arrives, and the agent needs no more memory for it.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/odd-stdin.sh [MEGABYTES]

Pipes so many megabytes of lines (default 2000) into `agent run --source stdin`, of which each
hundredth is odd: colours, carriage returns, Latin-1, a NUL, or far longer than a record can be.
Then `agent cat --records --unescape` must give the input back, byte for byte, and the verifier
must be content. Prints the time and the agent's largest resident size. Needs Go, perl, and
three times as much free space as that in TMPDIR; brings its own ZooKeeper (agent dev-server).
USAGE
}

case ${1:-} in -h | --help) usage; exit 0 ;; esac
megabytes=${1:-2000}
case $megabytes in '' | *[!0-9]*) usage >&2; exit 2 ;; esac
cd "$(dirname "$0")/.."
work=$(mktemp -d)
# shellcheck disable=SC2329 # the trap runs it
ended() {
  [ -z "${server:-}" ] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap ended EXIT
go build -o "$work/agent" ./cmd/agent
cd "$work"
port=$((20000 + $$ % 10000))
./agent dev-server --listen "127.0.0.1:$port" >server.log 2>&1 &
server=$!
export TURNSTILE_ZOOKEEPER_SERVERS=127.0.0.1:$port TURNSTILE_LOG_LEVEL=warn
# The same lines each time.
lines() {
  perl -e '
    my ($left, $n, $plain) = ($ARGV[0] * 1e6, 0, "x" x 90);
    my @odd = ("\e[31mred\e[0m", "10%\r20%\r30%", "caf\xe9", "a\0b", "windows\r", "y" x 100_000, "\\ and \x07");
    while ($left > 0) {
      my $line = ++$n % 100 ? "$n $plain\n" : "$n $odd[$n / 100 % @odd]\n";
      $left -= length $line;
      print $line;
    }' "$megabytes"
}
began=$SECONDS
lines | ./agent run --source stdin --max-bytes 256KiB 2>log &
agent=$! # the last of the pipe
peak=0
while kill -0 "$agent" 2>/dev/null; do
  now=$(awk '/^VmHWM:/ { print $2 }' "/proc/$agent/status" 2>/dev/null || echo 0)
  [ "${now:-0}" -le "$peak" ] || peak=$now
  sleep 0.2
done
wait "$agent" || { cat log >&2; exit 1; }
took=$((SECONDS - began))
./agent verify data.txt | tail -1
lines | cmp - <(./agent cat --records --unescape) || { echo "what comes back is not what was piped in" >&2; exit 1; }
echo "$megabytes MB in $took s, $((peak / 1024)) MiB resident at most: every byte came back"
