#!/usr/bin/env bash
# Durable turns a second, beside what people use instead.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/bench-turns.sh [--clients 3,10,100] [--sync 0s,2ms] [--for 3s] [--settle 2s]
                              [--rounds 3] [--peers LIST] [--within 20m] [--dir DIR]
                              [--json FILE] [--plot FILE.svg] [--docs]

Each client is a process that takes turns without rest and appends three short lines in
each. Measured, in one run, side by side, in rounds, with a fresh server each time:

  turnstile-8   Turnstile as it is, each agent with up to eight turns under way
  turnstile-1   Turnstile, each agent with one turn under way
  go-zookeeper  go-zookeeper's Lock
  kazoo         kazoo's Lock (Debian's, in Python)
  curator       Curator's InterProcessMutex (Debian's, in Java)
  etcd          concurrency.Mutex of etcd's Go client, on Debian's etcd

with so many clients, on the disk as it is and with a sync that takes longer by so much (the
client waits after its fdatasync; what a sync then took is in the last column). The locks
append and fdatasync inside the lock. All but etcd use one ZooKeeper 3.8. A turn counts when
it is on disk. Printed are medians over the rounds: turns a second, processor time a turn (the
clients' and the server's), and the time from asking for a turn to its being on disk.

  --peers LIST    only these, separated by commas
  --within TIME   begin nothing new after so long: what is missing then is told
  --json FILE     all measurements
  --plot FILE     turns a second as a picture, .svg or .png
  --docs          the table into docs/performance.md, the picture into docs/turns.svg

  scripts/bench-turns.sh --clients 3 --rounds 1 --for 1s --peers turnstile-8,etcd
  scripts/bench-turns.sh --docs --json turns.json        # about 15 minutes

Run it on a quiet machine. Needs Go, Java, python3 and Debian's packages python3-kazoo,
libzookeeper-java, libcurator-recipes-java, default-jdk-headless: as root it installs what is
missing. etcd is taken out of Debian's etcd-server without installing it, which would start it.
USAGE
}

die() {
  printf 'bench-turns: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf '  next step: %s\n' "$2" >&2
  exit 1
}

here=$PWD
absolute() { case $1 in /*) echo "$1" ;; *) echo "$here/$1" ;; esac; }
value() { [ $# -gt 1 ] || die "$1 needs a value" "scripts/bench-turns.sh --help"; }

typed=scripts/bench-turns.sh # without what names a place on this machine
peers=turnstile-8,turnstile-1,go-zookeeper,kazoo,curator,etcd
json='' plot='' docs='' pass=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --docs) docs=yes typed+=" $1"; shift; continue ;;
    --clients | --sync | --for | --settle | --rounds | --within) value "$@"; pass+=("$1" "$2") typed+=" $1 $2" ;;
    --dir) value "$@"; pass+=(--dir "$(absolute "$2")") ;;
    --peers) value "$@"; peers=$2 typed+=" $1 $2" ;;
    --json) value "$@"; json=$(absolute "$2") ;;
    --plot) value "$@"; plot=$(absolute "$2") ;;
    *) usage >&2; exit 2 ;;
  esac
  shift 2
done
wants() { case ",$peers," in *",$1,"*) return 0 ;; esac; return 1; }

cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What is installed; etcd is not among it.
missing=()
command -v java >/dev/null || missing+=(default-jre-headless)
[ -e /usr/share/java/zookeeper.jar ] || missing+=(libzookeeper-java)
if wants kazoo && ! { [ -x /usr/bin/python3 ] && /usr/bin/python3 -c 'import kazoo' 2>/dev/null; }; then missing+=(python3-kazoo); fi
if wants curator; then
  command -v javac >/dev/null || missing+=(default-jdk-headless)
  [ -e /usr/share/java/curator-recipes.jar ] || missing+=(libcurator-recipes-java)
fi
if [ ${#missing[@]} -gt 0 ]; then
  install="apt-get install --no-install-recommends ${missing[*]}"
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then die "missing: ${missing[*]}" "$install, or leave it out with --peers"; fi
  echo "bench-turns: $install" >&2
  { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}"; } >"$work/apt.log" 2>&1 ||
    die "$install failed: $(tail -5 "$work/apt.log")" "install them by hand, or leave them out with --peers"
fi

if wants etcd; then
  if command -v etcd >/dev/null; then
    ln -s "$(command -v etcd)" "$work/etcd"
  elif command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
    # Installed, the package would start a server. Its program needs nothing but libc.
    (
      cd "$work"
      apt-get -q download etcd-server || { [ "$(id -u)" = 0 ] && apt-get -q update && apt-get -q download etcd-server; }
      dpkg-deb -x etcd-server_*.deb tree
      mv tree/usr/bin/etcd etcd
      rm -rf tree etcd-server_*.deb
    ) >"$work/apt.log" 2>&1 || die "etcd cannot be had from Debian's etcd-server: $(tail -3 "$work/apt.log")" "put etcd on the PATH, or leave it out with --peers"
  else
    die "missing: etcd" "put etcd on the PATH, or leave it out with --peers"
  fi
fi

echo "bench-turns: building" >&2
go build -o "$work/bench-turns" ./test/bench-turns
(cd test/peers && go build -o "$work/" ./etcd-mutex ./plot)
cp test/peers/kazoo_mutex.py "$work/"
if wants curator; then
  jars=/usr/share/java
  javac -d "$work" -cp "$jars/curator-recipes.jar:$jars/curator-framework.jar:$jars/curator-client.jar:$jars/zookeeper.jar" test/peers/CuratorMutex.java
fi
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
git diff --quiet HEAD -- cmd internal test go.mod 2>/dev/null || commit+=" with changes"
if [ -n "$docs" ]; then
  pass+=(--docs docs/performance.md)
  plot=${plot:-$PWD/docs/turns.svg}
fi
status=0
"$work/bench-turns" --with "$work" --commit "$commit" --command "$typed" --peers "$peers" --json "${json:-$work/turns.json}" ${pass[@]+"${pass[@]}"} || status=$?
if [ -n "$plot" ] && [ -e "${json:-$work/turns.json}" ]; then
  "$work/plot" "${json:-$work/turns.json}" "$plot"
fi
exit "$status"
