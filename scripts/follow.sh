#!/usr/bin/env bash
# Readers beside agents that are killed: what tail -F prints, and what rsyslog ships, is the file.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/follow.sh [KILLS]

Three agents write turns of 1,000 records. `tail -n +1 -F` follows their file while agents are
killed with SIGKILL, KILLS times (default 40), and started again. In the end what tail printed
must be the file, byte for byte, and tail must never have said "truncated". A log shipper,
rsyslog's imfile, reads beside it, is started anew half way, and must have shipped the same.
Needs Go and rsyslogd; brings its own ZooKeeper (agent dev-server).
USAGE
}

case ${1:-} in -h | --help) usage; exit 0 ;; esac
kills=${1:-40}
case $kills in '' | *[!0-9]*) usage >&2; exit 2 ;; esac
command -v rsyslogd >/dev/null || { echo "follow: rsyslogd is not installed (Debian: apt-get install rsyslog)" >&2; exit 1; }
cd "$(dirname "$0")/.."
work=$(mktemp -d)
pids=()
# shellcheck disable=SC2329 # the trap runs it
ended() {
  for pid in "${pids[@]}" "${tail:-}" "${shipper:-}" "${server:-}"; do [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap ended EXIT
go build -o "$work/agent" ./cmd/agent
cd "$work"
port=$((20000 + $$ % 10000))
./agent dev-server --listen "127.0.0.1:$port" >server.log 2>&1 &
server=$!
export TURNSTILE_ZOOKEEPER_SERVERS=127.0.0.1:$port TURNSTILE_ZOOKEEPER_SESSION_TIMEOUT=2s
size() { stat -c %s data.txt 2>/dev/null || echo 0; }
start() { # start N
  ./agent run --pace 0 --lines 1000 --max-records 1000 --data data.txt >>"a$1.log" 2>&1 &
  pids[$1]=$!
  for ((i = 0; i < 500; i++)); do # bash loses a signal that comes before its child is the agent
    [ "$(cat "/proc/$!/comm")" = agent ] && return
    sleep 0.01
  done
  echo "agent $1 did not start" >&2
  exit 1
}
ends() { # ends N: it ended well; 143 if it had hardly begun when it was told to
  code=0
  wait "${pids[$1]}" || code=$?
  [ "$code" = 0 ] || [ "$code" = 143 ] || { echo "agent $1 ended with $code" >&2; tail -n 3 "a$1.log" >&2; exit 1; }
}
for n in 0 1 2; do start "$n"; done
tail -n +1 -F data.txt >seen 2>said &
tail=$!
# As docs/shippers.md has it: whole lines, none cut, nothing escaped.
mkdir state
cat >rsyslog.conf <<CONF
global(workDirectory="$work/state" maxMessageSize="256k" parser.escapeControlCharactersOnReceive="off")
module(load="imfile" mode="inotify")
template(name="line" type="string" string="%msg%\n")
ruleset(name="ship") { action(type="omfile" file="$work/shipped" template="line") }
input(type="imfile" file="$work/data.txt" tag="turnstile" ruleset="ship")
CONF
ship() {
  rsyslogd -n -f rsyslog.conf -i "$work/rsyslogd.pid" >>shipper.log 2>&1 &
  shipper=$!
}
ship
for ((k = 0; k < kills; k++)); do
  before=$(size)
  for ((i = 0; i < 600; i++)); do # until the fleet writes again
    [ "$(size)" -gt "$before" ] && break
    sleep 0.05
  done
  if [ "$k" = $((kills / 2)) ]; then # it remembers how far it was
    kill "$shipper"
    wait "$shipper" || true
    ship
  fi
  n=$((k % 3))
  kill -9 "${pids[n]}" 2>/dev/null || true
  wait "${pids[n]}" 2>/dev/null || true
  start "$n"
done
for n in 0 1 2; do kill "${pids[n]}" 2>/dev/null || true; ends "$n"; done
pids=()
turns() { ./agent znode ls /turnstile/default/turns 2>/dev/null | wc -l; }
if [ "$(turns)" -gt 0 ]; then # what the last one that was killed left
  ./agent run --source stdin --data data.txt < <(sleep 8) >>settle.log 2>&1
fi
for ((i = 0; i < 300; i++)); do cmp -s data.txt seen && cmp -s data.txt shipped && break; sleep 0.1; done
kill "$tail" "$shipper"
cmp data.txt seen || { echo "what tail printed is not the file" >&2; exit 1; }
cmp data.txt shipped || { echo "what rsyslog shipped is not the file" >&2; tail -n 5 shipper.log >&2; exit 1; }
! grep -q truncated said || { cat said >&2; exit 1; }
./agent verify data.txt
echo "$kills kills: tail -F printed $(grep -c '^#turn ' seen) turns, $(wc -c <seen) bytes: the file, and never said \"truncated\"; rsyslog shipped the same"
