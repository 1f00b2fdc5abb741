#!/usr/bin/env bash
# Build local substitutes for the base images, for machines that reach no image registry.
# See usage() below; the images are made of Debian packages and of this machine's Go tree.
set -euo pipefail

readonly GOLANG_IMAGE=golang:1.26-bookworm GOLANG_SUITE=bookworm
readonly ZOOKEEPER_IMAGE=zookeeper:3.9 ZOOKEEPER_SUITE=trixie
readonly POSTGRES_IMAGE=postgres:17 REDIS_IMAGE=redis:8 HAPROXY_IMAGE=haproxy:3.0 TICKETS_SUITE=trixie
# Marks an image as one of ours; its value says what the image was made from.
readonly LABEL=turnstile.substitute

usage() {
  cat <<USAGE
Usage: scripts/offline-images.sh [--force] [golang] [zookeeper] [postgres] [redis] [haproxy]

Builds local substitutes for the base images that the Dockerfiles and compose files name
(the first two: the fleet's; all: examples/tickets), for machines that reach no image
registry (air-gapped sites, CI). All of them when none is named:

  $GOLANG_IMAGE   this machine's Go tree on a minimal Debian $GOLANG_SUITE, with the
                         project's modules inside, and those of examples/tickets:
                         'docker build' then needs no network.
                         Pure Go only: there is no C compiler in it.
  $ZOOKEEPER_IMAGE          ZooKeeper 3.9 and a headless JRE from Debian $ZOOKEEPER_SUITE; takes the
                         official image's ZOO_* variables, paths and user.
  $POSTGRES_IMAGE            PostgreSQL 17 from Debian $TICKETS_SUITE, without its JIT compiler;
                         takes POSTGRES_USER, _PASSWORD, _DB, _INITDB_ARGS, PGDATA.
  $REDIS_IMAGE                Redis 8 from Debian $TICKETS_SUITE, without modules.
  $HAPROXY_IMAGE            HAProxy 3.0 from Debian $TICKETS_SUITE.

These three have no stop signal of their own ('docker import' cannot set one): compose says it.

An image that is there already is kept: the official one always, a substitute as long as
what it was made from (Go version, go.sum files, this script) is unchanged. Substitutes
carry the label $LABEL ('docker images --filter label=$LABEL').

  --force      build anew, even over an official image
  -h, --help   this text

Needs root, docker, go, mmdebstrap (Debian: apt-get install mmdebstrap), a Debian mirror
and a Go module proxy. Where they are is taken from this machine's own settings (apt's
sources, 'go env GOPROXY'); to override:

  DEBIAN_MIRROR    address of a Debian archive, as in a sources.list line
  DEBIAN_KEYRING   the archive's keys (default: the debian-archive-keyring package's)
USAGE
}

say() { printf '%s\n' "offline-images: $*"; }
die() {
  printf '%s\n' "offline-images: error: $1" >&2
  [ $# -lt 2 ] || printf '%s\n' "  next step: $2" >&2
  exit "${3:-1}"
}

force=
want=()
while [ $# -gt 0 ]; do
  case $1 in
    --force) force=1 ;;
    golang | zookeeper | postgres | redis | haproxy) want+=("$1") ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; die "unknown argument: $1" "see the usage above" 2 ;;
  esac
  shift
done
[ ${#want[@]} -gt 0 ] || want=(golang zookeeper postgres redis haproxy)

cd "$(dirname "$0")/.."

# Root often has no Go on its PATH although the usual place holds one.
PATH=$PATH:/usr/local/go/bin

[ "$(id -u)" = 0 ] || die "must run as root: file ownership inside the images depends on it" "sudo $0"
command -v docker >/dev/null || die "docker is not installed" "install Docker Engine, then run this again"
docker info >/dev/null 2>&1 || die "the Docker daemon does not answer" "start it (systemctl start docker), see 'docker info'"
for tool in mmdebstrap tar; do
  command -v "$tool" >/dev/null || die "$tool is not installed" "apt-get install $tool"
done

work=$(mktemp -d "${TMPDIR:-/tmp}/offline-images.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The mirror this machine's own apt uses: the first one that calls itself Debian's. What it
# calls itself is known once its lists were fetched, so on a fresh machine that is done first.
debian_mirror() {
  local mirror=${DEBIAN_MIRROR:-} fetched
  for fetched in '' yes; do
    [ -z "$mirror" ] || break
    [ -z "$fetched" ] || apt-get -qq update >&2 || true
    # shellcheck disable=SC2016 # the variables are apt's
    mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
      awk '$1 == "Debian" && $2 ~ /^https?:/ && !uri { uri = $2 } END { print uri }') || true
  done
  echo "$mirror"
}

# extract SUITE DIR PACKAGES: lays out packages and what they depend on, without running
# their install scripts. Nothing is configured: what we need of that, we write ourselves.
extract() {
  local suite=$1 dir=$2 packages=$3 mirror
  local keyring=${DEBIAN_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
  mirror=$(debian_mirror)
  [ -n "$mirror" ] || die "no Debian mirror found in apt's settings" "set DEBIAN_MIRROR to one"
  [ -r "$keyring" ] || die "no Debian archive keys at $keyring" "install debian-archive-keyring, or set DEBIAN_KEYRING"
  mmdebstrap --quiet --mode=root --variant=extract --format=dir --keyring="$keyring" \
    --include="$packages" "$suite" "$dir" "$mirror" ||
    die "could not get the packages of Debian $suite" "check that $mirror answers, or set DEBIAN_MIRROR"
  (cd "$dir" && rm -rf usr/share/{doc,man,locale,info,lintian,bug,maven-repo,perl5} var/lib/{dpkg,apt} var/cache/* \
    usr/lib/*/gconv usr/lib/*/perl*)
}

# accounts DIR [USER UID]: the files a package's install script would have written.
accounts() {
  local dir=$1
  printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin' >"$dir/etc/passwd"
  printf '%s\n' 'root:x:0:' 'nogroup:x:65534:' >"$dir/etc/group"
  echo 'hosts: files dns' >"$dir/etc/nsswitch.conf"
  if [ $# -gt 1 ]; then
    echo "$2:x:$3:$3:$2:/:/usr/sbin/nologin" >>"$dir/etc/passwd"
    echo "$2:x:$3:" >>"$dir/etc/group"
  fi
}

make_golang() {
  local root=$work/golang goroot module
  goroot=$(go env GOROOT)

  say "  base system"
  extract "$GOLANG_SUITE" "$root" base-files,dash,coreutils,ca-certificates
  accounts "$root"
  # ca-certificates' install script would have joined these.
  cat "$root"/usr/share/ca-certificates/mozilla/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"

  say "  Go tree $(go env GOVERSION) from $goroot"
  mkdir -p "$root/usr/local/go" "$root/go/bin"
  # The standard library's own tests are half of its sources; no build needs them.
  tar -C "$goroot" -c --exclude=./test --exclude=./api --exclude=./doc --exclude=./.git \
    --exclude='*/testdata' --exclude='*_test.go' . | tar -C "$root/usr/local/go" -x --no-same-owner

  say "  the project's modules"
  # A module cache of its own, so that only this project's modules go in; what the machine
  # has already is copied, not downloaded.
  for module in . examples/tickets; do
    [ -e "$module/go.sum" ] || continue
    GOMODCACHE=$work/mod GOFLAGS=-modcacherw \
      GOPROXY="file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)" \
      go -C "$module" mod download || die "could not download the modules of $module/go.mod" "check 'go env GOPROXY'"
  done
  mkdir -p "$root/usr/local/share/goproxy"
  cp -R "$work/mod/cache/download/." "$root/usr/local/share/goproxy/"
  rm -rf "$root/usr/local/share/goproxy/sumdb"

  # GOSUMDB: go.sum still checks every module; the public database cannot be asked.
  import_image "$GOLANG_IMAGE" "$root" \
    'ENV PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    'ENV GOPATH=/go GOTOOLCHAIN=local CGO_ENABLED=0' \
    'ENV GOPROXY=file:///usr/local/share/goproxy GOSUMDB=off' \
    'WORKDIR /go' 'CMD ["sh"]'
}

make_zookeeper() {
  local root=$work/zookeeper jar java
  say "  ZooKeeper and a headless JRE"
  extract "$ZOOKEEPER_SUITE" "$root" \
    base-files,dash,bash,coreutils,sed,grep,util-linux,openjdk-21-jre-headless,libzookeeper-java
  accounts "$root" zookeeper 1000

  # The packages bring a servlet container, a Java compiler and more; the server needs these.
  for jar in "$root"/usr/share/java/*; do
    case ${jar##*/} in
      zookeeper* | slf4j-api* | slf4j-simple* | netty* | jackson* | metrics* | jetty9* | servlet* | \
        commons-cli* | commons-io* | snappy* | jline* | findbugs* | jansi* | jctools*) ;;
      *) rm -f "$jar" ;;
    esac
  done
  java=$(cd "$root/usr/lib/jvm" && echo java-21-openjdk-*)
  rm -rf "$root/usr/lib/jvm/$java"/{man,legal} "$root/usr/lib/jvm/$java"/lib/server/classes_*.jsa
  ln -s "../lib/jvm/$java/bin/java" "$root/usr/bin/java"

  mkdir -p "$root"/{conf,data,datalog,logs,apache-zookeeper/bin}
  chown 1000:1000 "$root"/{conf,data,datalog,logs}

  cat >"$root/apache-zookeeper/bin/zkServer.sh" <<'SCRIPT'
#!/bin/bash
# The part of ZooKeeper's zkServer.sh that a container needs.
set -euo pipefail
config=${2:-${ZOOCFGDIR:-/conf}/zoo.cfg}
case ${1:-} in
  start-foreground)
    # JVMFLAGS comes last, so that its -Xmx wins.
    # shellcheck disable=SC2086 # both are lists of flags
    exec java -Dzookeeper.log.dir="$ZOO_LOG_DIR" \
      -Dorg.slf4j.simpleLogger.showDateTime=true \
      -Dorg.slf4j.simpleLogger.dateTimeFormat='yyyy-MM-dd HH:mm:ss,SSS' \
      -Dorg.slf4j.simpleLogger.showShortLogName=true \
      -XX:+ExitOnOutOfMemoryError -Xmx"${ZK_SERVER_HEAP:-1000}m" ${SERVER_JVMFLAGS:-} ${JVMFLAGS:-} \
      -cp "$ZOO_CLASSPATH" org.apache.zookeeper.server.quorum.QuorumPeerMain "$config"
    ;;
  status)
    exec 3<>/dev/tcp/127.0.0.1/2181
    echo srvr >&3
    grep '^Mode: ' <&3
    ;;
  *)
    echo "Usage: zkServer.sh start-foreground|status [CONFIG] (a substitute for the official image's)" >&2
    exit 2
    ;;
esac
SCRIPT

  cat >"$root/apache-zookeeper/bin/zkCli.sh" <<'SCRIPT'
#!/bin/bash
# shellcheck disable=SC2086 # both are lists of flags
exec java -Dorg.slf4j.simpleLogger.defaultLogLevel=warn ${CLIENT_JVMFLAGS:-} ${JVMFLAGS:-} \
  -cp "$ZOO_CLASSPATH" org.apache.zookeeper.ZooKeeperMain "$@"
SCRIPT

  cat >"$root/docker-entrypoint.sh" <<'SCRIPT'
#!/bin/bash
# Does what the official image's entrypoint is documented to do: write zoo.cfg and myid from
# the ZOO_* variables unless they are there, and run the server as the user zookeeper.
set -e

if [[ $1 = zkServer.sh && $(id -u) = 0 ]]; then
  chown -R zookeeper "$ZOO_DATA_DIR" "$ZOO_DATA_LOG_DIR" "$ZOO_LOG_DIR" "$ZOO_CONF_DIR"
  exec setpriv --reuid=zookeeper --regid=zookeeper --clear-groups "$0" "$@"
fi

config=$ZOO_CONF_DIR/zoo.cfg
if [[ ! -f $config ]]; then
  {
    echo "dataDir=$ZOO_DATA_DIR"
    echo "dataLogDir=$ZOO_DATA_LOG_DIR"
    echo "tickTime=$ZOO_TICK_TIME"
    echo "initLimit=$ZOO_INIT_LIMIT"
    echo "syncLimit=$ZOO_SYNC_LIMIT"
    echo "autopurge.snapRetainCount=$ZOO_AUTOPURGE_SNAPRETAINCOUNT"
    echo "autopurge.purgeInterval=$ZOO_AUTOPURGE_PURGEINTERVAL"
    echo "maxClientCnxns=$ZOO_MAX_CLIENT_CNXNS"
    echo "standaloneEnabled=$ZOO_STANDALONE_ENABLED"
    echo "admin.enableServer=$ZOO_ADMINSERVER_ENABLED"
    for server in ${ZOO_SERVERS:-server.1=localhost:2888:3888;2181}; do echo "$server"; done
    [[ -z $ZOO_4LW_COMMANDS_WHITELIST ]] || echo "4lw.commands.whitelist=$ZOO_4LW_COMMANDS_WHITELIST"
    for extra in $ZOO_CFG_EXTRA; do echo "$extra"; done
  } >"$config"
fi
if [[ ! -f $ZOO_DATA_DIR/myid ]]; then
  echo "${ZOO_MY_ID:-1}" >"$ZOO_DATA_DIR/myid"
fi

exec "$@"
SCRIPT
  chmod 755 "$root/docker-entrypoint.sh" "$root"/apache-zookeeper/bin/*

  import_image "$ZOOKEEPER_IMAGE" "$root" \
    'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/apache-zookeeper/bin' \
    'ENV ZOO_CONF_DIR=/conf ZOO_DATA_DIR=/data ZOO_DATA_LOG_DIR=/datalog ZOO_LOG_DIR=/logs ZOOCFGDIR=/conf' \
    'ENV ZOO_TICK_TIME=2000 ZOO_INIT_LIMIT=5 ZOO_SYNC_LIMIT=2 ZOO_MAX_CLIENT_CNXNS=60' \
    'ENV ZOO_AUTOPURGE_PURGEINTERVAL=0 ZOO_AUTOPURGE_SNAPRETAINCOUNT=3' \
    'ENV ZOO_STANDALONE_ENABLED=true ZOO_ADMINSERVER_ENABLED=true' \
    'ENV ZOO_CLASSPATH=/conf:/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar' \
    'VOLUME ["/data", "/datalog", "/logs"]' 'EXPOSE 2181 2888 3888 8080' \
    'WORKDIR /apache-zookeeper' \
    'ENTRYPOINT ["/docker-entrypoint.sh"]' 'CMD ["zkServer.sh", "start-foreground"]'
}

make_postgres() {
  local root=$work/postgres
  say "  PostgreSQL 17"
  extract "$TICKETS_SUITE" "$root" base-files,dash,bash,coreutils,sed,grep,util-linux,libc-bin,postgresql-17
  accounts "$root" postgres 999
  # Perl is for Debian's wrappers, LLVM for the JIT compiler: PostgreSQL goes without when its
  # plug-in is not there.
  rm -rf "$root"/usr/lib/*/{libLLVM*,libz3*,libperl*,perl-base} "$root"/usr/lib/llvm* "$root"/usr/bin/perl* \
    "$root"/usr/share/{perl,i18n} "$root"/usr/lib/postgresql/17/lib/{llvmjit*,bitcode}
  find "$root/usr/bin" -lname '*pg_wrapper' -delete
  sed -i "s/^#listen_addresses = .*/listen_addresses = '*'/" "$root/usr/share/postgresql/17/postgresql.conf.sample"

  mkdir -p "$root"/var/lib/postgresql/data "$root/run/postgresql"
  rm -rf "$root/var/run"
  ln -s /run "$root/var/run" # base-files' install script would have
  chown -R 999:999 "$root"/var/lib/postgresql "$root/run/postgresql"
  chmod 1777 "$root"/var/lib/postgresql/data
  chmod 3777 "$root/run/postgresql"

  cat >"$root/docker-entrypoint.sh" <<'SCRIPT'
#!/bin/bash
# Does what the official image's entrypoint is documented to do, but for the directory of
# scripts and the *_FILE variables: make a database on the first start, run the server as
# the user postgres.
set -euo pipefail

[[ ${1:0:1} != - ]] || set -- postgres "$@"
if [[ $1 = postgres && $(id -u) = 0 ]]; then
  mkdir -p "$PGDATA"
  chown -R postgres "$PGDATA" /run/postgresql
  exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi

if [[ $1 = postgres && ! -s $PGDATA/PG_VERSION ]]; then
  user=${POSTGRES_USER:-postgres}
  db=${POSTGRES_DB:-$user}
  method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
  if [[ -z ${POSTGRES_PASSWORD:-} && $method != trust ]]; then
    echo "error: the database is not made yet, and there is no password for its superuser; set POSTGRES_PASSWORD" >&2
    exit 1
  fi
  # shellcheck disable=SC2086 # a list of flags
  initdb --username="$user" --pwfile=<(echo "${POSTGRES_PASSWORD:-}") -D "$PGDATA" ${POSTGRES_INITDB_ARGS:-}
  printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
  # Without a server, so that nobody takes this one for the one that is to stay.
  [[ $db = postgres ]] || postgres --single -D "$PGDATA" postgres <<<"CREATE DATABASE \"${db//\"/\"\"}\"" >/dev/null
fi

exec "$@"
SCRIPT
  chmod 755 "$root/docker-entrypoint.sh"

  import_image "$POSTGRES_IMAGE" "$root" \
    'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/17/bin' \
    'ENV LANG=C.UTF-8 PG_MAJOR=17 PGDATA=/var/lib/postgresql/data' \
    'VOLUME ["/var/lib/postgresql/data"]' 'EXPOSE 5432' \
    'ENTRYPOINT ["/docker-entrypoint.sh"]' 'CMD ["postgres"]'
}

make_redis() {
  local root=$work/redis
  say "  Redis 8"
  extract "$TICKETS_SUITE" "$root" base-files,dash,bash,coreutils,grep,util-linux,redis-server,redis-tools
  accounts "$root" redis 999
  mkdir -p "$root/data"
  chown 999:999 "$root/data"

  cat >"$root/docker-entrypoint.sh" <<'SCRIPT'
#!/bin/bash
# Does what the official image's entrypoint is documented to do: run the server as the user
# redis, and without protected mode, which would turn other containers away.
set -euo pipefail

[[ ${1:0:1} != - && $1 != *.conf ]] || set -- redis-server "$@"
if [[ $1 = redis-server && $(id -u) = 0 ]]; then
  chown -R redis .
  exec setpriv --reuid=redis --regid=redis --clear-groups "$0" "$@"
fi
if [[ $1 = redis-server ]]; then
  umask 0077
  # A configuration file stays first, and what is said after this option prevails over it.
  case ${2:-} in
    -h | --help | -v | --version) ;;
    [!-]*) set -- "$1" "$2" --protected-mode no "${@:3}" ;;
    *) set -- "$1" --protected-mode no "${@:2}" ;;
  esac
fi

exec "$@"
SCRIPT
  chmod 755 "$root/docker-entrypoint.sh"

  import_image "$REDIS_IMAGE" "$root" \
    'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    'VOLUME ["/data"]' 'EXPOSE 6379' 'WORKDIR /data' \
    'ENTRYPOINT ["/docker-entrypoint.sh"]' 'CMD ["redis-server"]'
}

make_haproxy() {
  local root=$work/haproxy
  say "  HAProxy 3.0"
  extract "$TICKETS_SUITE" "$root" base-files,dash,bash,coreutils,grep,haproxy
  accounts "$root" haproxy 99
  rm -rf "$root"/usr/bin/perl* "$root"/usr/share/perl "$root"/usr/lib/*/perl-base "$root"/etc/haproxy
  mkdir -p "$root/usr/local/etc/haproxy" "$root/var/lib/haproxy"
  chown 99:99 "$root/var/lib/haproxy"

  cat >"$root/docker-entrypoint.sh" <<'SCRIPT'
#!/bin/bash
# Does what the official image's entrypoint is documented to do: HAProxy as a master and its
# worker, in the foreground.
set -euo pipefail

[[ ${1:0:1} != - ]] || set -- haproxy "$@"
[[ $1 != haproxy ]] || set -- "$1" -W -db "${@:2}"

exec "$@"
SCRIPT
  chmod 755 "$root/docker-entrypoint.sh"

  import_image "$HAPROXY_IMAGE" "$root" \
    'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    'USER haproxy' 'WORKDIR /var/lib/haproxy' \
    'ENTRYPOINT ["/docker-entrypoint.sh"]' 'CMD ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]'
}

# import_image TAG DIR CHANGE...: one layer from a directory.
import_image() {
  local tag=$1 dir=$2 change old args=()
  shift 2
  for change in "$@" "LABEL $LABEL=$inputs"; do args+=(--change "$change"); done
  old=$(docker image inspect --format '{{.Id}}' "$tag" 2>/dev/null) || true
  say "  handing it to Docker"
  tar -C "$dir" --numeric-owner -c . | docker import "${args[@]}" - "$tag" >/dev/null ||
    die "docker import of $tag failed" "see the message above"
  # The one it replaces, unless another tag or a container still needs it.
  [ -z "$old" ] || docker image rm "$old" >/dev/null 2>&1 || true
  rm -rf "$dir"
}

cat_if_there() {
  local file
  for file; do [ ! -e "$file" ] || cat "$file"; done
}

# inputs_of NAME: a fingerprint of everything the substitute is made from.
inputs_of() {
  {
    declare -f extract accounts import_image "make_$1"
    [ "$1" != golang ] || { go env GOVERSION && cat go.mod go.sum && cat_if_there examples/tickets/go.{mod,sum}; }
  } | sha256sum | cut -c1-16
}

for name in "${want[@]}"; do
  case $name in
    golang)
      tag=$GOLANG_IMAGE
      command -v go >/dev/null || die "go is not installed" "install Go 1.26 or later and put it on the PATH"
      case $(go env GOVERSION) in
        go1.26*) ;;
        *) die "this machine's Go is $(go env GOVERSION), the image $tag needs 1.26" "install Go 1.26" ;;
      esac
      ;;
    zookeeper) tag=$ZOOKEEPER_IMAGE ;;
    postgres) tag=$POSTGRES_IMAGE ;;
    redis) tag=$REDIS_IMAGE ;;
    haproxy) tag=$HAPROXY_IMAGE ;;
  esac
  inputs=$(inputs_of "$name")
  if [ -z "$force" ] && had=$(docker image inspect --format "{{with .Config.Labels}}{{index . \"$LABEL\"}}{{end}}" "$tag" 2>/dev/null); then
    case $had in
      '') say "$tag: the official image is there, kept"; continue ;;
      "$inputs") say "$tag: up to date"; continue ;;
    esac
    say "$tag: what it is made from has changed"
  fi
  say "$tag: building a substitute"
  started=$SECONDS
  "make_$name"
  say "$tag: done in $((SECONDS - started)) s, $(docker image inspect --format '{{.Size}}' "$tag" | awk '{ printf "%.0f", $1 / 1e6 }') MB"
done
