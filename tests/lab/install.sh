#!/usr/bin/env bash
# Install what the openssh test pods need on Debian or Ubuntu. Safe to run again; says nothing when all is there.
set -euo pipefail

main() {
  local -a missing=()
  require_command debootstrap debootstrap
  require_command ssh openssh-client
  require_command ip iproute2
  require_command iptables iptables
  require_command nsenter util-linux
  require_command mount mount
  # For tests/lab/wan.c, the wire.
  require_command gcc gcc
  require_file /usr/include/stdio.h libc6-dev
  # Debian's keys: debootstrap on another distribution cannot check what it downloads without them.
  require_file /usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
  if ((${#missing[@]})); then install "${missing[@]}"; fi
}

require_command() {
  # Users other than root rarely have the sbin directories on their PATH.
  PATH="$PATH:/usr/sbin:/sbin" command -v "$1" > /dev/null || missing+=("$2")
}

require_file() {
  [[ -e $1 ]] || missing+=("$2")
}

install() {
  command -v apt-get > /dev/null || fail "no apt-get here; please install: $*"
  [[ $EUID == 0 ]] || fail "only root can install: $*"
  echo "installing for the test pods: $*"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -qq --yes --no-install-recommends "$@"
}

fail() {
  echo "error: $*" >&2
  exit 1
}

main
