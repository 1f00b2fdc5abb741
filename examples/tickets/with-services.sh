#!/usr/bin/env bash
# Runs a command beside a PostgreSQL, a Redis and a ZooKeeper in containers; see usage() below.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: examples/tickets/with-services.sh COMMAND [ARGUMENT...]

Starts a PostgreSQL, a Redis and a ZooKeeper in containers with free ports of 127.0.0.1, runs
the command where it stands with these variables set, and removes the containers:

  DATABASE_URL, REDIS_URL, ZOOKEEPER_SERVERS                             for tickets
  TICKETS_TEST_POSTGRES, TICKETS_TEST_REDIS, TICKETS_TEST_ZOOKEEPER      for its tests

Its exit code is the command's. Needs docker; on a machine that reaches no image registry
scripts/offline-images.sh comes first.

  examples/tickets/with-services.sh go -C examples/tickets test -p 1 -count 1 ./...
  examples/tickets/with-services.sh go -C examples/tickets run . stampede --spawn 3 --rounds 20
USAGE
}
case ${1:-} in
  '') usage >&2; exit 2 ;;
  -h | --help) usage; exit 0 ;;
esac

command -v docker >/dev/null || { echo "with-services: docker is not installed" >&2; exit 1; }
containers=()
trap '[ ${#containers[@]} = 0 ] || docker rm -f -v "${containers[@]}" >/dev/null' EXIT

# start NAME PORT RUN-ARGUMENT...: a container whose port is one of ours; gives that in $port.
start() {
  local name=$1 inside=$2 id
  shift 2
  id=$(docker run -d -p "127.0.0.1::$inside" "$@") || { echo "with-services: $name was not started; next step: scripts/offline-images.sh $name" >&2; exit 1; }
  containers+=("$id")
  port=$(docker port "$id" "$inside/tcp" | sed -n '1s/.*://p')
}

# answers CONTAINER COMMAND...: waits until a command in the container succeeds.
answers() {
  local id=$1 tries=0
  shift
  until docker exec "$id" "$@" >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ $tries = 120 ] || [ "$(docker inspect --format '{{.State.Running}}' "$id")" = false ]; then
      echo "with-services: a service did not come up, or not in 60 s; it logged:" >&2
      docker logs --tail 20 "$id" >&2
      exit 1
    fi
    sleep 0.5
  done
}

start postgres 5432 --tmpfs /var/lib/postgresql/data -e POSTGRES_USER=tickets -e POSTGRES_PASSWORD=tickets -e POSTGRES_DB=tickets postgres:17
export DATABASE_URL=postgres://tickets:tickets@127.0.0.1:$port/tickets TICKETS_TEST_POSTGRES=postgres://tickets:tickets@127.0.0.1:$port/tickets
start redis 6379 redis:8 redis-server
export REDIS_URL=redis://127.0.0.1:$port/0 TICKETS_TEST_REDIS=redis://127.0.0.1:$port/1
start zookeeper 2181 -e ZOO_TICK_TIME=500 -e ZOO_4LW_COMMANDS_WHITELIST=srvr -e ZOO_MAX_CLIENT_CNXNS=0 zookeeper:3.9
export ZOOKEEPER_SERVERS=127.0.0.1:$port TICKETS_TEST_ZOOKEEPER=127.0.0.1:$port

# By TCP: while it is being set up it listens to its socket alone.
answers "${containers[0]}" pg_isready -h 127.0.0.1 -U tickets
answers "${containers[1]}" redis-cli ping
answers "${containers[2]}" bash -c 'exec 3<>/dev/tcp/127.0.0.1/2181 && echo srvr >&3 && grep -q ^Mode: <&3'
"$@"
