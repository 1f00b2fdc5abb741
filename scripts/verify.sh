#!/usr/bin/env bash
# The verdict on the fleet's file; see usage() below.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/verify.sh [FLAGS...]          the compose stack's file, held against ZooKeeper: head, and
                                             the turns that are committed and not written yet
       scripts/verify.sh FILE [FLAGS...]     that file: a copy, or one beside no stack

FLAGS go to `agent verify` as they are: --json, --acks DIR, ...

Exit codes are those of `agent verify`: 0 fine, 1 failed (could not be checked), 2 wrong usage,
3 faults found, 6 refused.

A FILE is verified by an agent built on the spot when Go is here, else by the image
turnstile-agent, which sees the file's folder only, and read-only.

Environment: COMPOSE_PROJECT_NAME (turnstile), TURNSTILE_IMAGE (turnstile-agent),
and every TURNSTILE_* setting of the agent.
USAGE
}

die() {
  printf '%s\n' "verify.sh: $1" "  next step: $2" >&2
  exit "${3:-1}"
}

repo=$(cd "$(dirname "$0")/.." && pwd)
image=${TURNSTILE_IMAGE:-turnstile-agent}
project=${COMPOSE_PROJECT_NAME:-turnstile}

need_docker() {
  command -v docker >/dev/null || die "neither FILE nor Docker is here" "scripts/verify.sh FILE, or install Docker"
  docker info >/dev/null 2>&1 || die "the Docker daemon does not answer" "start it, see 'docker info'"
}

need_image() {
  docker image inspect "$image" >/dev/null 2>&1 ||
    die "there is no image $image" "docker compose build agent"
}

verify_stack() {
  local volume terminal=()
  need_docker
  docker compose version >/dev/null 2>&1 || die "docker has no 'compose' command" "install Docker's compose plugin"
  volume=$(docker volume ls -q --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.volume=shared-data)
  [ -n "$volume" ] || die "the stack '$project' has no volume yet" "docker compose up --build -d, or name a file: scripts/verify.sh FILE"
  need_image
  # Without head, missing turns at the end would go unseen: say so rather than call that fine.
  [ -n "$(docker ps -q --filter "label=com.docker.compose.project=$project" --filter name=zookeeper)" ] ||
    die "ZooKeeper is not running, so the file cannot be held against its head" \
      "docker compose up -d, or verify a copy without head: scripts/verify.sh FILE"
  [ -t 0 ] && [ -t 1 ] || terminal=(-T)
  cd "$repo"
  exec docker compose --progress quiet run --rm --no-deps "${terminal[@]}" verify verify /data/data.txt "$@"
}

verify_file() {
  local file=$1 folder built status=0
  shift
  [ -e "$file" ] || die "$file: no such file" "name an existing file, or none for the compose stack" 2
  file=$(realpath "$file")
  folder=$(dirname "$file")
  PATH=$PATH:/usr/local/go/bin
  if command -v go >/dev/null; then
    built=$(mktemp -d)
    # `go run` would turn every exit code into 1.
    (cd "$repo" && CGO_ENABLED=0 go build -o "$built/agent" ./cmd/agent) || status=1
    [ "$status" != 0 ] || "$built/agent" verify "$file" "$@" || status=$?
    rm -rf "$built"
    exit "$status"
  fi
  need_docker
  need_image
  local settings=() name
  for name in $(compgen -e TURNSTILE_ || true); do settings+=(--env "$name"); done
  # As the caller, who can read the file; the image's own user may not.
  exec docker run --rm --read-only --cap-drop ALL --user "$(id -u):$(id -g)" "${settings[@]}" \
    --volume "$folder:/verify:ro" "$image" verify "/verify/${file##*/}" "$@"
}

for argument in "$@"; do
  case $argument in -h | --help) usage; exit 0 ;; esac
done
case ${1:-} in
  '' | -*) verify_stack "$@" ;;
  *) verify_file "$@" ;;
esac
