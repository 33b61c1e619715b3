#!/usr/bin/env bash
# Make a bare Debian or Ubuntu machine with NVIDIA GPUs ready for vLLM. Safe to run again: what works is kept.
#
#   pod_setup.sh [--mount CMD] [--models-path DIR] [--vllm release|nightly|VERSION|REQUIREMENT] [--cpu]
#                [--cuda auto|full|none] [--flashinfer prebuilt|source|none] [--shell-env]
#
# Runs as root, or as a user who may use sudo without a password. Exit status: 0 done, 2 bad usage, else the number of
# the step that failed (see `main`). PI_MOUNT is a mount command too: it may contain a secret, which arguments would show
# to every user of the machine. No other secret is read, and none is written or printed.
set -euo pipefail
set +o posix # in case the machine's environment has POSIXLY_CORRECT
set +xv # … or SHELLOPTS: the mount command would be in the log

# shellcheck source=setup/variables.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup/variables.sh"
clear_the_environment # before any variable of ours, which the machine may have exported under the same name

here="$(dirname "${BASH_SOURCE[0]}")/setup"
pi_home="$HOME/.pi" # for the first machine of a home (`setup/place.sh`)

mount_command="${machine_variables[PI_MOUNT]:-}"
mount_target=""
models_path=""
vllm_spec=""
cpu_build=""
cuda=auto
flashinfer=prebuilt
shell_env=""
models_path_is_former=""
lock_timeout=15 # seconds

# shellcheck source=setup/steps.sh
source "$here/steps.sh"
# shellcheck source=setup/meters.sh
source "$here/meters.sh"
# shellcheck source=setup/preflight.sh
source "$here/preflight.sh"
# shellcheck source=setup/first_boot.sh
source "$here/first_boot.sh"
# shellcheck source=setup/gpus.sh
source "$here/gpus.sh"
# shellcheck source=setup/disks.sh
source "$here/disks.sh"
# shellcheck source=setup/place.sh
source "$here/place.sh"
# shellcheck source=setup/packages.sh
source "$here/packages.sh"
# shellcheck source=setup/cuda.sh
source "$here/cuda.sh"
# shellcheck source=setup/storage.sh
source "$here/storage.sh"
# shellcheck source=setup/vllm.sh
source "$here/vllm.sh"
# shellcheck source=setup/wheels.sh
source "$here/wheels.sh"
# shellcheck source=setup/kernels.sh
source "$here/kernels.sh"
# shellcheck source=setup/environment.sh
source "$here/environment.sh"

main() {
  trap 'on_exit $?' EXIT
  find_the_place
  read_arguments "$@"
  exec < /dev/null # no program may wait for input, or consume the stdin that ends with pi
  export NO_COLOR=1
  cd "$HOME"
  step machine 11 "Checking the machine" check_the_machine
  step lock 10 "Taking the setup lock" take_the_lock
  # A daemon that a package starts would inherit the lock and hold it forever: the steps run without descriptor 9.
  prepare_the_pod 9>&-
}

prepare_the_pod() {
  step essentials 12 "Installing prerequisites" install_essentials
  in_background prepare_the_system
  in_background prepare_the_storage
  in_background prepare_vllm
  await_branches 2
  if [[ "$flashinfer" == source ]]; then step kernels 19 "Building FlashInfer" fetch_kernels; fi # nvcc is there by now
  step environment 17 "Writing ~/.pi/env" write_the_environment
  echo "==> ready: vLLM $(default_version)"
}

prepare_the_system() {
  step packages 12 "Installing build tools" install_packages
  step cuda 18 "Installing the CUDA toolkit" install_cuda
}

prepare_the_storage() {
  step storage 13 "Mounting the models volume" mount_the_models
  step cache 14 "Linking the model cache" place_the_cache
}

prepare_vllm() {
  step uv 15 "Installing uv" install_uv
  step vllm 16 "Installing vLLM" install_vllm
  if [[ "$flashinfer" != source ]]; then step kernels 19 "Downloading FlashInfer's kernels" fetch_kernels; fi
}

read_arguments() {
  while (($#)); do
    case "$1" in
      --mount | --models-path | --vllm | --cuda | --flashinfer) (($# > 1)) || fail "$1 needs a value" ;;&
      --mount) mount_command="$2" ;;
      --models-path) models_path="${2%/}" ;;
      --vllm) vllm_spec="$2" ;;
      --cuda) cuda="$2" ;;
      --flashinfer) flashinfer="$2" ;;
      --cpu | --shell-env) ;;
      *) fail "unknown argument \`$1\`" ;;
    esac
    case "$1" in
      --cpu) cpu_build=yes ;;
      --shell-env) shell_env=yes ;;
      *) shift ;;
    esac
    shift
  done
  [[ -z "$models_path" || "$models_path" == /* ]] || fail "--models-path must be absolute, not \`$models_path\`"
  [[ "$cuda" == @(auto|full|none) ]] || fail "--cuda must be auto, full or none, not \`$cuda\`"
  [[ "$flashinfer" == @(prebuilt|source|none) ]] \
    || fail "--flashinfer must be prebuilt, source or none, not \`$flashinfer\`"
  if is_cpu_build "$vllm_spec"; then cpu_build=yes; fi
  if [[ "$cpu_build$vllm_spec" == yesnightly ]]; then
    fail "there is no nightly build of vLLM for CPUs: leave out --vllm, or name a version"
  fi
  if [[ -n "$mount_command" ]]; then
    mount_target="$(target_of "$mount_command")"
    [[ -n "$mount_target" ]] || fail "cannot tell where the mount command mounts: it names no absolute path"
    models_path="${models_path:-$mount_target}"
  fi
  read_the_users_variables
  if [[ -z "$models_path" ]]; then
    models_path="$(former_models_path)"
    models_path_is_former=yes
    if [[ "$users_hub" == "$models_path/huggingface/hub" ]]; then users_hub=""; fi
  else
    unset HF_HOME HF_HUB_CACHE HUGGINGFACE_HUB_CACHE
    users_hub=""
  fi
}

# sudo clears the environment: pass on the mark by which `supervise.sh` finds the processes to end.
as_root() { if [[ "$(id -u)" == 0 ]]; then "$@"; else sudo -n ${PI_SETUP:+env "PI_SETUP=$PI_SETUP"} "$@"; fi; }

require_root() { as_root true || fail "$1 needs root, and $(id -un) cannot use sudo without a password"; }

take_the_lock() {
  local lock status=0
  take_the_place
  lock="$pi_home/setup.lock"
  exec 9>> "$lock"
  flock -n 9 2> /dev/null || status=$?
  # 1: another process has it; else the file system has none (NFS without its lock daemon).
  if ((status > 1)); then use_a_local_lock; fi
  if ((status)); then
    say "waiting for another setup of this machine: $(cat "$lock")"
    flock -w "$lock_timeout" 9 || fail "another setup of this machine is running: $(cat "$lock")"
  fi
  echo "pid $$ since $(date '+%F %T')" > "$lock"
}

# Set `lock` to a file outside of the home, opened as descriptor 9, and `status` to that of flock. Other users can write
# to these folders too: a file that they have planted is not used.
use_a_local_lock() {
  local folder other
  for folder in /dev/shm /tmp; do
    other="$folder/pi-setup-$(id -u)-$machine.lock"
    (umask 077 && set -C && : > "$other") 2> /dev/null || true
    [[ -f "$other" && ! -L "$other" && -O "$other" ]] || continue
    exec 9>> "$other"
    status=0
    flock -n 9 2> /dev/null || status=$?
    if ((status <= 1)); then
      warn "the file system of $pi_home has no locks: setup uses $other instead ($(disk_of "$pi_home"))"
      lock="$other"
      use_a_local_cache
      return
    fi
  done
  fail "the file system of $lock has no locks, and neither have /dev/shm and /tmp"
}

# uv does not work with a cache on a file system without locks. It copies from another one, where links are impossible.
use_a_local_cache() {
  local folder
  folder="/var/tmp/pi-uv-$(id -u)"
  if [[ -n "${UV_CACHE_DIR:-}" ]]; then return; fi
  mkdir -m 700 "$folder" 2> /dev/null || true
  if [[ -d "$folder" && ! -L "$folder" && -O "$folder" ]]; then export UV_CACHE_DIR="$folder" UV_LINK_MODE=copy; fi
}

# Sourced by the tests, run by pi.
if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then main "$@"; fi
