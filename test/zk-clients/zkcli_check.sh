#!/usr/bin/env bash
# Runs what Apache's zkCli.sh runs, from Debian's libzookeeper-java, against a ZooKeeper
# server:
#   zkcli_check.sh HOST:PORT
# and compares what each command prints with what it prints on a real server.
set -euo pipefail

server=${1:?usage: $0 HOST:PORT}
base=/zkcli-$$-$RANDOM
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# Its exit status is that of the last command that failed, if any did; some are
# meant to.
jars=/usr/share/java
cli() {
  java -cp "$jars/zookeeper.jar:$jars/zookeeper-jute.jar:$jars/commons-cli.jar:$jars/slf4j-nop.jar" \
    org.apache.zookeeper.ZooKeeperMain -server "$server" "$@" || true
}

# One session runs all of these; the client prints results to either stream.
cli >"$out" 2>&1 <<EOC
create $base one
create -s $base/seq- a
create -s $base/seq- b
create -e $base/eph c
create -e -s $base/es- d
create -c $base/container
ls $base
ls -s $base
ls -R $base
get -w $base
set $base two
get -s $base
stat $base
set -v 7 $base three
get $base/nobody
getAllChildrenNumber $base
getEphemerals $base
getAcl $base
setAcl $base/container world:anyone:r
getAcl $base/container
sync $base
stat -w $base/eph
delete $base/eph
delete $base
addWatch -m PERSISTENT_RECURSIVE $base
create $base/below
removewatches $base
create $base/unseen
whoami
config
deleteall $base
ls $base
quit
EOC

failed=0
expect() { # expect WHAT REGEXP: some line of the output matches
  if grep -Eq -- "$2" "$out"; then
    echo "ok  zkCli $1"
  else
    echo "FAILED  zkCli $1: nothing matches $2" >&2
    failed=1
  fi
}

expect "create" "^Created $base\$"
expect "create -s" "^Created $base/seq-0000000001\$"
expect "create -e" "^Created $base/eph\$"
expect "create -e -s" "^Created $base/es-0000000003\$"
expect "create -c" "^Created $base/container\$"
expect "ls" '^\[container, eph, es-0000000003, seq-0000000000, seq-0000000001\]'
expect "ls -s" '^numChildren = 5'
expect "ls -R" "^$base/es-0000000003\$"
expect "get" '^one'
expect "get -w" "WatchedEvent state:SyncConnected type:NodeDataChanged path:$base\$"
expect "set and get -s" '^two'
expect "stat" '^dataVersion = 1'
expect "set -v" 'version No is not valid'
expect "get of nobody" "Node does not exist: $base/nobody|NoNode for $base/nobody"
expect "getAllChildrenNumber" '^5$'
expect "getEphemerals" "^\\[$base/eph, $base/es-0000000003\\]|^\\[$base/es-0000000003, $base/eph\\]"
expect "getAcl" ': cdrwa'
expect "setAcl" ': r$'
expect "sync" 'Sync is OK'
expect "stat -w and delete" "WatchedEvent state:SyncConnected type:NodeDeleted path:$base/eph\$"
expect "delete with children" "Node not empty: $base"
expect "addWatch" "WatchedEvent state:SyncConnected type:NodeCreated path:$base/below\$"
expect "whoami" '^ip: 127\.0\.0\.1|127\.0\.0\.1'
expect "deleteall" "Node does not exist: $base\$|NoNode for $base\$"
if grep -q "NodeCreated path:$base/unseen" "$out"; then
  echo "FAILED  zkCli removewatches: the watch is still there" >&2
  failed=1
fi

# The session ended with quit: its ephemeral nodes went, another sees nothing.
if cli ls "$base" 2>&1 | grep -Eq "Node does not exist: $base"; then
  echo "ok  zkCli a second session sees the deleteall"
else
  echo "FAILED  zkCli: $base is still there" >&2
  failed=1
fi

if [ "$failed" -ne 0 ]; then
  echo "--- what zkCli printed:" >&2
  cat "$out" >&2
fi
exit "$failed"
