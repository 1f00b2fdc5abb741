#!/usr/bin/env bash
# Runs the clients of other people, unmodified, against a ZooKeeper server:
#   test/zk-clients/run.sh HOST:PORT
# kazoo's recipes, Apache's command line client and Curator's mutex. It needs
# Debian's python3-kazoo, libzookeeper-java, libcurator-recipes-java and a JDK, and ends
# non-zero if any check fails.
set -euo pipefail

server=${1:?usage: $0 HOST:PORT}
here=$(cd "$(dirname "$0")" && pwd)
jars=/usr/share/java
curator=$jars/curator-recipes.jar:$jars/curator-framework.jar:$jars/curator-client.jar
curator=$curator:$jars/zookeeper.jar:$jars/zookeeper-jute.jar:$jars/guava.jar:$jars/slf4j-nop.jar

/usr/bin/python3 "$here/kazoo_check.py" "$server"
"$here/zkcli_check.sh" "$server"
java -cp "$curator" "$here/CuratorCheck.java" "$server"
echo "all clients are content with $server"
