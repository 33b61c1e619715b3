#!/usr/bin/env bash
# Become the first process of a test pod: assemble its root, move into it, and wait.
#
# Runs in mount, PID, network, UTS and IPC namespaces of its own. Standard input is held open by the tests: at its end
# this process ends, and the kernel then ends everything in the pod and drops its mounts, even after a `kill -9` of the
# tests. Prints its PID as the host sees it, and later `ready`.
#
# usage: pod_init.sh BASE SCRATCH NAME INIT [ro|rw FROM TO]...
set -euo pipefail

main() {
  local base=$1 scratch=$2 name=$3 init=$4
  shift 4
  report_pid
  mkdir -p "$scratch"/{upper,work,root}
  cd "$scratch/root"
  mount_root "$base" "$scratch"
  cd "$scratch/root" # again: what lay here before is hidden now
  mount_system
  while (($#)); do
    share "$1" "$2" ".$3"
    shift 3
  done
  echo "$name" > /proc/sys/kernel/hostname
  enter
  echo ready
  wait_for_the_end "$init"
}

report_pid() {
  local pid
  read -r pid _ < /proc/self/stat # still the host's /proc
  echo "$pid"
}

mount_root() {
  local layers="lowerdir=$1,upperdir=$2/upper,workdir=$2/work"
  # `volatile` spares every fsync of apt and pip; nothing here outlives a crash anyway. Linux 5.10 and later.
  mount -t overlay pod -o "$layers,volatile" . 2> /dev/null || mount -t overlay pod -o "$layers" .
}

mount_system() {
  mount -t proc proc proc
  mount -t sysfs -o ro sysfs sys
  mount -t tmpfs -o mode=755 tmpfs run
  mount -t tmpfs -o mode=755 tmpfs dev
  mkdir dev/pts dev/shm run/sshd run/lock
  : > run/utmp
  mount -t tmpfs -o mode=1777 tmpfs dev/shm
  mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts dev/pts
  local node
  for node in null zero full random urandom tty; do
    : > "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
  done
  ln -s pts/ptmx dev/ptmx
  ln -s /proc/self/fd dev/fd
  ln -s fd/0 dev/stdin
  ln -s fd/1 dev/stdout
  ln -s fd/2 dev/stderr
}

share() {
  local mode=$1 from=$2 to=$3
  mkdir -p "$to"
  mount --bind "$from" "$to"
  if [[ $mode == ro ]]; then mount -o remount,bind,ro "$to"; fi
}

enter() {
  pivot_root . mnt
  cd /
  umount -l /mnt
}

wait_for_the_end() {
  exec > /dev/null 2>&1
  # bash reaps the orphans that come to PID 1; cat, like the first process of many a container, does not.
  case $1 in
    reaping) exec env -i /bin/bash --norc -c 'while read -r _; do :; done' ;;
    careless) exec env -i /bin/cat ;;
  esac
}

main "$@"
