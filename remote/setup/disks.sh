# shellcheck shell=bash
# The disks that setup writes to: how much it needs on each, and how much is free. Sourced by `pod_setup.sh`.

free_space=""

# Gigabytes that each part takes, including its temporary files. Measured: vLLM 0.32.0 for CUDA 13 is 8.0 GiB in 64,000
# files and folders, without bytecode, and uv's cache of it as much if it cannot have links to the same files. FlashInfer
# publishes its kernels at 0.5 GB for a kind of GPU, which unpack to some 2.5 (flashinfer-ai/flashinfer#3265, #3907). The
# toolkit for CUDA 13: 1.2 GB of programs and shared libraries, as much again of static ones, and as much of packages.
size_of_environment=9 size_of_kernels=4 size_of_cpu_build=4 size_of_packages=1 size_of_toolkit=4 size_of_full_toolkit=12
files_of_vllm=80000
gigabyte=976563 # KiB

declare -a disks=()                               # mount points
declare -A disk_needs=() disk_moves=() disk_free=() # GB in all, GB that --home moves, KiB
why_twice=""

check_the_disks() {
  check_the_place
  check_the_space
}

check_the_space() {
  local disk gigabytes root
  gigabytes="$(space_for_vllm)"
  disks=() disk_needs=() disk_moves=() disk_free=()
  if ! is_home_on_the_mount; then
    add_part "$venvs" "$gigabytes" moves
    disk="${disks[-1]:-}"
    if needs_two_copies; then add_part "$(uv_cache)" "$gigabytes" moves; fi
  fi
  add_part "$machine_root/" "$(if [[ -n "$missing_at_start" ]]; then echo "$size_of_packages"; else echo 0; fi)"
  root="${disks[-1]:-}"
  if [[ -n "${disk:=$root}" ]]; then free_space="$(in_gigabytes "${disk_free[$disk]}") free"; fi
  for disk in "${disks[@]}"; do check_the_disk "$disk"; done
  if ((gigabytes)) && ! is_home_on_the_mount; then check_the_files "$venvs"; fi
  if [[ -n "$root" ]]; then check_space_for_the_toolkit "$root"; fi
}

# Add what a part needs to the disk of its folder, links resolved; that disk becomes the last of `disks`.
add_part() {
  local folder needed="$2" moves="${3:+$2}" point type free disk
  local -a rest=()
  folder="$(existing "$1")"
  IFS=$'\t' read -r point type _ free < <(disk_facts "$folder") || return 0
  if [[ "$type" == fuse* && "$type" != @(fuseblk|fuse.fuse-overlayfs) ]]; then
    if [[ -z "${disk_needs[$point]:-}" ]]; then
      warn "$point is part of a shared pool: how much space is left for you is unknown"
    fi
    free=""
  fi
  for disk in "${disks[@]}"; do if [[ "$disk" != "$point" ]]; then rest+=("$disk"); fi; done
  disks=("${rest[@]}" "$point")
  disk_free[$point]="$free"
  disk_needs[$point]=$((${disk_needs[$point]:-0} + needed))
  disk_moves[$point]=$((${disk_moves[$point]:-0} + ${moves:-0}))
}

# Print the gigabytes that vLLM will take; nothing is downloaded for one that is there.
space_for_vllm() {
  if ! is_venv_elsewhere && [[ -x "$HOME/venv/bin/vllm" ]] && { [[ -z "$vllm_spec" || -d "$venvs/$vllm_spec" ]] \
    || grep -sqxF -- "$vllm_spec" "$HOME/venv/.pi-vllm"; }; then
    echo 0
  elif [[ -n "$home" && -z "$vllm_spec" ]] && compgen -G "$venvs/[0-9]*" > /dev/null; then
    echo 0 # that of a machine that was recreated
  elif [[ -n "$home" && -z "$vllm_spec" ]] && may_share_venvs && compgen -G "$shared_venvs/[0-9]*" > /dev/null; then
    echo 0
  else
    space_on_another_disk
  fi
}

# Print the gigabytes of a vLLM with its kernels.
space_on_another_disk() {
  if is_for_cpu; then
    echo "$size_of_cpu_build"
  elif [[ "$flashinfer" == prebuilt ]]; then
    echo $((size_of_environment + size_of_kernels))
  else
    echo "$size_of_environment"
  fi
}

# uv links an environment to the files in its cache, unless it cannot or must not. Sets `why_twice`.
needs_two_copies() {
  local cache target type
  cache="$(existing "$(uv_cache)")" target="$(existing "$venvs")" why_twice=""
  IFS=$'\t' read -r _ type _ < <(mount_of "$target")
  if [[ -n "${UV_NO_CACHE:-}" ]]; then
    why_twice="UV_NO_CACHE is set"
  elif [[ "${UV_LINK_MODE:-}" == copy ]]; then
    why_twice="UV_LINK_MODE is copy"
  elif [[ "$(stat -c %d "$cache")" != "$(stat -c %d "$target")" ]]; then
    why_twice="uv's cache is on another disk"
  elif [[ "$type" == @(cifs|smb3|9p|exfat|vfat|msdos) ]]; then
    why_twice="a file system of type $type has no links"
  fi
  [[ -n "$why_twice" ]]
}

# An interrupted run may have left part of what is needed on the disk.
check_the_disk() {
  local disk="$1" needed="${disk_needs[$1]}" moves="${disk_moves[$1]}" free="${disk_free[$1]}" left other="" reason
  local -a leftovers
  if [[ -z "$free" ]] || ((free >= needed * gigabyte)); then return; fi
  leftovers=("$venvs/.new")
  if [[ -z "${UV_NO_CACHE:-}" ]]; then leftovers+=("$(uv_cache)"); fi
  left="$(du -skc "${leftovers[@]}" 2> /dev/null | tail -n 1 || true)"
  if ((moves && free + ${left%%[!0-9]*} >= needed * gigabyte)); then return; fi
  reason="the disk of $disk is too small: setup needs $needed GB there"
  if ((moves)) && [[ -n "$why_twice" ]]; then reason+=" (two copies, since $why_twice)"; fi
  reason+=", and $(in_gigabytes "$free") are free"
  if ((moves && free >= (needed - moves) * gigabyte)); then other="$(another_home)"; fi
  if [[ -n "$other" ]]; then
    propose --home "$other"
    reason+="; vLLM can go to $(disk_of "$other")"
  fi
  fail "$reason"
}

# Print a folder for `--home`: that of the models, if its disk will do and is not worse than the roomiest one.
another_home() {
  local best needed point type options
  needed="$(space_on_another_disk)"
  best="$(roomiest_disk "$needed")"
  if [[ -n "$best" && -n "$models_path" ]]; then
    IFS=$'\t' read -r point type options < <(mount_of "$(existing "$models_path")")
    if is_candidate "$point" "$type" ",$options," && (($(disk_facts "$point" | cut -f 4) >= needed * gigabyte)) \
      && { ! is_network "$type" || is_shared "$best"; }; then
      best="$models_path"
    fi
  fi
  printf '%s\n' "$best"
}

# A disk may have space and no entries left for files; btrfs and others have no limit, and say 0 or `-`.
check_the_files() {
  local total free point
  read -r _ total _ free _ point < <(timeout -k 2 20 df -Pi "$(existing "$1")" 2> /dev/null | tail -n 1) || return 0
  if [[ ! "$total$free" =~ ^[0-9]+$ ]] || ((total == 0 || free >= files_of_vllm)); then return; fi
  fail "the disk of $point has room for $free more files, and vLLM has $files_of_vllm (\`df -i\`):" \
    "delete files there, or choose another disk with --home"
}

# vLLM runs without the toolkit: skip it rather than refuse the whole setup.
check_space_for_the_toolkit() {
  local disk="$1" needed="${disk_needs[$1]}" free="${disk_free[$1]}" size="$size_of_toolkit"
  if [[ -z "$has_cuda_gpu" || "$cuda" == none || -z "$free" || -n "$cuda_trouble" ]]; then return; fi
  if [[ "$cuda" == full ]]; then size="$size_of_full_toolkit"; fi
  if ((free >= (needed + size) * gigabyte)) || has_wanted_toolkit; then return; fi
  cuda_trouble="the disk of $disk is too small: $((needed + size)) GB are needed, $(in_gigabytes "$free") are free"
  if [[ "$cuda" == full ]]; then fail "no CUDA toolkit: $cuda_trouble"; fi
}

in_gigabytes() { if [[ -n "$1" ]]; then echo "$(($1 / gigabyte)) GB"; else echo "an unknown amount"; fi; }
