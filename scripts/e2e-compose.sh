#!/usr/bin/env bash
# The compose stack, tested for real; see usage() below.
# pipefail: what reads from a pipe here reads all of it (sed -n 1p, not head -1), else its
# writer dies of the closed pipe and the step with it.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/e2e-compose.sh

Brings the compose stack up from nothing and does to it what its users and their machines
do: scale it, kill and pause the agent whose turn it is, stop ZooKeeper servers, take it
down and up again, tamper with copies of the file. After each the verifier must say fine.

It runs under a project name, an image name and host ports of its own, beside a stack that
is already there. Everything is removed at the end, and the containers' logs are shown when
something fails. Needs docker with compose, and jq.

Environment:
  KILLS=3              how many holders are killed
  UP_LIMIT=90          seconds for `docker compose up --build -d`, until all are healthy
  SESSION_TIMEOUT=     the agents' session timeout in seconds (default: configs/agent.yaml's)
  KEEP=1               leave the stack up at the end, to look at it
  E2E_PROJECT=turnstile-e2e
USAGE
}
case ${1:-} in
  '') ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

cd "$(dirname "$0")/.."
export COMPOSE_PROJECT_NAME=${E2E_PROJECT:-turnstile-e2e}
export TURNSTILE_IMAGE=turnstile-agent:e2e
export ZOOKEEPER1_PORT=0 ZOOKEEPER2_PORT=0 ZOOKEEPER3_PORT=0 # any free port
export AGENTS=3
kills=${KILLS:-3}
up_limit=${UP_LIMIT:-90}
volume=${COMPOSE_PROJECT_NAME}_shared-data
work=$(mktemp -d)
chmod 755 "$work" # the verifier's user must get in

# The first `session_timeout: 10s` of the sample configuration, or 10.
session=${SESSION_TIMEOUT:-$(sed -n 's/^[# ]*session_timeout:[ "]*\([0-9]*\)s.*/\1/p' configs/agent.yaml | sed -n 1p)}
session=${session:-10}

bold='' red='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' red=$'\e[31m' plain=$'\e[0m'; fi
began=$SECONDS
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

finish() {
  local status=$?
  trap - EXIT INT TERM
  # A paused container can neither be logged into nor be stopped in time.
  docker ps -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --filter status=paused | xargs -r docker unpause >/dev/null
  if [ "$status" != 0 ]; then
    printf '\n%s== failed: the state and the logs%s\n' "$bold" "$plain"
    docker compose ps --all || true
    docker compose --ansi never logs --timestamps --tail 40 agent || true
    docker compose --ansi never logs --tail 15 zookeeper1 zookeeper2 zookeeper3 || true
    docker compose exec -T agent /agent status --json || true
  fi
  if [ -n "${KEEP:-}" ]; then
    echo "KEEP: the stack stays; remove it with: docker compose -p $COMPOSE_PROJECT_NAME down -v"
  else
    remove_all
  fi
  rm -rf "$work"
  if [ "$status" = 0 ]; then echo; echo "e2e-compose: all fine, $((SECONDS - began)) s"; else echo "${red}e2e-compose: FAILED after $((SECONDS - began)) s$plain" >&2; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

remove_all() {
  docker compose --profile verify down -v --remove-orphans --timeout 3 >/dev/null 2>&1 || true
  docker image rm "$TURNSTILE_IMAGE" >/dev/null 2>&1 || true
}

# --- looking at the stack

compose() { docker compose --progress quiet "$@"; }

agents() { docker ps --no-trunc -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" \
  --filter label=com.docker.compose.service=agent --filter label=com.docker.compose.oneoff=False --filter status=running; }

# status [BUT]: `agent status --json`, asked of a running agent whose host is not BUT.
status() {
  local but=${1:-none} id
  for id in $(agents); do
    case $id in "$but"*) continue ;; esac
    [ "$(docker inspect -f '{{.State.Paused}}' "$id")" = false ] || continue
    docker exec "$id" /agent status --json && return 0
  done
  return 1
}
head_turn() { status "$@" | jq -r '.head.turn // 0'; }

# The file as a user reads it. Not the image's own entrypoint: that one would write to /data.
file() { docker run --rm --network none -v "$volume:/data:ro" --entrypoint cat zookeeper:3.9 /data/data.txt; }
# AGENT TURN of every turn in the file. (A record may look like a header, but ours do not.)
turns() { file | awk '/^#turn / { print $3, $2 }'; }
last_turn() { turns | awk 'END { print $2 + 0 }'; }

# within SECONDS WHAT COMMAND...: tries until it holds.
within() {
  local limit=$1 what=$2 until=$((SECONDS + $1))
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$until" ] || fail "not within $limit s: $what"
    sleep 0.5
  done
}

beyond() { local turn; turn=$(head_turn 2>/dev/null) && [ "${turn:-0}" -gt "$1" ]; }
# goes_on SECONDS WHAT: five more turns are committed.
goes_on() {
  local from
  within 30 "status answers" head_turn >/dev/null 2>&1 || fail "no agent tells its status"
  from=$(head_turn)
  within "$1" "$2" beyond "$((from + 4))"
}

fine() {
  local said
  said=$(scripts/verify.sh 2>&1) || { printf '%s\n' "$said"; fail "the verifier is not content: $1"; }
  ok "verifier: fine, $1"
}

holder() { status "$@" | jq -r '.holder.host // empty'; }
# catch_holder: freezes an agent in its turn and prints its container. The turns are too short
# to ask first and act then: freeze whoever is at the front of the queue, and it keeps the turn.
catch_holder() {
  local try host
  for try in $(seq 100); do
    host=$(status 2>/dev/null | jq -r '(.holder // .waiting[0]).host // empty') || continue
    [ -n "$host" ] || continue
    docker pause "$host" >/dev/null 2>&1 || continue
    for _ in 1 2 3; do
      if [ "$(holder "$host")" = "$host" ]; then
        echo "$host"
        return
      fi
    done
    docker unpause "$host" >/dev/null # it was between two turns
  done
  fail "could not catch an agent in its turn in $try tries"
}

everyone_wrote() {
  turns | awk -v from="$1" -v want="$2" '$2 > from && !seen[$1]++ { n++ } END { exit n < want }'
}

# --- from nothing

for tool in docker jq; do
  command -v "$tool" >/dev/null || { echo "e2e-compose: $tool is not installed" >&2; exit 1; }
done
docker compose version >/dev/null || { echo "e2e-compose: docker has no 'compose' command" >&2; exit 1; }
remove_all

step "build" # on its own: how long a compiler takes is no property of the stack
docker compose --progress plain build agent 2>&1 # in full: a quiet build hides what the compiler said
ok "built"
step "docker compose up --build -d: 3 servers and 3 agents healthy within $up_limit s"
compose up --build -d --wait --wait-timeout "$up_limit"
took=$((SECONDS - step_began))
[ "$took" -le "$up_limit" ] || fail "it took $took s"
ok "healthy"
size=$(docker image inspect -f '{{.Size}}' "$TURNSTILE_IMAGE")
[ "$size" -le 20000000 ] || fail "the image has $size bytes, more than 20 MB"
ok "the image has $size bytes"
for id in $(agents); do
  docker inspect "$id" | jq -e '.[0] | .Config.User == "10001:10001" and .HostConfig.ReadonlyRootfs
    and .HostConfig.CapDrop == ["ALL"] and (.HostConfig.SecurityOpt | index("no-new-privileges:true") != null)' >/dev/null ||
    fail "agent $id is not hardened as docker-compose.yml says"
done
ok "agents run as 10001, read-only, without capabilities"

step "turns of all three within 30 s"
within 30 "turns of three agents" everyone_wrote 0 3
ok "turns of three agents; the end of data.txt:"
file | tail -n 6 | sed 's/^/      /'
fine "after the start"

step "scale to 10 agents: each gets turns, fairly"
compose up -d --scale agent=10 --wait --wait-timeout 90
ok "10 agents healthy"
# fair_from TURN: over the 100 turns after it, 10 agents had a turn, none two more than another.
fair_from() {
  within 120 "100 turns of 10 agents" beyond "$(($1 + 100))"
  turns | awk -v from="$1" '$2 > from && $2 <= from + 100 { n[$1]++ }
    END {
      for (a in n) { agents++; if (min == "" || n[a] < min) min = n[a]; if (n[a] > max) max = n[a] }
      printf "      turns %d to %d: %d agents, fewest turns %d, most %d\n", from + 1, from + 100, agents, min, max
      exit !(agents == 10 && max - min <= 2)
    }'
}
# Up to three windows: on a busy machine an agent that the kernel lets sleep for a second
# misses its turns, which is not the queue's doing. A queue that is unfair fails all three.
fair=
for _ in 1 2 3; do
  if fair_from "$(head_turn)"; then fair=yes; break; fi
done
[ -n "$fair" ] || fail "unfair"
ok "fair over 100 turns"
fine "10 agents"
step "AGENTS=4 does the same; and without rest from here on (PACE=1ms)"
export AGENTS=4 PACE=1ms # somebody always has the turn, and the others wait for it
compose up -d --wait --wait-timeout 90
[ "$(agents | wc -l)" = 4 ] || fail "there are $(agents | wc -l) agents"
ok "4 agents"
goes_on 30 "turns with 4 agents"

step "kill the agent whose turn it is, $kills times"
for n in $(seq "$kills"); do
  victim=$(catch_holder)
  before=$(head_turn "$victim")
  docker kill "$victim" >/dev/null
  # Its place ends with its session: the timeout, plus the server's tick, plus a margin.
  within $((session + 10)) "turns after the holder's death" beyond "$((before + 3))"
  ok "$n: $victim killed at turn $before, the others went on"
  docker start "$victim" >/dev/null # Docker restarts what fails, not what is killed by hand
  within 30 "a killed agent comes back" docker exec "$victim" /agent status --me >/dev/null 2>&1
done
fine "after $kills kills"

step "pause the agent whose turn it is for $((2 * session)) s"
victim=$(catch_holder)
before=$(head_turn "$victim")
sleep $((2 * session))
after=$(head_turn "$victim")
[ "$after" -gt "$((before + 1))" ] || fail "the others did not go on (turn $before, then $after)"
ok "the others went from turn $before to $after meanwhile"
started=$(docker inspect -f '{{.State.StartedAt}}' "$victim")
since=$(date +%s)
docker unpause "$victim" >/dev/null
said_fenced() { docker logs --since "$since" "$victim" 2>&1 | grep -Ei 'fenced|expired|turn (was|is) lost|lost (its|the) turn' >/dev/null; }
within 15 "the agent says that it was fenced" said_fenced
docker logs --since "$since" "$victim" 2>&1 | grep -Ei 'fenced|expired|lost' | sed -n '1,2s/^/      /p'
queues_again() { status | jq -e --arg h "$victim" '[.holder, .waiting[]] | any(.host? == $h)' >/dev/null; }
within 20 "the fenced agent queues again" queues_again
[ "$(docker inspect -f '{{.State.StartedAt}}' "$victim")" = "$started" ] || fail "it had to be restarted: it should go on by itself"
ok "it was fenced, says so, and queues again"
goes_on 30 "turns of all again"
fine "after the pause"

step "stop one ZooKeeper server, the leader"
leader=
for server in zookeeper1 zookeeper2 zookeeper3; do
  if compose exec -T "$server" zkServer.sh status 2>/dev/null | grep leader >/dev/null; then leader=$server; fi
done
[ -n "$leader" ] || fail "no server says that it leads"
compose stop -t 5 "$leader"
goes_on 40 "turns on two servers"
ok "the fleet goes on without $leader"
compose start "$leader"
within 30 "$leader serves again" compose exec -T "$leader" zkServer.sh status >/dev/null 2>&1
fine "after the leader's stop"

step "stop two ZooKeeper servers"
since=$(date +%s)
compose stop -t 5 zookeeper2 zookeeper3
sleep 3
stopped=$(last_turn)
sleep $((session + 5))
[ "$(last_turn)" = "$stopped" ] || fail "turns were written without a quorum: $stopped, then $(last_turn)"
ok "no new turns after $stopped"
for id in $(agents); do
  docker logs --since "$since" "$id" 2>&1 | grep -Ei 'zookeeper|quorum' >/dev/null || fail "agent $id does not say why"
done
docker logs --since "$since" "$id" 2>&1 | grep -Ei 'zookeeper|quorum' | tail -1 | sed 's/^/      /'
ok "every agent says why"
compose start zookeeper2 zookeeper3
within 60 "the fleet goes on by itself" beyond "$stopped"
goes_on 30 "turns with all servers"
ok "the fleet goes on by itself"
fine "after the loss of the quorum"

step "SIGTERM: an agent leaves at once"
id=$(holder)
[ -n "$id" ] || id=$(agents | sed -n 1p)
asked=$(date +%s.%N)
docker stop -t 10 "$id" >/dev/null
docker inspect "$id" | jq -e --arg asked "$asked" '.[0].State |
  (.FinishedAt | sub("\\.[0-9]+Z$"; "Z") | fromdate) as $s | (.FinishedAt | capture("(?<f>\\.[0-9]+)Z$").f | tonumber) as $f |
  ($s + $f - ($asked | tonumber)) as $took | "      exit code \(.ExitCode), after \($took * 1000 | round) ms", (.ExitCode == 0 and $took < 1)' -r >"$work/stop" ||
  { cat "$work/stop"; fail "it must exit 0 within a second"; }
head -1 "$work/stop"
goes_on 5 "turns right after it"
docker start "$id" >/dev/null
ok "the next turn did not wait for a session to end"

step "tamper with a copy of the file"
compose stop agent # so that head stays where the copy ends
file >"$work/data.txt"
# judge NAME KINDS: the copy NAME, held against head, must have one of KINDS; none means fine.
judge() {
  local code=0 kinds
  chmod 644 "$work/$1"
  compose run --rm --no-deps -T -v "$work/$1:/copy/data.txt:ro" verify verify /copy/data.txt --json >"$work/out" || code=$?
  kinds=$(jq -r '[.. | objects | .kind? // empty] - ["unwritten"] | unique | join(" ")' "$work/out")
  if [ -z "$2" ]; then
    if [ "$code" != 0 ] || [ -n "$kinds" ]; then
      cat "$work/out"
      fail "$1: exit $code, found: $kinds"
    fi
  elif [ "$code" != 3 ] || ! grep -Eqw "$2" <<<"$kinds"; then
    head -c 2000 "$work/out"
    fail "$1: exit $code (3 expected), found: $kinds ($2 expected)"
  fi
  ok "$1: exit $code${kinds:+, $kinds}"
}
judge data.txt ''
# The line numbers and the byte offset of the 5th turn's header and of the two after it.
mapfile -t at < <(grep -n '^#turn ' "$work/data.txt" | cut -d: -f1)
a=${at[4]} b=${at[5]} c=${at[6]}
text=$(($(head -n "$a" "$work/data.txt" | wc -c) + 3)) # a byte of its first record

cp "$work/data.txt" "$work/flipped"
byte=$(dd if="$work/data.txt" bs=1 skip="$text" count=1 status=none)
[ "$byte" = X ] && other=Y || other=X
printf %s "$other" | dd of="$work/flipped" bs=1 seek="$text" conv=notrunc status=none
judge flipped corrupt
sed "$((a + 1))d" "$work/data.txt" >"$work/line-deleted"
judge line-deleted 'torn|corrupt'
{ head -n "$((b - 1))" "$work/data.txt"; tail -n "+$a" "$work/data.txt"; } >"$work/doubled"
judge doubled duplicated
{
  head -n "$((a - 1))" "$work/data.txt"
  sed -n "$b,$((c - 1))p" "$work/data.txt"
  sed -n "$a,$((b - 1))p" "$work/data.txt"
  tail -n "+$c" "$work/data.txt"
} >"$work/swapped"
judge swapped reordered
head -c -20 "$work/data.txt" >"$work/cut"
judge cut 'lost|torn'
head -n "$((${at[-1]} - 1))" "$work/data.txt" >"$work/last-turn-cut"
judge last-turn-cut lost
code=0
scripts/verify.sh "$work/flipped" >"$work/out" 2>&1 || code=$?
[ "$code" = 3 ] || { cat "$work/out"; fail "scripts/verify.sh FILE: exit $code (3 expected)"; }
ok "scripts/verify.sh FILE: exit 3"
[ "$(file | sha256sum)" = "$(sha256sum <"$work/data.txt")" ] || fail "the volume's file changed meanwhile"
ok "the volume's file is as it was"

step "down and up: turn numbers go on"
before=$(last_turn)
incarnation=$(file | sed -n 1p)
compose down
compose up -d --wait --wait-timeout 90
within 30 "turns after $before" beyond "$before"
[ "$(file | sed -n 1p)" = "$incarnation" ] || fail "the file is not the one from before"
ok "from turn $before to $(head_turn)"
fine "after down and up"

step "down -v and up: it starts at 1"
compose down -v
compose up -d --wait --wait-timeout 90
within 30 "turns" beyond 2
[ "$(turns | awk 'NR == 1 { print $2 }')" = 1 ] || fail "the first turn is not 1"
[ "$(file | sed -n 1p)" != "$incarnation" ] || fail "the incarnation is the old one"
ok "starts at 1, in a new incarnation"
fine "after down -v and up"
