#!/usr/bin/env bash
# The ticket service's compose stack, tested for real; see usage() below.
# pipefail: what reads from a pipe here reads all of it.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/tickets-compose.sh

Brings the compose stack of examples/tickets up from nothing, with three instances. Runs the
README's curl lines, and then for each kind of lock: the users' own curl lines and bad ones,
`tickets try`, the death of the instance that has made a reservation, and stampedes while
instances are killed and paused and while the lock service is wiped. After each the tickets must
be sold once.

It runs under a project name, an image name and a port of its own. Everything is removed at the
end, and the containers' logs are shown when something fails. Needs docker with compose, curl
and jq; on a machine that reaches no image registry, scripts/offline-images.sh comes first.

Environment:
  ROUNDS=1       how many stampedes for each kind of lock while instances are killed and paused
  KEEP=1         leave the stack up at the end, to look at it
  TICKETS_PORT=16005
  TICKETS_PROJECT=tickets-e2e
USAGE
}
case ${1:-} in
  '') ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

cd "$(dirname "$0")/.."
export COMPOSE_PROJECT_NAME=${TICKETS_PROJECT:-tickets-e2e}
export TICKETS_IMAGE=$COMPOSE_PROJECT_NAME:test
export TICKETS_PORT=${TICKETS_PORT:-16005} TICKETS=40 INSTANCES=3
hold=5    # seconds, RESERVE_FOR
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
  exit 1 # not return: a caller's || or until would go on
}

compose() { timeout --foreground -k 5 "${LIMIT:-180}" docker compose -f examples/tickets/compose.yml --ansi never "$@"; }

ours=(--filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")
leftovers() {
  docker ps -aq "${ours[@]}"
  docker volume ls -q "${ours[@]}"
  docker network ls -q "${ours[@]}"
  docker image ls -q "$TICKETS_IMAGE"
}
remove_all() {
  compose down -v --remove-orphans --timeout 2 >/dev/null 2>&1 || true
  docker image rm "$TICKETS_IMAGE" >/dev/null 2>&1 || true
}
finish() {
  local status=$? left
  trap - EXIT INT TERM
  touch "$work/stop"
  wait || true
  # A paused container can neither be logged into nor be stopped in time.
  docker ps -q "${ours[@]}" --filter status=paused | xargs -r docker unpause >/dev/null || true
  if [ "$status" != 0 ]; then
    printf '\n%s== failed: the state and the logs%s\n' "$bold" "$plain"
    compose ps --all || true
    compose logs --no-color --no-log-prefix --tail 15 front || true
    compose logs --no-color --tail 25 init ticket || true
    compose logs --no-color --tail 8 postgres redis zookeeper1 zookeeper2 zookeeper3 || true
  fi
  if [ -n "${KEEP:-}" ]; then
    echo "KEEP: the stack stays; remove it with: docker compose -p $COMPOSE_PROJECT_NAME down -v && docker image rm $TICKETS_IMAGE"
  else
    remove_all
    left=$(leftovers)
    if [ -n "$left" ]; then
      printf '%snot removed:%s %s\n' "$red" "$plain" "${left//$'\n'/ }" >&2
      [ "$status" != 0 ] || status=1
    fi
  fi
  rm -rf "$work"
  if [ "$status" = 0 ]; then echo; echo "tickets-compose: all fine, $SECONDS s"; else echo "${red}tickets-compose: FAILED after $SECONDS s$plain" >&2; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# --- asking

# The users' own lines, to the letter. That the content type ends in a blank is theirs, too.
reserve_line=$(cat <<'LINE'
curl localhost:6005/reserve_ticket -X POST -H "Content-Type: application/json " -d '{"ticket_id": "<Ticket ID>", "client_id": "<Customer's Identifier>"}'
LINE
)
book_line=$(cat <<'LINE'
curl localhost:6005/book_ticket -X POST -H "Content-Type: application/json " -d '{"ticket_id": "<Ticket ID>", "client_id": "<Customer's Identifier>"}'
LINE
)
available_line='curl 0.localhost:6005/available_tickets'

# The lines say `curl`; here that also tells the status, and where the answer goes.
curl() { command curl -sS --max-time 15 -o "$work/answer" -w '%{http_code}' "$@"; }

# run LINE: as a shell runs it, at our port; the status in $came, the answer in $answer. No
# answer fails.
run() {
  : >"$work/answer"
  came=$(eval "${1//localhost:6005/localhost:$TICKETS_PORT}" 2>"$work/curl") || { answer="$came $(cat "$work/curl")"; return 1; }
  answer=$(cat "$work/answer")
}

# wants 'STATUS [CODE]' LINE: runs it, and compares. What is refused must say so in JSON.
wants() {
  local got
  run "$2" || fail "$2: no answer: $answer"
  got=$(jq -r --arg status "$came" '$status + if .error then " " + .error.code + if .error.message > "" then "" else ", without a message" end else "" end' <<<"$answer") ||
    fail "$2: $came, and no JSON: $answer"
  [ "$got" = "$1" ] || fail "$2: $got, want $1: $answer"
}

filled() { # LINE TICKET CUSTOMER
  local line=${1//<Ticket ID>/$2}
  printf '%s' "${line//<Customer\'s Identifier>/$3}"
}
reserve() { wants "$1" "$(filled "$reserve_line" "$2" "$3")"; } # 'STATUS [CODE]' TICKET CUSTOMER
book() { wants "$1" "$(filled "$book_line" "$2" "$3")"; }

listed() { wants 200 "$available_line"; jq -e --arg id "$1" '.available_tickets | index($id) != null' <<<"$answer" >/dev/null; }
# listed_now TICKET: the same while instances come and go.
listed_now() { run "$available_line" && [ "$came" = 200 ] && jq -e --arg id "$1" '.available_tickets | index($id) != null' <<<"$answer" >/dev/null; }
# nth N: the nth ticket that is available.
nth() {
  wants 200 "$available_line"
  jq -er --argjson n "$1" '.available_tickets[$n]' <<<"$answer" || fail "too few tickets are left: $answer"
}

# eventually SECONDS WHAT COMMAND...: tries until it succeeds.
eventually() {
  local most=$1 what=$2 began=$SECONDS
  shift 2
  until "$@"; do
    [ $((SECONDS - began)) -le "$most" ] || fail "not within $most s: $what"
    sleep 0.2
  done
}
now() { date +%s%3N; }

# --- the instances

# up HOLD: what `up` makes of the settings as they are now, with another RESERVE_FOR.
up() {
  RESERVE_FOR=$1 compose up -d --wait --wait-timeout 150 >"$work/up" 2>&1 || { tail -30 "$work/up" >&2; fail "up -d --wait"; }
  all_ready
}

# Not `compose ps -a`: that has the containers of `compose run` among them, a stampede's too.
instances() { docker ps -aq "${ours[@]}" --filter label=com.docker.compose.service=ticket --filter label=com.docker.compose.oneoff=False; }

# ready ID: asks an instance itself; through the front another one might answer.
ready() {
  local ip
  ip=$(docker inspect -f "{{(index .NetworkSettings.Networks \"${COMPOSE_PROJECT_NAME}_web\").IPAddress}}" "$1")
  # shellcheck disable=SC2016 # $0 is the container's
  [ -n "$ip" ] && LIMIT=5 compose exec -T front bash -c \
    'exec 3<>"/dev/tcp/$0/6005" && printf "GET /readyz HTTP/1.0\r\n\r\n" >&3 && grep -qE "^HTTP/1.. 200" <&3' "$ip" >/dev/null 2>&1 </dev/null
}
all_ready() {
  local id n
  n=$(instances | wc -l)
  [ "$n" = "$INSTANCES" ] || fail "there are $n instances, want $INSTANCES"
  for id in $(instances); do eventually 60 "instance $id is ready" ready "$id"; done
}

tickets() { compose run --rm --no-deps -T ticket "$@" </dev/null; }

# torment: over and over, while one instance is paused for longer than a reservation and a
# session last, kills the others one after the other. It ends by itself, and leaves none so.
torment() {
  local ids id began
  while [ ! -e "$work/stop" ]; do
    mapfile -t ids < <(instances | shuf)
    began=$SECONDS
    # Docker cannot always freeze a busy container. Without a pause the stampede does not count.
    docker pause "${ids[0]}" || { sleep 1; continue; }
    for id in "${ids[@]:1}"; do
      [ ! -e "$work/stop" ] || break
      docker kill "$id"
      sleep 1
      docker start "$id"
      echo killed >>"$work/faults"
      sleep 1.5
    done
    while [ $((SECONDS - began)) -lt $((session + 2)) ]; do sleep 0.2; done
    docker unpause "${ids[0]}"
    echo paused >>"$work/faults"
    sleep 1
  done
}

# wipe: deletes all that the lock service knows, each second, until it is told to stop.
wipe() {
  while [ ! -e "$work/stop" ]; do
    if [ "$LOCK_TYPE" = distributed_lock ]; then
      LIMIT=10 compose exec -T redis redis-cli FLUSHALL
      echo wiped >>"$work/faults"
    # It fails when somebody makes a node, or deletes one, that it is just about to delete.
    elif LIMIT=20 compose exec -T zookeeper1 zkCli.sh -server localhost:2181 deleteall /tickets; then
      echo wiped >>"$work/faults"
    else
      echo wiped in part >>"$work/faults"
    fi
    sleep 1
  done </dev/null
}

epoch() { compose exec -T postgres psql -U tickets -Atc 'SELECT epoch FROM service' </dev/null; }

# stampede CUSTOMERS JOB FAULT...: a stampede beside a job that does something to the stack. Once
# more when all was sold before each fault was there.
stampede() {
  local customers=$1 what=$2 job fault try missing said
  shift 2
  for try in 1 2 3; do
    : >"$work/faults"
    "$what" >"$work/job" 2>&1 &
    job=$!
    LIMIT=330 tickets stampede --url http://front:6005 --customers "$customers" --tickets 10 --within 5m >"$work/stampede" 2>&1 ||
      { cat "$work/stampede"; fail "the stampede beside $what"; }
    missing=
    for fault; do grep -qx "$fault" "$work/faults" || missing+=" $fault"; done
    said=$(sort "$work/faults" | uniq -c | awk '{ n = $1; $1 = ""; printf "%s%s %d times", sep, substr($0, 2), n; sep = ", " }')
    touch "$work/stop"
    wait "$job" || { tail -5 "$work/job" >&2; fail "$what did not go on until the end"; }
    rm "$work/stop"
    all_ready
    grep -A 2 '^10 of 10 tickets sold, ' "$work/stampede" || { cat "$work/stampede"; fail "the stampede beside $what"; }
    [ -n "$missing" ] || break
    echo "   meanwhile: $said; not:$missing"
  done
  [ -z "$missing" ] || fail "in $try stampedes there was none with all of: $*"
  ok "meanwhile: $said"
}

# --- from nothing

for tool in docker curl jq; do
  type -P "$tool" >/dev/null || { echo "tickets-compose: $tool is not installed" >&2; exit 1; }
done
docker compose version >/dev/null || { echo "tickets-compose: docker has no 'compose' command" >&2; exit 1; }
remove_all

step "build" # on its own: how long a compiler takes is no property of the stack
LIMIT=900 compose build ticket >"$work/build" 2>&1 || { tail -40 "$work/build" >&2; fail "build"; }
ok "built"

step "up: three instances, PostgreSQL, Redis, three ZooKeepers"
export LOCK_TYPE=distributed_lock
up "${hold}s"
ok "up"

step "the README's lines"
# shellcheck disable=SC2016 # fences, no commands
sed -n '/^```sh$/,/^```$/p' examples/tickets/README.md | grep '^curl ' >"$work/lines" || fail "the README has no curl lines"
count=0
while IFS= read -r line <&3; do
  want=$(sed -nE 's/.*# *([0-9]{3}( +[a-z_]+)?).*/\1/p' <<<"$line")
  wants "${want:-200}" "$line"
  count=$((count + 1))
done 3<"$work/lines"
ok "$count lines"

for LOCK_TYPE in distributed_lock ephemeral_node; do
  export LOCK_TYPE
  if [ "$LOCK_TYPE" != distributed_lock ]; then
    step "$LOCK_TYPE: switch to it"
    up "${hold}s"
    ok "three instances are ready"
  fi

  step "$LOCK_TYPE: the users' curl lines"
  for n in 0 1 2; do wants 200 "curl $n.localhost:6005/available_tickets"; done
  one=$(nth 0) two=$(nth 1)
  listed "$one" || fail "$one is not listed"
  reserve 200 "$one" alice
  ! listed "$one" || fail "$one is reserved, and listed"
  book '400 not_reserved' "$one" bob
  book 200 "$one" alice
  book '400 booked' "$one" bob
  reserve '400 booked' "$one" bob
  ! listed "$one" || fail "$one is booked, and listed"
  book '400 not_reserved' "$two" alice
  before=$(now)
  reserve 200 "$two" alice
  after=$(now)
  reserve '400 reserved' "$two" bob
  eventually $((hold + 10)) "$two is listed again" listed "$two"
  at=$(now)
  [ $((at - before)) -ge $((hold * 1000)) ] || fail "a reservation of $hold s was gone after $((at - before)) ms"
  # It is free again within 1 s; the rest is for the look at it.
  [ $((at - after)) -le $((hold * 1000 + 2000)) ] || fail "a reservation of $hold s was still there after $((at - after)) ms"
  book '400 expired' "$two" alice
  reserve 200 "$two" bob
  book 200 "$two" bob
  ok "both transactions; a reservation of $hold s was gone after $((at - after)) ms"

  step "$LOCK_TYPE: bad input"
  head -c 102400 /dev/zero | tr '\0' x >"$work/long"
  for path in reserve_ticket book_ticket; do
    wants '400 bad_json' "curl localhost:6005/$path -H 'Content-Type: application/json ' -d '{\"ticket_id\": \"ticket-1\",'"
    wants '400 bad_json' "curl localhost:6005/$path -H 'Content-Type: application/json ' -d '[1]'"
    wants '400 no_body' "curl localhost:6005/$path -X POST -H 'Content-Type: application/json '"
    wants '413 too_large' "curl localhost:6005/$path -H 'Content-Type: application/json ' --data-binary '@$work/long'"
    wants '405 wrong_method' "curl localhost:6005/$path"
    wants '415 not_json' "curl localhost:6005/$path -d ticket_id=ticket-1"
  done
  for name in '../x' '' '/' 'ticket-1/..' "$(head -c 1000 "$work/long")"; do
    reserve '400 bad_name' "$name" alice
    book '400 bad_name' "$name" alice
  done
  reserve '400 bad_name' ticket-1 ''
  reserve '400 unknown_ticket' no-such-ticket alice
  wants '404 not_found' 'curl localhost:6005/'
  ok "refused"

  step "$LOCK_TYPE: tickets try"
  tickets try --url http://front:6005 >"$work/try" 2>&1 || { cat "$work/try"; fail "tickets try"; }
  tail -1 "$work/try" | sed 's/^/   /'
  ok "tried"

  step "$LOCK_TYPE: the instance dies that has made a reservation"
  up 2m
  three=$(nth 0)
  mapfile -t ids < <(instances)
  docker kill "${ids[@]:1}" >/dev/null # the reservation can be made by the first one only
  for n in 0 1 2; do eventually 10 "$n.localhost answers" listed_now "$three"; done
  reserve 200 "$three" carol
  docker start "${ids[@]:1}" >/dev/null
  all_ready
  reserve '400 reserved' "$three" dave
  docker kill "${ids[0]}" >/dev/null
  at=$(now)
  if [ "$LOCK_TYPE" = distributed_lock ]; then
    eventually 10 "another instance answers" run "curl localhost:6005/readyz"
    sleep $((session + 3)) # what ends an instance on ZooKeeper does nothing here
    ! listed "$three" || fail "the reservation was gone with its instance"
    reserve '400 reserved' "$three" dave
    book 200 "$three" carol
    ok "the reservation lived on, and was booked through another"
  else
    eventually $((session + 10)) "$three is free" listed_now "$three"
    took=$(($(now) - at))
    # ZooKeeper looks each second; the rest is for our own look.
    [ $took -le $((session * 1000 + 2500)) ] || fail "the reservation was gone $took ms after its instance died, want $session s"
    book '400 reservation_lost' "$three" carol
    reserve 200 "$three" dave
    book 200 "$three" dave
    ok "the reservation was gone after $took ms, and the ticket another's"
  fi
  docker start "${ids[0]}" >/dev/null
  all_ready
  up "${hold}s"

  for ((round = 1; round <= rounds; round++)); do
    step "$LOCK_TYPE: stampede $round of $rounds, instances are killed and paused"
    stampede 1000 torment killed paused
  done

  step "$LOCK_TYPE: a stampede while the lock service is wiped"
  before=$(epoch)
  stampede 200 wipe wiped
  after=$(epoch)
  [ "$after" -gt "$before" ] || fail "no instance has noticed that the lock service was wiped: the epoch is still $after"
  ok "the epoch rose from $before to $after"
done
