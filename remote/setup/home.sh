# shellcheck shell=bash
# The folder of what is large: environments, uv's cache, Pythons, compiled kernels. It is ~/.pi, or on another disk with
# `--home DIR`. The small rest stays in ~/.pi, where the agent finds it. Sourced by `pod_setup.sh`.
#
#     ~/.pi/place      DIR (or ~), its folder of this machine, and those of earlier values; read by `agent/place.py`
#     DIR/pi-vllm/     venvs, uv, uv-cache, python, cache, tmp, and `machine`, the machine that it belongs to
#     DIR/pi-vllm/machines/ID/      the same for another machine with that disk; `venv` links to what it uses of the first
#
# Models go to DIR/huggingface, as with `--models-path DIR`, unless another folder is chosen for them.

readonly local_types="ext[234]|xfs|btrfs|zfs|f2fs|jfs|bcachefs"
readonly types_without_links="vfat|msdos|exfat|fuse\.(s3fs|gcsfuse|rclone|geesefs|goofys|mount-s3|blobfuse2?)"

home=""           # --home; empty: everything is in the home folder
home_is_given=""  # it was typed now, and not remembered
former_home=""    # what this pod had the last time
place="$pi_home"  # the folder of what is large
runs_no_programs_in_tmp=""

# Decide on the place, after the arguments are read. The pod's own memory counts more than that of a laptop.
choose_the_home() {
  local remembered="$1" typed="$home"
  former_home="$(head -n 1 "$pi_home/place" 2> /dev/null || true)"
  home="$(folder_of_home "${home:-${former_home:-$remembered}}")"
  if [[ -n "$typed" && "$home" != /* ]]; then fail "--home must be an absolute folder other than /, not \`$typed\`"; fi
  if [[ "$home" == "$HOME" || "$home" -ef "$HOME" ]]; then home=""; fi
  if [[ "$former_home" == "~" ]]; then former_home=""; fi
  use_the_place
}

# Print what `--home` means, as an absolute path without links of the last folder's name: `~` and `$HOME` are the pod's.
folder_of_home() {
  local folder="$1"
  # shellcheck disable=SC2016,SC2088  # what the user typed
  case "$folder" in
    '~' | '~/'*) folder="$HOME${folder#"~"}" ;;
    '$HOME' | '$HOME/'*) folder="$HOME${folder#'$HOME'}" ;;
  esac
  while [[ "$folder" == */ ]]; do folder="${folder%/}"; done
  printf '%s\n' "$folder"
}

# Set what depends on the place.
use_the_place() {
  place="$pi_home" shared_venvs="$HOME/.pi/venvs"
  if [[ -n "$home" ]]; then
    place="$home/pi-vllm" shared_venvs="$home/pi-vllm/venvs"
    if ! is_first_machine_of "$place"; then place="$place/machines/$machine"; fi
    if [[ -z "${user_variables[UV_CACHE_DIR]:-}" ]]; then export UV_CACHE_DIR="$place/uv-cache"; fi
    if [[ -z "${user_variables[UV_PYTHON_INSTALL_DIR]:-}" ]]; then export UV_PYTHON_INSTALL_DIR="$place/python"; fi
  fi
  venvs="$place/venvs"
}

# The rules of `is_first_machine`, for a folder on another disk.
is_first_machine_of() {
  local first="" first_boot=""
  if [[ -d "$1/machines/$machine" ]]; then return 1; fi
  { read -r first first_boot < "$1/machine"; } 2> /dev/null || return 0
  [[ "$first" == "$machine" ]] || { ! is_shared "$1" && [[ "$first_boot" != "$boot" ]]; }
}

# Whether what uv installs would be written below the folder of the mount command, which runs later.
is_home_on_the_mount() {
  [[ -n "$home" && -n "$mount_target" && "$home/" == "$mount_target/"* ]] && [[ -z "$(mounted_source "$mount_target")" ]]
}

# Whether models are with the rest: unless another folder was chosen for them.
do_models_follow_the_home() { [[ -z "$models_path" || "$models_path" == "$former_home" ]]; }

# Print the folder of uv's cache.
uv_cache() {
  if [[ -n "${UV_NO_CACHE:-}" ]]; then printf '%s\n' "${TMPDIR:-/tmp}"; return; fi # uv makes a temporary one
  printf '%s\n' "${UV_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/uv}"
}

# Refuse a disk from which no program can run; only reads.
check_the_place() {
  local point type options
  check_tmp
  if is_home_on_the_mount; then return; fi
  IFS=$'\t' read -r point type options < <(mount_of "$(existing "$place")")
  options=",$options,"
  if [[ "$options" == *,ro,* ]]; then refuse_the_place "$point is mounted read-only"; fi
  if [[ "$options" == *,noexec,* ]]; then refuse_the_place "$point is mounted noexec: no program can run from there"; fi
  if [[ "$type" =~ ^($types_without_links)$ ]]; then
    refuse_the_place "$point has a file system without links ($type), which Python's environments need"
  fi
  check_what_is_there "$point"
  if is_network "$type"; then
    warn "vLLM will be on a network file system, $point ($type): setup and every start take minutes longer" \
      "than on a disk of the machine$(name_a_local_disk)"
  elif [[ -n "$home" && "$type" == @(tmpfs|ramfs) ]]; then
    warn "$point is in the machine's memory ($type): what is there uses memory, and is gone after a reboot"
  fi
}

# Without the execute bit, what PyTorch and FlashInfer compile into /tmp cannot be loaded.
check_tmp() {
  local options
  IFS=$'\t' read -r _ _ options < <(mount_of /tmp)
  if [[ ",$options," != *,noexec,* ]]; then return; fi
  runs_no_programs_in_tmp=yes
  warn "/tmp is mounted noexec: what models compile when they start goes to $place/cache instead"
}

refuse_the_place() {
  local disk
  disk="$(roomiest_disk "$(space_on_another_disk)")"
  if [[ -z "$disk" ]]; then fail "vLLM cannot be installed in $place: $1; choose a folder on another disk with --home"; fi
  propose --home "$disk"
  fail "vLLM cannot be installed in $place: $1; $(disk_of "$disk") can be used"
}

# What was remembered may be gone with its disk, and the folder may now be on the machine's own, small disk.
check_what_is_there() {
  if [[ -z "$home" || -n "$home_is_given" || -d "$place" ]]; then return; fi
  if [[ "$1" == "$(mount_of "$HOME" | cut -f 1)" || "$1" == / ]]; then
    fail "$home is not on a disk of its own any more, and what was there is gone: mount the disk again, or choose" \
      "another folder with --home (\`--home '~'\` for the home folder)"
  fi
  warn "vLLM was in $place, which is gone: it is installed there again"
}

name_a_local_disk() {
  local disk
  disk="$(roomiest_disk "$(space_on_another_disk)" local)"
  if [[ -n "$disk" ]]; then printf '; --home %s would use %s' "$disk" "$(disk_of "$disk")"; fi
}

# Print the mount point of the disk with the most room: at least so many GB, and programs can be run from it by us. Disks
# of the machine come before network shares, unless only these count.
roomiest_disk() {
  local needed="$1" which="${2:-}" point type options free best="" most=0 rank kind
  while read -r _ point type options _; do
    printf -v point '%b' "$point"
    if ! is_candidate "$point" "$type" ",$options,"; then continue; fi
    kind=2
    if is_network "$type"; then kind=1; fi
    if [[ "$kind$which" == 1local ]]; then continue; fi
    free="$(disk_facts "$point" | cut -f 4)"
    if [[ ! "$free" =~ ^[0-9]+$ ]] || ((free < needed * gigabyte)); then continue; fi
    rank=$((kind * 10 ** 15 + free))
    if ((rank > most)); then most="$rank" best="$point"; fi
  done < "$machine_root/proc/self/mounts"
  printf '%s\n' "$best"
}

is_candidate() {
  local point="$1" type="$2" options="$3"
  [[ "$type" =~ ^($local_types|$network_types)$ && "$options" != *,ro,* && "$options" != *,noexec,* ]] || return
  [[ "$point" != @(/|/proc/*|/sys/*|/dev/*|/run/*|/boot|/boot/*|/snap/*|/etc/*|/usr|/usr/*|/var/lib/*|/var/log) ]] || return
  [[ "$point" != "$(mount_of "$(existing "$place")" | cut -f 1)" ]] || return
  timeout -k 1 5 test -d "$point" || return # not a single file; a dead share does not answer
  timeout -k 1 5 test -w "$point" || can_be_root
}

# Create the place, note it, and try what environments need there: facts that no table has.
take_the_home() {
  local trouble
  note_the_home
  if [[ -z "$home" ]]; then try_the_place; return; fi
  if [[ -e "$home/pi-vllm" || -L "$home/pi-vllm" ]] && ! is_trusted_folder "$home/pi-vllm"; then
    fail "$home/pi-vllm belongs to another user, or others can write to it ($(stat -Lc '%U, %A' "$home/pi-vllm")):" \
      "choose another folder with --home"
  fi
  make_writable "$home"
  mkdir -p "$place" || fail "cannot create $place"
  chmod 700 "$home/pi-vllm" "$place"
  if [[ "$place" == "$home/pi-vllm" ]] && ! claim "$place/machine" is_first_machine_of "$place"; then
    mkdir -p "$place/machines/$machine" # another setup was faster
    use_the_place
    note_the_home
  fi
  if [[ "$place" == */machines/* ]]; then say "other machines have this disk too: what is for this one is in $place"; fi
  try_the_place
}

# Whether a folder is ours or root's, also on a share with root_squash, and only its owner can write to it.
is_trusted_folder() {
  local owner trial
  for owner in "$(stat -c %u "$1")" "$(stat -Lc %u "$1")"; do
    if [[ "$owner" == 65534 && "$EUID" == 0 ]] && trial="$(mktemp "$1/.owner.XXXXXX")"; then
      owner="$(stat -c %u "$trial" | sed 's/^65534$/0/')"
      rm -f "$trial"
    fi
    [[ "$owner" == @("$EUID"|0) ]] || return
  done
  is_shared "$1" || [[ "$(stat -Lc %A "$1")" != @(?????w*|????????w*) ]] # some shares show every folder as writable
}

# The folders of earlier values stay in the list: `pi pods remove --purge` has to find them.
note_the_home() {
  local file="$pi_home/place" line
  local -a lines=("${home:-"~"}")
  if [[ -n "$home" ]]; then lines+=("$place"); fi
  if [[ ! -e "$file" && -z "$home" ]]; then return; fi
  while read -r line; do
    if [[ "$line" == /*/pi-vllm* && "$line" != "$place" ]]; then lines+=("$line"); fi
  done < <(tail -n +2 "$file" 2> /dev/null)
  printf '%s\n' "${lines[@]}" > "$file.new"
  mv "$file.new" "$file"
}

# Run a program, make links, and allocate the space if the disk has quotas, which df does not know.
try_the_place() {
  local trial="$place/.trial" cache trouble options free
  trouble="$({ mkdir -p "$place" && printf '#!/bin/sh\n' > "$trial" && chmod 700 "$trial"; } 2>&1)" \
    || refuse_the_place "$(is_full "$place" && echo "the disk is full" || echo "${trouble##*: }")"
  take_a_cache_with_locks "$trial"
  "$trial" 2> /dev/null || { rm -f "$trial"; refuse_the_place "no program can run from there"; }
  ln -sfn "$trial" "$trial.link" 2> /dev/null || { rm -f "$trial"; refuse_the_place "it has no symbolic links"; }
  IFS=$'\t' read -r _ _ options < <(mount_of "$place")
  if [[ "$options" == *quota* ]] && [[ "$(LC_ALL=C fallocate -l "$(space_for_vllm)G" "$trial" 2>&1)" == *uota* ]]; then
    rm -f "$trial" "$trial.link"
    refuse_the_place "your quota there is less than the $(space_for_vllm) GB that vLLM needs"
  fi
  rm -f "$trial" "$trial.link"
}

# uv's cache needs locks, which some shares do not have.
take_a_cache_with_locks() {
  local status=0
  if [[ -z "$home" ]]; then return; fi # `take_the_lock` has seen to it
  flock -n "$1" true 2> /dev/null || status=$?
  if ((status <= 1)); then return; fi
  warn "the file system of $home has no locks: uv's cache is in /var/tmp instead"
  use_a_local_cache
  check_the_space
}

# Print the variables of programs that compile or download, as `NAME VALUE`; the names are those of vLLM 0.32 and of what
# it requires. vLLM's own cache is with the models (PI_VLLM_CACHE).
cache_variables() {
  if [[ -z "$home" ]]; then
    if [[ -n "$runs_no_programs_in_tmp" ]]; then
      echo "TORCHINDUCTOR_CACHE_DIR $place/cache/torchinductor"
      echo "CUTE_DSL_CACHE_DIR $place/cache/cute_dsl"
    fi
    return
  fi
  echo "FLASHINFER_WORKSPACE_BASE $place/cache"
  echo "TRITON_CACHE_DIR $place/cache/triton"
  echo "TORCHINDUCTOR_CACHE_DIR $place/cache/torchinductor"
  echo "TORCH_EXTENSIONS_DIR $place/cache/torch_extensions"
  echo "TILELANG_CACHE_DIR $place/cache/tilelang"
  echo "TVM_FFI_CACHE_DIR $place/cache/tvm-ffi"
  echo "CUTE_DSL_CACHE_DIR $place/cache/cute_dsl"
  echo "CUDA_CACHE_PATH $place/cache/nv"
}

# Let what the installation of vLLM runs use the place too, and not /tmp, which may be on a small disk.
use_the_caches() {
  local name value
  if [[ -n "$home" || -n "$runs_no_programs_in_tmp" ]]; then
    mkdir -p "$place/tmp"
    export TMPDIR="$place/tmp"
  fi
  if [[ -n "$home" && -z "${user_variables[XDG_CACHE_HOME]:-}" ]]; then export XDG_CACHE_HOME="$place/cache"; fi
  while read -r name value; do export "$name=$value"; done < <(cache_variables)
}

# Name the environments that an earlier --home has left, and how to delete them.
name_old_places() {
  local folder name size
  local -a folders
  while read -r folder; do
    folders=()
    if [[ "$folder" == "$place" ]] || ! compgen -G "$folder/venvs/[0-9]*" > /dev/null; then continue; fi
    # uv's cache has links to the same files: only without both is their space free.
    for name in venvs uv-cache python; do if [[ -d "$folder/$name" ]]; then folders+=("$folder/$name"); fi; done
    if [[ "$folder" == "$pi_home" && -d "$HOME/.cache/uv" ]]; then folders+=("$HOME/.cache/uv"); fi
    size="$(timeout 60 du -skc "${folders[@]}" 2> /dev/null | tail -n 1 | cut -f 1 || true)"
    warn "the previous vLLM is kept in $folder/venvs; when no model runs from it any more," \
      "\`rm -r $(printf '%q ' "${folders[@]}" | sed 's/ $//')\` frees ${size:+$(human_size "$size")}"
  done < <(echo "$pi_home"; tail -n +2 "$pi_home/place" 2> /dev/null)
}
