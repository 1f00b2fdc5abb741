#!/usr/bin/env bash
# How fast `agent verify` is next to `sha256sum` of the same file, and how much
# memory it takes. Prints figures and asserts nothing but that the file is fine.
#
#   scripts/bench-verify.sh [GiB] [records in a turn ...]
#
# By default 1 GiB, with turns of 1000 records and, the hardest case, of 3.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
gib=${1:-1}
shift || true
sizes=("$@")
((${#sizes[@]})) || sizes=(1000 3)
rounds=3

dir=$(mktemp -d "${TMPDIR:-/tmp}/bench-verify.XXXXXX")
trap 'rm -rf "$dir"' EXIT

go build -o "$dir/agent" ./cmd/agent

# seconds COMMAND…: how long it takes, its output in $dir/out
seconds() {
  local start=$EPOCHREALTIME
  "$@" >"$dir/out"
  awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f\n", b - a }'
}

median() { sort -n | sed -n "$((rounds / 2 + 1))p"; }

# peak COMMAND…: its highest resident memory in MiB, seen every 10 ms
peak() {
  local most=0 now pid
  "$@" >/dev/null &
  pid=$!
  while now=$(awk '/^VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null) && [[ $now ]]; do
    most=$now
    sleep 0.01
  done
  wait "$pid"
  awk -v k="$most" 'BEGIN { printf "%.1f\n", k / 1024 }'
}

echo "$(nproc) CPUs, load $(cut -d' ' -f1 /proc/loadavg), $(go version | cut -d' ' -f3), $(sha256sum --version | head -n 1)"
for records in "${sizes[@]}"; do
  file=$dir/data.txt
  BIGFILE=$file BIGFILE_SIZE=$((gib << 30)) BIGFILE_RECORDS=$records \
    go test -count=1 -run '^TestWriteBigFile$' ./internal/verify >/dev/null
  cat "$file" >/dev/null # both find it in memory
  : >"$dir/verify"
  : >"$dir/sha"
  for ((i = 0; i < rounds; i++)); do
    seconds "$dir/agent" verify "$file" >>"$dir/verify"
    grep -qx fine "$dir/out"
    seconds sha256sum "$file" >>"$dir/sha"
  done
  verify=$(median <"$dir/verify")
  sha=$(median <"$dir/sha")
  awk -v n="$records" -v v="$verify" -v s="$sha" -v b="$(stat -c %s "$file")" -v m="$(peak "$dir/agent" verify "$file")" 'BEGIN {
    printf "%d records a turn: agent verify %.2f s (%.0f MB/s), sha256sum %.2f s (%.0f MB/s), ratio %.2f, peak memory %.1f MiB\n",
      n, v, b / v / 1e6, s, b / s / 1e6, v / s, m
  }'
done
