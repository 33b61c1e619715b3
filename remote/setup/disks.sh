# shellcheck shell=bash
# The disks that setup writes to: how much it needs there, and how much is free. Sourced by `pod_setup.sh`.

free_space=""

# Gigabytes that each part takes, including its temporary files.
size_of_vllm=14 size_of_cpu_build=4 size_of_packages=1 size_of_toolkit=5 size_of_full_toolkit=12

# vLLM is installed below the home, everything else below /, which may be the same disk.
check_the_disks() {
  local -a rows
  local kind home home_free root root_free for_home for_root=0
  mapfile -t -s 1 rows < <(df -PTk -- "$HOME" "$machine_root/" 2> /dev/null)
  read -r _ kind _ _ home_free _ home <<< "${rows[0]:-}"
  read -r _ _ _ _ root_free _ root <<< "${rows[1]:-}"
  if [[ "$kind" == *fuse* ]]; then
    warn "$home is part of a shared pool: how much space is left for you is unknown"
    home_free=""
  fi
  free_space="$(in_gigabytes "$home_free") free"
  for_home="$(space_for_vllm)"
  if [[ -n "$missing_at_start" ]]; then for_root="$size_of_packages"; fi
  if [[ "$home" == "$root" ]]; then for_root=$((for_root + for_home)) for_home=0; fi
  check_the_disk "$home" "$for_home" "$home_free"
  check_the_disk "$root" "$for_root" "$root_free"
  check_space_for_the_toolkit "$root" "$for_root" "$root_free"
}

space_for_vllm() {
  if [[ -x "$HOME/venv/bin/vllm" ]] && { [[ -z "$vllm_spec" || -d "$pi_home/venvs/$vllm_spec" ]] \
    || grep -sqxF -- "$vllm_spec" "$HOME/venv/.pi-vllm"; }; then
    echo 0
  elif is_for_cpu; then
    echo "$size_of_cpu_build"
  else
    echo "$size_of_vllm"
  fi
}

# An interrupted run may have left part of what is needed on the disk.
check_the_disk() {
  local disk="$1" needed="$2" free="$3" left
  if [[ -z "$free" ]] || ((free >= needed << 20)); then return; fi
  left="$(du -skc "$pi_home/venvs/.new" "$HOME/.cache/uv" 2> /dev/null | tail -n 1 || true)"
  ((free + ${left%%[!0-9]*} >= needed << 20)) \
    || fail "the disk of $disk is too small: setup needs $needed GB there, and $(in_gigabytes "$free") are free"
}

# vLLM runs without the toolkit: skip it rather than refuse the whole setup.
check_space_for_the_toolkit() {
  local disk="$1" needed="$2" free="$3" size="$size_of_toolkit"
  if [[ -z "$has_cuda_gpu" || "$cuda" == none || -z "$free" || -n "$cuda_trouble" ]]; then return; fi
  if [[ "$cuda" == full ]]; then size="$size_of_full_toolkit"; fi
  if ((free >= (needed + size) << 20)) || has_wanted_toolkit; then return; fi
  cuda_trouble="the disk of $disk is too small: $((needed + size)) GB are needed, $(in_gigabytes "$free") are free"
  if [[ "$cuda" == full ]]; then fail "no CUDA toolkit: $cuda_trouble"; fi
}

in_gigabytes() { if [[ -n "$1" ]]; then echo "$(($1 >> 20)) GB"; else echo "an unknown amount"; fi; }
