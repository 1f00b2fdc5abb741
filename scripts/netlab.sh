#!/usr/bin/env bash
# A fleet on real network volumes, in virtual machines; `scripts/netlab.sh --help`.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/netlab.sh [nfs4|nfs3|smb]... [--for 60s] [--only NAME,...] [--seed N] [--keep]

Starts small virtual machines (qemu, by software emulation: no KVM is needed), each with a
kernel and a page cache of its own: a server of the volume, two clients with two agents
each, and a client that only reads. ZooKeeper runs beside them. SMB is served by a smbd of
Debian's in a directory of its own. Without a volume's name: nfs4 alone.

  plain    control (NFS): with data.volume plain the fleet loses bytes
  append   control: O_APPEND strictly in turn loses records
  two      two hosts that each mounted a volume of their own: the second is refused
  check    agent check-volume --with 2 finds the right setting
  checktwo agent check-volume --with 2 finds two different volumes
  hang     the server is cut off for one host alone (NFS): the others go on
  faults   agents are killed and paused, hosts are frozen and cut off, the server is started
           again and reset; then the verifier, the acknowledgement logs and three followers
           are asked

  --for D      how long the faults go on (60s); each kind comes once at least
  --only LIST  these scenarios alone
  --seed N     choose the faults as in an earlier run
  --keep       keep the machines' consoles, the file and the logs; says where

Needs qemu-system-x86_64, busybox (static), mke2fs, java with Debian's ZooKeeper, apt-get for
the machines' kernel; for smb also root and mmdebstrap. About 3 GB of memory, a kernel that is
downloaded once (27 MB) and kept in ~/.cache/turnstile-netlab.
USAGE
}

die() {
  printf 'netlab: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf '  next step: %s\n' "$2" >&2
  exit 1
}

cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin
volumes=() flags=() keep=
while [ $# -gt 0 ]; do
  case $1 in
    nfs4 | nfs3 | smb) volumes+=("$1") ;;
    --for | --only | --seed)
      [ $# -gt 1 ] || { usage >&2; exit 2; }
      flags+=("$1" "$2")
      shift
      ;;
    --keep) keep=1 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
[ ${#volumes[@]} -gt 0 ] || volumes=(nfs4)

needs() { command -v "$1" >/dev/null || die "$1 is missing" "apt-get install --no-install-recommends $2"; }
needs qemu-system-x86_64 qemu-system-x86
needs mke2fs e2fsprogs
needs java default-jre-headless
needs dpkg-deb dpkg
[ -e /usr/share/java/zookeeper.jar ] || die "/usr/share/java/zookeeper.jar is missing" "apt-get install libzookeeper-java"
[ -x /bin/busybox ] || die "busybox is missing" "apt-get install busybox-static"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/turnstile-netlab
mkdir -p "$cache"
work=$(mktemp -d "${TMPDIR:-/tmp}/turnstile-netlab.XXXXXX")
zookeeper=
# shellcheck disable=SC2317 # called by the trap
finish() {
  [ -z "$zookeeper" ] || { kill "$zookeeper" && wait "$zookeeper"; } 2>/dev/null || true
  if [ -n "$keep" ]; then echo "netlab: kept in $work"; else rm -rf "$work"; fi
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# kernel sets $kernel: where Debian's kernel for virtual machines is unpacked.
kernel() {
  local package
  package=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
  [ -n "$package" ] || die "apt knows no linux-image-cloud-amd64" "apt-get update"
  kernel=$cache/$package
  [ -e "$kernel/done" ] && return
  echo "netlab: downloads $package"
  (cd "$work" && apt-get -q download "$package") || die "$package cannot be downloaded" "apt-get update"
  rm -rf "$kernel"
  dpkg-deb -x "$work/$package"_*.deb "$kernel"
  touch "$kernel/done"
}

# samba sets $smb: a small Debian with smbd in it, which is never started as a service.
samba() {
  smb=$cache/samba
  [ -e "$smb/done" ] && return
  [ "$(id -u)" = 0 ] || die "smb needs root" "sudo scripts/netlab.sh smb"
  needs mmdebstrap mmdebstrap
  echo "netlab: makes a small Debian with samba"
  rm -rf "$smb"
  mmdebstrap --quiet --variant=apt --include=samba "$(awk -F= '$1 == "VERSION_CODENAME" { print $2 }' /etc/os-release)" "$smb" </dev/null ||
    die "samba cannot be installed into $smb" "see above"
  touch "$smb/done"
}

serve_smb() {
  smb_port=$(free_port)
  mkdir -p "$smb/volume"
  find "$smb/volume" -mindepth 1 -delete
  cat >"$smb/etc/samba/lab.conf" <<CONF
[global]
  interfaces = lo
  bind interfaces only = yes
  smb ports = $smb_port
  disable netbios = yes
  server role = standalone server
  pid directory = /run/lab
  lock directory = /run/lab
  [volume]
  path = /volume
  read only = no
  force user = root
CONF
  mkdir -p "$smb/run/lab" "$smb/run/samba" "$smb/volume/one" "$smb/volume/two"
  chroot "$smb" sh -c 'id lab >/dev/null 2>&1 || useradd lab; printf "lab\nlab\n" | smbpasswd -c /etc/samba/lab.conf -s -a lab' >/dev/null
}

free_port() {
  local port
  while port=$((20000 + RANDOM % 10000)) && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port"
}

kernel
CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$work/guest" ./test/netlab/guest
CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$work/agent" ./cmd/agent
go build -o "$work/netlab" ./test/netlab

port=$(free_port)
printf '%s\n' tickTime=500 "dataDir=$work/zookeeper" "clientPort=$port" clientPortAddress=127.0.0.1 \
  minSessionTimeout=1000 maxSessionTimeout=60000 maxClientCnxns=0 admin.enableServer=false >"$work/zoo.cfg"
java -Xmx256m -cp '/usr/share/java/*' org.apache.zookeeper.server.ZooKeeperServerMain "$work/zoo.cfg" >"$work/zookeeper.log" 2>&1 &
zookeeper=$!

for volume in "${volumes[@]}"; do
  dir=$work/$volume
  mkdir "$dir"
  served=()
  if [ "$volume" = smb ]; then
    samba
    serve_smb
    served=(--smbd "chroot $smb smbd --foreground --no-process-group --debug-stdout --configfile=/etc/samba/lab.conf" --smb-dir "$smb/volume" --smb-port "$smb_port")
  else
    truncate -s 512M "$dir/disk"
    mke2fs -q -F -t ext4 "$dir/disk"
  fi
  "$work/netlab" --volume "$volume" --dir "$dir" --kernel "$(echo "$kernel"/boot/vmlinuz-*)" --modules "$(echo "$kernel"/lib/modules/*)" \
    --agent "$work/agent" --guest "$work/guest" --zookeeper "127.0.0.1:$port" "${served[@]}" "${flags[@]}"
done
