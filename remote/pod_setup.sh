#!/usr/bin/env bash
# Make a bare Debian or Ubuntu machine with NVIDIA GPUs ready for vLLM. Safe to run again: what works is kept.
#
#   pod_setup.sh [--home DIR] [--models-path DIR] [--vllm release|nightly|VERSION|REQUIREMENT] [--cpu]
#                [--cuda auto|full|none] [--flashinfer prebuilt|source|none] [--shell-env]
#
# Runs as root, or as a user who may use sudo without a password. Exit status: 0 done, 2 bad usage, else the number of
# the step that failed (see `main`). PI_MOUNT is a mount command: it may contain a secret, which arguments would show to
# every user of the machine. PI_MOUNT_TARGET, PI_MOUNT_SOURCE and PI_MOUNT_KIND say what it mounts, as pi has read it
# (`pi_cli/store/mount_commands.py`). No other secret is read, and none is written or printed.
set -euo pipefail
set +o posix # in case the machine's environment has POSIXLY_CORRECT
set +xv # … or SHELLOPTS: the mount command would be in the log

# shellcheck source=setup/variables.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup/variables.sh"
clear_the_environment # before any variable of ours, which the machine may have exported under the same name

here="$(dirname "${BASH_SOURCE[0]}")/setup"
pi_home="$HOME/.pi" # for the first machine of a home (`setup/place.sh`)

mount_command="${machine_variables[PI_MOUNT]:-}"
mount_target="${machine_variables[PI_MOUNT_TARGET]:-}" # empty if the command does not say it
mount_source="${machine_variables[PI_MOUNT_SOURCE]:-}"
mount_kind="${machine_variables[PI_MOUNT_KIND]:-}"
models_path=""
vllm_spec=""
cpu_build=""
cuda=auto
flashinfer=prebuilt
shell_env=""
models_path_is_former=""
storage_is_prepared=""
lock_timeout=15 # seconds

# shellcheck source=setup/steps.sh
source "$here/steps.sh"
# shellcheck source=setup/meters.sh
source "$here/meters.sh"
# shellcheck source=setup/mounts.sh
source "$here/mounts.sh"
# shellcheck source=setup/preflight.sh
source "$here/preflight.sh"
# shellcheck source=setup/first_boot.sh
source "$here/first_boot.sh"
# shellcheck source=setup/gpus.sh
source "$here/gpus.sh"
# shellcheck source=setup/volumes.sh
source "$here/volumes.sh"
# shellcheck source=setup/accelerators.sh
source "$here/accelerators.sh"
# shellcheck source=setup/builds.sh
source "$here/builds.sh"
# shellcheck source=setup/cuda_question.sh
source "$here/cuda_question.sh"
# shellcheck source=setup/disks.sh
source "$here/disks.sh"
# shellcheck source=setup/place.sh
source "$here/place.sh"
# shellcheck source=setup/home.sh
source "$here/home.sh"
# shellcheck source=setup/packages.sh
source "$here/packages.sh"
# shellcheck source=setup/obstacles.sh
source "$here/obstacles.sh"
# shellcheck source=setup/certificates.sh
source "$here/certificates.sh"
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
  use_the_systems_certificates
  if must_still_ask_cuda; then step driver 20 "Asking the NVIDIA driver" ask_cuda; fi
  if is_home_on_the_mount; then prepare_the_home_on_the_mount; fi
  in_background prepare_the_system
  in_background prepare_the_storage
  in_background prepare_vllm
  await_branches 2
  if lacks_headers; then step headers 12 "Installing Python's headers" install_headers; fi
  if [[ "$flashinfer" == source ]]; then
    use_the_caches
    step kernels 19 "Building FlashInfer" fetch_kernels # nvcc is there by now
  fi
  step environment 17 "Writing ~/.pi/env" write_the_environment
  step gpus 20 "Trying CUDA on the GPUs" ask_cuda_at_the_end
  echo "==> ready: vLLM $(default_version)"
}

prepare_the_system() {
  step packages 12 "Installing build tools" install_packages
  step cuda 18 "Installing the CUDA toolkit" install_cuda
}

# The volume has to be there before vLLM is installed on it.
prepare_the_home_on_the_mount() {
  step storage 13 "Mounting the volume for vLLM and models" mount_the_models
  storage_is_prepared=yes
  step place 10 "Checking the disk for vLLM" check_and_take_the_home
}

check_and_take_the_home() {
  check_the_disks
  take_the_home
}

prepare_the_storage() {
  if [[ -z "$storage_is_prepared" ]]; then
    step storage 13 "Mounting the models volume" mount_the_models
  fi
  step cache 14 "Linking the model cache" place_the_cache
}

prepare_vllm() {
  use_the_caches
  step uv 15 "Installing uv" install_uv
  step vllm 16 "Installing vLLM" install_vllm
  if [[ "$flashinfer" != source ]]; then step kernels 19 "Downloading FlashInfer's kernels" fetch_kernels; fi
}

read_arguments() {
  local last_home=""
  while (($#)); do
    case "$1" in
      --home | --last-home | --models-path | --vllm | --cuda | --flashinfer) (($# > 1)) || fail "$1 needs a value" ;;&
      --home) home="$2" home_is_given=yes ;;
      --last-home) last_home="$2" ;;
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
    mount_target="${mount_target/#\~/$HOME}"
    models_path="${models_path:-$mount_target}"
    [[ -n "$models_path" ]] || fail "cannot tell where the mount command mounts: name the folder with --models-path"
  fi
  read_the_users_variables
  choose_the_home "$last_home"
  if [[ -z "$models_path" ]]; then
    models_path="$(former_models_path)"
    models_path_is_former=yes
    if [[ "$users_hub" == "$models_path/huggingface/hub" ]]; then users_hub=""; fi
    if [[ -z "$users_hub" ]] && do_models_follow_the_home; then models_path="$home"; fi
    if [[ -n "$home" && "$models_path" == "$home" ]]; then models_path_is_former=""; fi # it may be new there
  else
    unset HF_HOME HF_HUB_CACHE HUGGINGFACE_HUB_CACHE
    users_hub=""
  fi
}

# sudo clears the environment: pass on the mark by which `supervise.sh` finds the processes to end.
as_root() { if [[ "$(id -u)" == 0 ]]; then "$@"; else sudo -n ${PI_SETUP:+env "PI_SETUP=$PI_SETUP"} "$@"; fi; }

# Run a program as root, without stdin, and with the variables of the network, which sudo removes. A proxy's address may
# have a password in it, which must not be an argument; `sudo --preserve-env` is not allowed everywhere.
as_root_on_the_network() {
  if [[ "$(id -u)" == 0 ]]; then "$@" < /dev/null; return; fi
  # shellcheck disable=SC2016  # expanded by the inner bash
  as_root bash -c 'while IFS= read -r -d "" entry; do export "$entry"; done; exec "$@" < /dev/null' root "$@" \
    < <(network_variables)
}

# Print proxies and certificates, each followed by a NUL.
network_variables() {
  local name
  for name in {http,https,ftp,all,no}_proxy {HTTP,HTTPS,FTP,ALL,NO}_PROXY SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE; do
    if [[ -n "${!name:-}" ]]; then printf '%s=%s\0' "$name" "${!name}"; fi
  done
}

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
  if ! is_home_on_the_mount; then take_the_home; fi
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
  if [[ -n "${user_variables[UV_CACHE_DIR]:-}" ]]; then return; fi
  mkdir -m 700 "$folder" 2> /dev/null || true
  if [[ -d "$folder" && ! -L "$folder" && -O "$folder" ]]; then export UV_CACHE_DIR="$folder" UV_LINK_MODE=copy; fi
}

# Sourced by the tests, run by pi.
if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then main "$@"; fi
