#!/usr/bin/env bash
# The fault matrix on real processes; `scripts/chaos.sh --help`.
set -euo pipefail

toxiproxy=github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0

cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/go/bin

bin=$(mktemp -d "${TMPDIR:-/tmp}/turnstile-chaos-bin.XXXXXX")
chaos=
# shellcheck disable=SC2317 # called by the trap
finish() {
  # Told to end: let it end its processes first.
  [ -z "$chaos" ] || { kill -TERM "$chaos" 2>/dev/null && wait "$chaos"; } || true
  rm -rf "$bin"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

go build -o "$bin/chaos" ./test/chaos
case " $* " in
  *" --help "* | *" -h "* | *" --list "*) "$bin/chaos" "$@"; exit ;;
esac
# missing NAME NEXT: what is missing and what to do about it.
missing() {
  printf 'chaos: %s is missing\n  next step: %s\n' "$1" "$2" >&2
  exit 1
}
if [ "${1:-}" = compose ]; then
  docker compose version >/dev/null 2>&1 || missing "docker with compose" "install Docker and its compose plugin"
elif [[ " $* " != *" --servers"* ]]; then
  command -v java >/dev/null || missing java "apt-get install default-jre-headless, or --servers host:port,..."
  [ -e /usr/share/java/zookeeper.jar ] || missing /usr/share/java/zookeeper.jar "apt-get install libzookeeper-java, or --servers host:port,..."
fi
go build -o "$bin/agent" ./cmd/agent
[ "${1:-}" = compose ] || GOBIN=$bin go install "$toxiproxy" # not in go.mod: nothing of it is linked

# A mount namespace of our own, so that what is mounted goes with us, however we end.
own=()
if [ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null; then own=(unshare --mount --propagation private); fi
mode=()
if [ "${1:-}" = compose ]; then mode=(compose); shift; fi
"${own[@]}" "$bin/chaos" "${mode[@]}" --agent "$bin/agent" --toxiproxy "$bin/server" "$@" &
chaos=$!
code=0
wait "$chaos" || code=$?
chaos=
exit "$code"
