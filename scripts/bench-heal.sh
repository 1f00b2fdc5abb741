#!/usr/bin/env bash
# How long a fleet stands still when the agent that has the turn is killed.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/bench-heal.sh [-n KILLS] [-k KILLS] [SERVER...]

A fleet of three agents takes turns without rest. The one that has the turn is killed with
SIGKILL, -n times (default 200), and another is started in its place. Measured is the time
from the kill until ZooKeeper has told an onlooker of the next commit. A kill counts when
the turn it fell into was never committed and nobody before it in the queue had a turn
after it; the others are shown in brackets. For comparison: the time from one commit to the
next while nobody is killed. Beside it, on the same servers in the same run:
three processes that take turns under kazoo's Lock (Python), where -k of them (default 5;
each costs a session timeout) are killed in their turn, from the kill to the next line
written. Sessions time out after 10 s in both.

SERVER is one or more of

  zkdev       `agent dev-server` (the default)
  debian      Debian's ZooKeeper 3.8 (libzookeeper-java)
  ensemble    the three servers of docker-compose.yml, 3.9, in containers; agents as processes
  containers  the whole compose stack: agents in containers too, killed by `docker kill`.
              Measured from the end of the container's main process, and in a second line
              from the start of the command.
  direct      the same, but with SIGKILL from outside to the container's main process,
              measured from there
  HOST:PORT[,HOST:PORT...]  servers that run already

The figures are printed and nothing is asserted. Everything is removed at the end; compose
runs under a project name and on ports of its own. -k 0 leaves kazoo out. Needs Go;
/usr/bin/python3 with kazoo (Debian: python3-kazoo) unless -k 0; what SERVER needs; and
root for containers, to read their volume.
USAGE
}

kills=200 kazoo=5
while getopts n:k:h-: option; do
  case $option in
    n) kills=$OPTARG ;;
    k) kazoo=$OPTARG ;;
    h) usage; exit 0 ;;
    -) [ "$OPTARG" = help ] && usage && exit 0; usage >&2; exit 2 ;;
    *) usage >&2; exit 2 ;;
  esac
done
shift $((OPTIND - 1))
case $kills$kazoo in *[!0-9]*) usage >&2; exit 2 ;; esac
[ "$kills" -gt 0 ] || { usage >&2; exit 2; }
[ $# -gt 0 ] || set -- zkdev

cd "$(dirname "$0")/.."
work=$(mktemp -d)
server=
# Without a name of its own it would touch a user's stack.
compose=(docker compose -p turnstile-bench-heal -f docker-compose.yml -f "$work/compose.yml")
export ZOOKEEPER1_PORT=0 ZOOKEEPER2_PORT=0 ZOOKEEPER3_PORT=0 # any free port
export TURNSTILE_IMAGE=turnstile-agent:bench-heal AGENTS=3 PACE=0s
stack=
cat >"$work/compose.yml" <<'YAML'
services:
  agent:
    restart: "no" # it is started again by us
    environment:
      TURNSTILE_ZOOKEEPER_SESSION_TIMEOUT: 10s
      TURNSTILE_LOG_LEVEL: warn
YAML
finish() {
  local status=$?
  trap - EXIT INT TERM
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  if [ -n "$stack" ]; then
    [ "$status" = 0 ] || "${compose[@]}" --ansi never logs --tail 20 >&2 || true
    down || true
    docker image rm "$TURNSTILE_IMAGE" >/dev/null 2>&1 || true
  fi
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

go build -o "$work/agent" ./cmd/agent
go build -o "$work/bench" ./test/bench-heal
[ "$kazoo" = 0 ] || /usr/bin/python3 -c 'import kazoo' || { echo "bench-heal: kazoo is missing: apt-get install python3-kazoo, or -k 0" >&2; exit 1; }

# bench LABEL SERVERS [OPTION...]
bench() {
  local label=$1 servers=$2
  shift 2
  [ "$kazoo" = 0 ] || set -- "$@" -kazoo test/bench-heal/kazoo_lock.py -kazoo-kills "$kazoo"
  "$work/bench" -label "$label" -zookeeper "$servers" -agent "$work/agent" -kills "$kills" "$@"
}

# serve COMMAND...: a server of our own, until bench is done.
serve() {
  "$@" >"$work/server.log" 2>&1 &
  server=$!
}

# until_served PORT
until_served() {
  for _ in $(seq 300); do
    # A server that answers is one whose Mode is known.
    if { exec 3<>"/dev/tcp/127.0.0.1/$1" && echo srvr >&3 && grep -q '^Mode: ' <&3; } 2>/dev/null; then return; fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  cat "$work/server.log" >&2
  echo "bench-heal: no ZooKeeper on port $1" >&2
  exit 1
}

stop_server() {
  kill "$server"
  wait "$server" 2>/dev/null || true
  server=
}

on_zkdev() {
  serve "$work/agent" dev-server --listen 127.0.0.1:42180
  until_served 42180
  bench zkdev 127.0.0.1:42180
  stop_server
}

on_debian() {
  mkdir -p "$work/debian"
  cat >"$work/zoo.cfg" <<CFG
tickTime=500
dataDir=$work/debian
clientPort=42180
clientPortAddress=127.0.0.1
maxSessionTimeout=60000
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=srvr
CFG
  serve java -Xmx256m -cp /usr/share/java/zookeeper.jar org.apache.zookeeper.server.ZooKeeperServerMain "$work/zoo.cfg"
  until_served 42180
  bench "Debian 3.8" 127.0.0.1:42180
  stop_server
}

up() { # [SERVICE...]
  stack=yes
  "${compose[@]}" --progress quiet up -d --wait --wait-timeout 120 "$@"
}
down() { "${compose[@]}" down -v --timeout 1 >/dev/null 2>&1; }

# The servers' own addresses: packets to a published port stall for a while whenever Docker
# takes a container away, which would be measured.
ensemble() {
  local server list=
  for server in zookeeper1 zookeeper2 zookeeper3; do
    list+=,$(docker inspect -f '{{(index .NetworkSettings.Networks "turnstile-bench-heal_clients").IPAddress}}' \
      "$("${compose[@]}" ps -q "$server")"):2181
  done
  echo "${list#,}"
}

on_ensemble() {
  up zookeeper1 zookeeper2 zookeeper3
  bench "3.9, three servers" "$(ensemble)"
  down
}

# in_containers [OPTION]
in_containers() {
  "${compose[@]}" --progress plain build agent >"$work/build.log" 2>&1 || { tail -30 "$work/build.log" >&2; exit 1; }
  up
  bench "3.9, in containers" "$(ensemble)" -containers turnstile-bench-heal "$@"
  down
}

echo "$(nproc) CPUs, load $(cut -d' ' -f1 /proc/loadavg), $(go version | cut -d' ' -f3)"
for target; do
  case $target in
    zkdev) on_zkdev ;;
    debian) on_debian ;;
    ensemble) on_ensemble ;;
    containers) in_containers ;;
    direct) in_containers -direct ;;
    *:*) bench "$target" "$target" ;;
    *) usage >&2; exit 2 ;;
  esac
done
