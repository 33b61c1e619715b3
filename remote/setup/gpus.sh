# shellcheck shell=bash
# The GPUs and their driver: which there are, and whether vLLM can run on them. Sourced by `pod_setup.sh`.
#
# Sets for later steps: driver_version driver_cuda gpu_names compute_capability has_cuda_gpu.

driver_version="" driver_cuda="" gpu_names="" compute_capability="" has_cuda_gpu=""
oldest_gpu="" has_mig=""

look_at_the_gpus() {
  local rows banner_text
  command -v nvidia-smi > /dev/null \
    || fail "no NVIDIA driver: nvidia-smi is missing. On a machine without a GPU, use --cpu"
  exec {banner}< <(nvidia-smi 2>&1) # each can take a second: run both at once
  rows="$(query_gpus)" || fail "no usable GPU: nvidia-smi says \`$(first_line "$rows")\`"
  banner_text="$(cat <&"$banner")"
  exec {banner}<&-
  read_the_gpus "$rows"
  check_mig "$rows"
  driver_cuda="$(cuda_of_the_driver "$driver_version" "$banner_text")"
  has_cuda_gpu=yes
  check_the_capability
  check_the_driver
}

# Drivers before R510 do not know compute_cap. They are refused later, in check_the_driver, with a clearer message.
query_gpus() {
  local fields=name,driver_version,mig.mode.current,compute_cap text
  if text="$(nvidia-smi --query-gpu="$fields" --format=csv,noheader 2>&1)"; then echo "$text"; return; fi
  if [[ "$text" == *"not a valid field"* ]]; then
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>&1
  else
    echo "$text"
    return 1
  fi
}

first_line() {
  local line
  while read -r line; do
    if [[ -n "$line" ]]; then echo "$line"; return; fi
  done <<< "$1"
}

read_the_gpus() {
  local name version capability
  while IFS=, read -r name version _ capability; do
    if [[ -z "$version" ]]; then continue; fi # not a row of the table
    gpu_names+="${gpu_names:+$'\n'}$name"
    driver_version="${version# }"
    capability="${capability# }"
    if [[ "$capability" =~ ^[0-9]+\.[0-9]+$ ]] \
      && { [[ -z "$compute_capability" ]] || is_older "$capability" "$compute_capability"; }; then
      compute_capability="$capability"
      oldest_gpu="$name"
    fi
  done <<< "$1"
  [[ -n "$gpu_names" ]] || fail "no usable GPU: nvidia-smi lists none"
  if (($(sort -u <<< "$gpu_names" | wc -l) > 1)); then
    warn "the GPUs are of different types ($(counted "$gpu_names")): splitting one model over them works poorly"
  fi
}

# A GPU in MIG mode has no usable memory until it is divided into slices.
check_mig() {
  local enabled slices
  enabled="$(grep -c ', Enabled,' <<< "$1" || true)"
  if ((enabled == 0)); then return; fi
  has_mig=yes
  slices="$(nvidia-smi -L | grep -c '^ *MIG ' || true)"
  if ((slices > 0)); then
    say "MIG: $slices slices on $enabled GPUs"
  elif ((enabled < $(wc -l <<< "$gpu_names"))); then
    warn "$enabled GPUs are in MIG mode without slices: nothing can run on them." \
      "Turn MIG off with \`nvidia-smi -mig 0\` as root"
  else
    fail "no usable GPU: MIG is on, and there are no slices." \
      "Create some, or turn MIG off with \`nvidia-smi -mig 0\` as root"
  fi
}

is_older() { ((${1%%.*} * 1000 + ${1#*.} < ${2%%.*} * 1000 + ${2#*.})); }

# Count equal lines: `2x THIS, 1x THAT`.
counted() { sort <<< "$1" | uniq -c | sed -E 's/^ *([0-9]+) /\1x /' | paste -sd , | sed 's/,/, /g'; }

summary_of_gpus() {
  [[ -n "$has_cuda_gpu" ]] || return 0
  echo ", driver $driver_version (CUDA $driver_cuda), $(counted "$gpu_names")"
}
