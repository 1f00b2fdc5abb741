#!/usr/bin/env bash
# Messages through the inbox while agents are killed: each is in the file exactly once.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/inbox-exactly-once.sh [--messages N] [--senders N] [--agents N] [--batch N] [--zookeeper SERVERS]

Several `agent send` (default 4) leave N messages (default 10000) in the inbox, while agents
with `agent run --source inbox` (default 3) write them to one file, at most --batch (default
5) a turn. All the while agents are killed with SIGKILL, at random and at random moments,
and started again at once. When the inbox is empty, `agent verify` judges the file against
ZooKeeper's head, and each message must be in it exactly once, those of one sender in order.

--zookeeper names servers that run already, host:port[,host:port...]; else `agent dev-server`
is started. Everything is removed at the end, but what was written to those servers.

Exit codes: 0 each message is in the file exactly once; 1 not so, or it could not be tried;
2 wrong usage. Needs Go.
USAGE
}

messages=10000 senders=4 agents=3 batch=5 servers=
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --messages | --senders | --agents | --batch)
      case ${2-} in '' | *[!0-9]* | 0*) usage >&2; exit 2 ;; esac
      declare "${1#--}=$2"
      shift 2 ;;
    --zookeeper)
      [ -n "${2-}" ] || { usage >&2; exit 2; }
      servers=$2
      shift 2 ;;
    *) usage >&2; exit 2 ;;
  esac
done

cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/go/bin
work=$(mktemp -d)
server='' writers=() sending=()
finish() {
  local status=$? pid
  trap - EXIT INT TERM
  for pid in "${writers[@]}" "${sending[@]}" $server; do kill -9 "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  if [ "$status" = 0 ]; then rm -rf "$work"; else echo "inbox-exactly-once: what was written is in $work" >&2; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

go build -o "$work/agent" ./cmd/agent
agent=$work/agent data=$work/data.txt
for name in $(compgen -e TURNSTILE_ || true); do unset "$name"; done
if [ -z "$servers" ]; then
  "$agent" dev-server --listen 127.0.0.1:0 --tick 100ms >"$work/server" 2>"$work/server.log" &
  server=$!
  for _ in $(seq 100); do
    servers=$(sed -n 's/^agent run --zookeeper //p' "$work/server")
    [ -z "$servers" ] || break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  [ -n "$servers" ] || { cat "$work/server.log" >&2; exit 1; }
fi
export TURNSTILE_ZOOKEEPER_SERVERS=$servers TURNSTILE_FLEET_NAME="inbox-$$-$RANDOM" TURNSTILE_LOG_LEVEL=warn
export TURNSTILE_ZOOKEEPER_SESSION_TIMEOUT=2s TURNSTILE_ZOOKEEPER_CONNECT_TIMEOUT=20s

# start I: the agent with that number, from now on
start() {
  "$agent" run --source inbox --data "$data" --max-records "$batch" >/dev/null 2>>"$work/agent-$1.log" &
  writers[$1]=$!
}

# kill_one: one of the agents, whatever it is at
kill_one() {
  local i=$((RANDOM % agents))
  if ! kill -9 "${writers[$i]}" 2>/dev/null; then
    echo "inbox-exactly-once: agent $i had ended by itself:" >&2
    tail -n 3 "$work/agent-$i.log" >&2
    exit 1
  fi
  wait "${writers[$i]}" 2>/dev/null || true
  start "$i"
  kills=$((kills + 1))
}

left() { "$agent" inbox --json | sed 's/.*"waiting":\([0-9]*\).*/\1/'; }

began=$(date +%s.%N) kills=0
for ((i = 0; i < agents; i++)); do start "$i"; done
for ((i = 0; i < senders; i++)); do
  count=$((messages / senders + (i < messages % senders)))
  seq -f "sender-$i %.0f" 1 "$count" | "$agent" send 2>>"$work/sender-$i.log" &
  sending[i]=$!
done

running=$senders
while true; do
  sleep "0.$((RANDOM % 4))$((RANDOM % 10))"
  kill_one
  if [ "$running" -gt 0 ]; then
    running=0
    for pid in "${sending[@]}"; do
      if kill -0 "$pid" 2>/dev/null; then running=$((running + 1)); fi
    done
    [ "$running" = 0 ] || continue
    for i in "${!sending[@]}"; do
      wait "${sending[$i]}" || { cat "$work/sender-$i.log" >&2; exit 1; }
    done
    sending=()
  fi
  [ "$(left)" != 0 ] || break
done
ended=$(date +%s.%N)

# Told to stop, they bring their turns to an end; the one that was started last may not have
# begun (143).
for pid in "${writers[@]}"; do kill "$pid"; done
for pid in "${writers[@]}"; do wait "$pid" || [ $? = 143 ] || { echo "inbox-exactly-once: an agent failed, see $work/agent-*.log" >&2; exit 1; }; done
writers=()

"$agent" verify "$data"
[ "$(left)" = 0 ] || { echo "inbox-exactly-once: messages are left in the inbox" >&2; exit 1; }
"$agent" inbox dead | grep -qx 'no dead letters' || { "$agent" inbox dead >&2; exit 1; }
grep -v '^#' "$data" | awk -v senders="$senders" -v messages="$messages" '
  { n = ++seen[$0]; if (n == 2) { print "twice in the file: " $0; bad = 1 }
    split($1, name, "-"); if ($2 != last[name[2]] + 1) { print "out of order: " $0; bad = 1 }
    last[name[2]] = $2; total++ }
  END { for (i = 0; i < senders; i++) {
          count = int(messages / senders) + (i < messages % senders)
          if (last[i] != count) { printf "sender-%d: %d messages in the file, %d sent\n", i, last[i], count; bad = 1 } }
        if (total != messages) { printf "%d records in the file, %d messages sent\n", total, messages; bad = 1 }
        exit bad }' || exit 1
echo "$messages messages by $senders senders, each in the file exactly once and in its sender's order"
awk -v a="$began" -v b="$ended" -v k="$kills" -v n="$agents" -v m="$messages" 'BEGIN {
  printf "%d kills of %d agents; %.1f s, %.0f messages a second\n", k, n, b - a, m / (b - a) }'
