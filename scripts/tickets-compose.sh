#!/usr/bin/env bash
# The ticket service's compose stack, tested for real; see usage() below.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/tickets-compose.sh

Brings the compose stack of examples/tickets up from nothing, with three instances, and for each
kind of lock: runs the users' own curl lines and bad ones, `tickets try`, the death of an
instance that has made a reservation, and stampedes while instances are killed and paused and
while the lock service is wiped. After each the tickets must be sold once.

It runs under a project name and a port of its own. Everything is removed at the end, and the
containers' logs are shown when something fails. Needs docker with compose, curl and jq.

Environment:
  ROUNDS=1       how many stampedes for each kind of lock
  KEEP=1         leave the stack up at the end
  TICKETS_PROJECT=tickets-e2e
USAGE
}
case ${1:-} in
  '') ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

cd "$(dirname "$0")/.."
export COMPOSE_PROJECT_NAME=${TICKETS_PROJECT:-tickets-e2e} TICKETS_IMAGE=tickets:e2e
export TICKETS_PORT=${TICKETS_PORT:-16005} RESERVE_FOR=3s TICKETS=40 INSTANCES=3
compose=(docker compose -f examples/tickets/compose.yml)
session=5 # seconds, `serve`'s default
rounds=${ROUNDS:-1}
work=$(mktemp -d)

bold='' red='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' red=$'\e[31m' plain=$'\e[0m'; fi
step_began=$SECONDS
step() {
  step_began=$SECONDS
  printf '\n%s== %s%s\n' "$bold" "$*" "$plain"
}
ok() { printf '   ok %s (%d s)\n' "$*" "$((SECONDS - step_began))"; }
fail() {
  printf '%s   FAILED: %s%s\n' "$red" "$*" "$plain" >&2
  exit 1
}

remove_all() { "${compose[@]}" --ansi never down -v --timeout 2 >/dev/null 2>&1 || true; }
finish() {
  local status=$?
  trap - EXIT INT TERM
  touch "$work/stop"
  wait
  docker ps -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --filter status=paused | xargs -r docker unpause >/dev/null
  if [ "$status" != 0 ]; then
    printf '\n%s== failed: the state and the logs%s\n' "$bold" "$plain"
    "${compose[@]}" ps --all || true
    "${compose[@]}" --ansi never logs --tail 10 || true
  fi
  if [ -n "${KEEP:-}" ]; then
    echo "KEEP: the stack stays; remove it with: docker compose -p $COMPOSE_PROJECT_NAME down -v"
  else
    remove_all
  fi
  rm -rf "$work"
  if [ "$status" = 0 ]; then echo; echo "tickets-compose: all fine, $SECONDS s"; else echo "${red}tickets-compose: FAILED after $SECONDS s$plain" >&2; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# wants STATUS [CODE] -- CURL-ARGUMENT...: asks, and compares; the answer is in $answer.
wants() {
  local status=$1 code='' came
  shift
  [ "$1" = -- ] || { code=$1; shift; }
  shift
  came=$(curl -sS --max-time 15 -o "$work/answer" -w '%{http_code}' "$@") || fail "curl $*: no answer"
  answer=$(cat "$work/answer")
  [ "$came" = "$status" ] || fail "curl $*: $came, want $status $code: $answer"
  [ "$(jq -r '.error.code // ""' <<<"$answer")" = "$code" ] || fail "curl $*: want the code '$code': $answer"
}

# ask PATH TICKET CUSTOMER: the arguments of the users' own curl line, with its blank, in $line.
ask() {
  line=("localhost:$TICKETS_PORT/$1" -X POST -H "Content-Type: application/json " -d "{\"ticket_id\": \"$2\", \"client_id\": \"$3\"}")
}
listed() { curl -sS --max-time 15 "0.localhost:$TICKETS_PORT/available_tickets" | jq -e --arg id "$1" '.available_tickets | index($id) != null' >/dev/null; }

# eventually SECONDS WHAT COMMAND...: tries until it succeeds.
eventually() {
  local most=$1 what=$2 began=$SECONDS
  shift 2
  until "$@"; do
    [ $((SECONDS - began)) -le "$most" ] || fail "not within $most s: $what"
    sleep 0.3
  done
}

tickets() { "${compose[@]}" run --rm --no-deps -T ticket "$@"; }
instances() { "${compose[@]}" ps -aq ticket; }
readies() { curl -sS -o /dev/null -w '%{http_code}' --max-time 5 "$1.localhost:$TICKETS_PORT/readyz" | grep -q 200; }
all_ready() {
  local n
  for n in 0 1 2; do eventually 60 "instance $n is ready" readies "$n"; done
}

# torment: kills and pauses instances, one at a time, until it is told to stop. It leaves none so.
torment() {
  local id n=0
  while [ ! -e "$work/stop" ]; do
    for id in $(instances | shuf); do
      [ ! -e "$work/stop" ] || break
      n=$((n + 1))
      if [ $((n % 2)) = 1 ]; then
        docker kill "$id" && sleep 1 && docker start "$id"
      else
        docker pause "$id" && sleep $((session + 2)) && docker unpause "$id"
      fi
      echo "$id" >>"$work/faults"
      sleep 1
    done
  done >/dev/null 2>&1
}

# wipe: deletes all that the lock service knows, each second, until it is told to stop.
wipe() {
  while [ ! -e "$work/stop" ]; do
    if [ "$LOCK_TYPE" = distributed_lock ]; then
      "${compose[@]}" exec -T redis redis-cli FLUSHALL
    else
      "${compose[@]}" exec -T zookeeper1 zkCli.sh -server localhost:2181 deleteall /tickets
    fi
    echo wiped >>"$work/faults"
    sleep 1
  done >/dev/null 2>&1 </dev/null
}

# stampede CUSTOMERS FAULT: a stampede while something happens.
stampede() {
  local job
  : >"$work/faults"
  "$2" &
  job=$!
  tickets stampede --url http://front:6005 --customers "$1" --tickets 10 --within 5m || fail "the stampede beside $2"
  touch "$work/stop"
  wait "$job"
  rm "$work/stop"
  all_ready
  [ -s "$work/faults" ] || fail "nothing was done to the stack meanwhile"
  ok "$2: $(wc -l <"$work/faults") times"
}

fault_of_an_instance() {
  local id
  ask reserve_ticket "$1" carol
  wants 200 -- "${line[@]}"
  for id in $(instances); do docker kill "$id" >/dev/null; done
  # shellcheck disable=SC2046 # a list of IDs
  docker start $(instances) >/dev/null
}

remove_all
step "up: three instances, PostgreSQL, Redis, three ZooKeepers"
export LOCK_TYPE=distributed_lock
"${compose[@]}" --ansi never up --build -d --wait >"$work/up" 2>&1 || { tail -30 "$work/up" >&2; fail "up"; }
ok "up"

number=1 # of the next ticket that nobody had
for LOCK_TYPE in distributed_lock ephemeral_node; do
  export LOCK_TYPE
  step "$LOCK_TYPE: switch to it"
  RESERVE_FOR=3s "${compose[@]}" --ansi never up -d --wait >"$work/up" 2>&1 || { tail -30 "$work/up" >&2; fail "up -d with LOCK_TYPE=$LOCK_TYPE"; }
  all_ready
  ok "three instances are ready"

  step "$LOCK_TYPE: the users' curl lines"
  one=ticket-$number two=ticket-$((number + 1)) three=ticket-$((number + 2))
  number=$((number + 3))
  listed "$one" || fail "$one is not listed"
  ask reserve_ticket "$one" alice; wants 200 -- "${line[@]}"
  ! listed "$one" || fail "$one is reserved, and listed"
  ask book_ticket "$one" bob; wants 400 not_reserved -- "${line[@]}"
  ask book_ticket "$one" alice; wants 200 -- "${line[@]}"
  ask book_ticket "$one" bob; wants 400 booked -- "${line[@]}"
  ask book_ticket "$two" alice; wants 400 not_reserved -- "${line[@]}"
  ask reserve_ticket "$two" alice; wants 200 -- "${line[@]}"
  ask reserve_ticket "$two" bob; wants 400 reserved -- "${line[@]}"
  began=$(date +%s%3N)
  eventually 10 "$two is listed again" listed "$two"
  took=$(($(date +%s%3N) - began))
  [ $took -lt 4500 ] || fail "a reservation of 3 s was there for more than $took ms" # 1 s, and a look at it
  ask book_ticket "$two" alice; wants 400 expired -- "${line[@]}"
  ok "both transactions; a reservation of 3 s was gone after $took ms"

  step "$LOCK_TYPE: bad input"
  wants 400 bad_json -- "localhost:$TICKETS_PORT/reserve_ticket" -H "Content-Type: application/json" -d '{'
  wants 400 no_body -- "localhost:$TICKETS_PORT/reserve_ticket" -X POST
  wants 405 wrong_method -- "localhost:$TICKETS_PORT/reserve_ticket"
  ask reserve_ticket ../x alice; wants 400 bad_name -- "${line[@]}"
  head -c 100000 /dev/zero | tr '\0' ' ' >"$work/long"
  wants 413 too_large -- "localhost:$TICKETS_PORT/reserve_ticket" -H "Content-Type: application/json" --data-binary "@$work/long"
  ok "refused"

  step "$LOCK_TYPE: tickets try"
  tickets try --url http://front:6005 >"$work/try" || { cat "$work/try"; fail "tickets try"; }
  tail -1 "$work/try"
  ok "tried"

  step "$LOCK_TYPE: all instances are killed while one has made a reservation"
  if [ "$LOCK_TYPE" = distributed_lock ]; then
    # Booked by another: the reservation must last for that.
    RESERVE_FOR=2m "${compose[@]}" --ansi never up -d --wait >/dev/null 2>&1
    fault_of_an_instance "$three"
    all_ready
    ask book_ticket "$three" carol; wants 200 -- "${line[@]}"
    ok "the reservation lived on, and was booked"
  else
    RESERVE_FOR=2m "${compose[@]}" --ansi never up -d --wait >/dev/null 2>&1
    fault_of_an_instance "$three"
    eventually $((session + 10)) "$three is free" listed "$three"
    ok "the reservation was gone"
  fi
  RESERVE_FOR=3s "${compose[@]}" --ansi never up -d --wait >/dev/null 2>&1
  all_ready

  for ((round = 1; round <= rounds; round++)); do
    step "$LOCK_TYPE: stampede $round of $rounds, instances are killed and paused"
    stampede 1000 torment
  done
  step "$LOCK_TYPE: a stampede while the lock service is wiped"
  stampede 200 wipe
done

step "the README's lines"
"${compose[@]}" exec -T postgres psql -q -U tickets -c "UPDATE tickets SET booked_by = NULL, client = '', reserved_until = 0 WHERE id IN ('ticket-1', 'ticket-2'); DELETE FROM sales WHERE ticket IN ('ticket-1', 'ticket-2')"
RESERVE_FOR=2m "${compose[@]}" --ansi never up -d --wait >/dev/null 2>&1
all_ready
# shellcheck disable=SC2016 # no variable is meant
sed -n '/^```sh$/,/^```$/p' examples/tickets/README.md | sed -n 's/^curl //p' >"$work/lines"
count=0
while IFS= read -r command; do
  read -r status code <<<"$(sed -n 's/.*# \([0-9]\+ *[a-z_]*\)$/\1/p' <<<"$command")" || true
  args=()
  # shellcheck disable=SC2294 # the line as a shell reads it
  eval "args=(${command%%#*})"
  wants "${status:-200}" ${code:+"$code"} -- "${args[@]/localhost:6005/localhost:$TICKETS_PORT}"
  count=$((count + 1))
done <"$work/lines"
[ $count -ge 8 ] || fail "only $count lines were found"
ok "$count lines"
