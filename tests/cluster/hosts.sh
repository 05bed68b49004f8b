#!/usr/bin/env bash
# Machines on one machine, for trying `ray up` without any: each has a network, processes, a host name, a home, /tmp and an
# sshd of its own, over a writable layer of this machine's files. They see one another, and nothing else sees them. Needs root,
# and Debian's openssh-server, rsync, iproute2.
#
#   hosts.sh up N          a client, `cli`, which has the key, and h0 .. h(N-1), at 10.89.0.10, .11 ...
#   hosts.sh in HOST CMD   run a command there
#   hosts.sh cut HOST      take its link down; `join` puts it back
#   hosts.sh kill HOST     end every process of it at once
#   hosts.sh down
#
# HOSTS_PATH: the folder of the programs to use.  HOSTS_SHOW: folders that all of them see as they are, read-only (one a line).
# HOSTS_SHARE: one that all may write to.
set -euo pipefail
: "${HOSTS_SHOW:=}" "${HOSTS_SHARE:=}" "${HOSTS_STATE:=/run/raysweep-hosts}"
export HOSTS_SHOW HOSTS_SHARE HOSTS_STATE
net=10.89.0 prefix=rsw

pid_of() { pgrep -P "$(cat "$HOSTS_STATE/$1.pid")"; }

plug() { # NAME NUMBER: a cable from a new machine to the switch
  ip netns add "$prefix-$1"
  ip -n "$prefix-switch" link add "to-$1" type veth peer name eth0 netns "$prefix-$1"
  ip -n "$prefix-switch" link set "to-$1" master bridge up
  ip -n "$prefix-$1" addr add "$net.$2/24" dev eth0
  ip -n "$prefix-$1" link set eth0 up
  ip -n "$prefix-$1" link set lo up
}

boot() { # NAME NUMBER
  plug "$1" "$2"
  mkdir -p "$HOSTS_STATE/$1"
  setsid ip netns exec "$prefix-$1" unshare --mount --uts --ipc --pid --fork --kill-child \
    bash "${BASH_SOURCE[0]}" first-process "$1" >"$HOSTS_STATE/$1.log" 2>&1 </dev/null &
  echo $! >"$HOSTS_STATE/$1.pid"
  for _ in $(seq 100); do
    [ -e "$HOSTS_STATE/$1.up" ] && return
    sleep 0.1
  done
  cat "$HOSTS_STATE/$1.log" >&2
  exit 1
}

first_process() { # NAME: process 1 of a machine, in its namespaces
  local state=$HOSTS_STATE layer=$HOSTS_STATE/$1 root=$HOSTS_STATE/$1/root
  mount --make-rprivate /
  hostname "$1"
  mount -t tmpfs -o size=4g tmpfs "$layer"
  mkdir "$layer/upper" "$layer/work" "$root"
  mount -t overlay overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" "$root"
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount --rbind /dev "$root/dev"
  for place in run:mode=755 tmp:mode=1777,size=4g root:mode=700,size=1g dev/shm:mode=1777,size=2g; do
    mount -t tmpfs -o "${place#*:}" tmpfs "$root/${place%%:*}"
  done
  while read -r shown; do # not through the layer, which does not see what changes below it
    [ -z "$shown" ] || { mkdir -p "$root$shown" && mount --rbind -o ro "$shown" "$root$shown"; }
  done <<<"$HOSTS_SHOW"
  [ -z "$HOSTS_SHARE" ] || { mkdir -p "$root$HOSTS_SHARE" && mount --bind "$HOSTS_SHARE" "$root$HOSTS_SHARE"; }
  mkdir -p "$root/run/sshd" "$root/root/.ssh"
  chmod 700 "$root/root/.ssh"
  cat "$state/key.pub" >"$root/root/.ssh/authorized_keys"
  if [ "$1" = cli ]; then install -m 600 "$state/key" "$root/root/.ssh/id_ed25519"; fi
  echo "export PATH=$HOSTS_PATH:/usr/sbin:/usr/bin:/sbin:/bin" | tee "$root/root/.bashrc" >"$root/root/.profile"
  { echo 127.0.0.1 localhost && for i in 0 1 2 3 4 5 6 7; do echo "$net.$((10 + i)) h$i"; done; } >"$root/etc/hosts"
  : >"$root/etc/resolv.conf"
  install -m 600 "$state/host-key" "$root/run/sshd/key"
  printf '%s\n' 'HostKey /run/sshd/key' 'PasswordAuthentication no' 'UsePAM no' 'MaxSessions 100' 'MaxStartups 100:30:200' \
    >"$root/etc/ssh/sshd_config"
  touch "$state/$1.up"
  cd "$root"
  mkdir -p mnt/old
  pivot_root . mnt/old
  cd /
  umount -l /mnt/old
  env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/sbin/sshd -D -e &
  while :; do wait -n 2>/dev/null || sleep 1; done # who is orphaned is ours to bury
}

down() {
  for file in "$HOSTS_STATE"/*.pid; do
    [ -e "$file" ] || continue
    pkill -9 -P "$(cat "$file")" || true
    kill -9 "$(cat "$file")" 2>/dev/null || true
  done
  sleep 0.5
  for namespace in $(ip netns list | awk -v p="^$prefix-" '$1 ~ p {print $1}'); do ip netns del "$namespace"; done
  rm -rf "$HOSTS_STATE"
}

case ${1:-} in
  up)
    mkdir -m 700 "$HOSTS_STATE"
    ssh-keygen -q -t ed25519 -N '' -f "$HOSTS_STATE/key"
    ssh-keygen -q -t ed25519 -N '' -f "$HOSTS_STATE/host-key"
    ip netns add "$prefix-switch"
    ip -n "$prefix-switch" link add bridge type bridge
    ip -n "$prefix-switch" link set bridge up
    boot cli 100
    for i in $(seq 0 $(($2 - 1))); do boot "h$i" $((10 + i)); done
    ;;
  in)
    name=$2
    shift 2
    exec nsenter -t "$(pid_of "$name")" --mount --uts --ipc --net --pid --root \
      env -i -C /root HOME=/root TERM=dumb LANG=C.UTF-8 PATH="$HOSTS_PATH:/usr/sbin:/usr/bin:/sbin:/bin" "$@"
    ;;
  cut) ip -n "$prefix-switch" link set "to-$2" down ;;
  join) ip -n "$prefix-switch" link set "to-$2" up ;;
  kill) kill -9 "$(pid_of "$2")" ;;
  down) down ;;
  first-process) first_process "$2" ;;
  *) sed -n '2,14p' "${BASH_SOURCE[0]}" && exit 2 ;;
esac
