#!/usr/bin/env bash
# Reserve and book, on both kinds of lock beside each other; see usage() below.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/bench-tickets.sh [--rounds N] [--tickets N]

A hundred customers at once reserve and book a ticket each, again and again, through three
instances of the ticket service: on Redis (distributed_lock) and on ZooKeeper (ephemeral_node),
one after the other in each round, on the same PostgreSQL. Printed are the requests a second,
two for each ticket, in each round and in the middle of all rounds, and their ratio.

  --rounds N    how many rounds (default 5)
  --tickets N   how many tickets in each (default 2000)

PostgreSQL, Redis and ZooKeeper run in containers (examples/tickets/with-services.sh), each on
this machine's one disk. Run it on a quiet machine.
USAGE
}
rounds=5 tickets=2000
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --rounds) rounds=${2:?--rounds wants a number}; shift ;;
    --tickets) tickets=${2:?--tickets wants a number}; shift ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for ((round = 1; round <= rounds; round++)); do
  echo "round $round of $rounds" >&2
  # Fresh services each time: what a round leaves behind must not slow the next.
  examples/tickets/with-services.sh go -C examples/tickets test ./internal/api -run '^$' \
    -bench ReserveAndBook -benchtime "${tickets}x" -count 1 >>"$work/out" || { cat "$work/out" >&2; exit 1; }
done
awk '
  /^BenchmarkReserveAndBook/ {
    split($1, name, "/"); sub(/-[0-9]+$/, "", name[2])
    for (i = 2; i < NF; i++) if ($(i + 1) == "requests/s") rate[name[2], ++n[name[2]]] = $i
  }
  # middle gives the median, and sorts.
  function middle(kind, i, j, t) {
    for (i = 1; i <= n[kind]; i++) for (j = i + 1; j <= n[kind]; j++)
      if (rate[kind, j] < rate[kind, i]) { t = rate[kind, i]; rate[kind, i] = rate[kind, j]; rate[kind, j] = t }
    return (rate[kind, int((n[kind] + 1) / 2)] + rate[kind, int(n[kind] / 2) + 1]) / 2
  }
  END {
    split("distributed_lock ephemeral_node", kinds, " ")
    for (k = 1; k <= 2; k++) {
      m[k] = middle(kinds[k])
      printf "%-17s %6.0f requests/s (", kinds[k], m[k]
      for (i = 1; i <= n[kinds[k]]; i++) printf "%s%.0f", (i > 1 ? ", " : ""), rate[kinds[k], i]
      print ")"
    }
    if (!m[1] || !m[2]) exit 1
    printf "ephemeral_node to distributed_lock: %.2f\n", m[2] / m[1]
  }' "$work/out"
