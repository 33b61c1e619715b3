# shellcheck shell=bash
# The GPUs and their driver: which there are, and whether vLLM can run on them. Sourced by `pod_setup.sh`.
#
# Sets for later steps: driver_version driver_cuda gpu_names compute_capability has_cuda_gpu.

driver_version="" driver_cuda="" gpu_names="" compute_capability="" has_cuda_gpu=""
oldest_gpu="" has_mig=""

# Seconds for nvidia-smi, as in the agent: without persistence mode it takes 25 to 40 on eight GPUs.
driver_patience=60
driver_note_after=5

# Where WSL, GKE's containers and Debian have it, beside the PATH; the same in `remote/agent/gpus.py`.
nvidia_folders="/usr/lib/wsl/lib:/usr/local/nvidia/bin:/usr/lib/nvidia/current"

declare -A smi_output=() smi_pid=() smi_answer=() smi_status=() # of each running nvidia-smi, by its name
smi_began=0
smi_is_slow=""

look_at_the_gpus() {
  find_nvidia_smi || fail "$(why_without_nvidia_smi)"
  ask_the_driver
  read_the_gpus
  check_mig
  driver_cuda="$(cuda_of_the_driver "$driver_version" "${smi_answer[banner]}")"
  has_cuda_gpu=yes
  name_a_compat_library
  propose_persistence_mode
  check_the_capability
  check_the_driver
}

find_nvidia_smi() {
  local folder
  local -a folders
  if command -v nvidia-smi > /dev/null; then return; fi
  IFS=: read -ra folders <<< "$nvidia_folders"
  for folder in "${folders[@]}"; do
    folder="$machine_root$folder"
    if [[ -x "$folder/nvidia-smi" ]]; then PATH+=":$folder"; return; fi
  done
  return 1
}

# The answers of nvidia-smi

# Set `smi_answer` and `smi_status` for the table, the banner, and the list of MIG slices. Each can take long: they run
# at once. Drivers before R510 do not know compute_cap. They are refused later, in check_the_driver, with a clearer
# message.
ask_the_driver() {
  local fields=name,driver_version,mig.mode.current,compute_cap name
  smi_began="$SECONDS"
  start_nvidia_smi table --query-gpu="$fields" --format=csv,noheader
  start_nvidia_smi banner
  start_nvidia_smi list -L
  await_nvidia_smi table
  if [[ "${smi_answer[table]}" == *"not a valid field"* ]]; then
    start_nvidia_smi table --query-gpu=name,driver_version --format=csv,noheader
    await_nvidia_smi table
  fi
  if [[ -n "${smi_status[table]}" ]]; then
    await_nvidia_smi banner
    if [[ "${smi_answer[table]}" == *", Enabled,"* ]]; then await_nvidia_smi list; fi
  fi
  for name in table banner list; do leave_nvidia_smi "$name"; done
  [[ -n "${smi_status[table]}" || -n "${smi_answer[table]}" ]] || fail "the driver does not answer: nvidia-smi" \
    "gave no answer within $driver_patience s. $(how_to_wake_the_driver)"
}

# Its shell notes the exit status, and has none of our descriptors: one that hangs in the driver cannot be killed, and
# would hold them open.
start_nvidia_smi() {
  local name="$1" descriptor
  exec {descriptor}< <(set +e; exec 8>&-; nvidia-smi "${@:2}" 2>&1; printf '%s%s' "$mark" "$?")
  smi_output[$name]="$descriptor"
  smi_pid[$name]=$!
  smi_answer[$name]="" smi_status[$name]=""
}

# Wait for an answer until the patience with all of them ends; then `smi_status` is empty and `smi_answer` incomplete.
await_nvidia_smi() {
  local name="$1" piece="" all="" status=0
  local -i left
  while true; do
    left=$((smi_began + (${#smi_is_slow} ? driver_patience : driver_note_after) - SECONDS))
    status=0
    IFS= read -r -d '' -t "$((left > 0 ? left : 1))" piece <&"${smi_output[$name]}" || status=$?
    all+="$piece"
    if ((status <= 128)); then break; fi
    if [[ -n "$smi_is_slow" ]] && ((SECONDS - smi_began >= driver_patience)); then break; fi
    if [[ -z "$smi_is_slow" ]]; then
      smi_is_slow=yes
      say "nvidia-smi has not answered for $driver_note_after s; waiting up to $driver_patience s"
    fi
  done
  smi_answer[$name]="${all%"$mark"*}"
  if [[ "$all" == *"$mark"* ]]; then smi_status[$name]="${all##*"$mark"}"; fi
}

# End an nvidia-smi that nobody waits for any more, without waiting for its end.
leave_nvidia_smi() {
  local -a tree=("${smi_pid[$1]}")
  local descriptor="${smi_output[$1]}"
  if [[ -z "${smi_status[$1]}" ]] && kill -0 "${tree[0]}" 2> /dev/null; then
    read -ra tree <<< "$(tree_of "${tree[0]}")"
    kill -KILL "${tree[@]}" 2> /dev/null || true
  fi
  exec {descriptor}<&-
}

how_to_wake_the_driver() {
  if [[ -n "$is_container" ]]; then
    echo "Ask the provider to restart the host of this container, or choose another machine"
  else
    echo "Restart the machine; if the driver still hangs, ask the provider, or choose another machine"
  fi
}

# What they say

# Each row of a usable GPU counts, whatever the exit status: one lost GPU of eight is a warning.
read_the_gpus() {
  local line name version capability trouble row=0
  local -a remarks=()
  while IFS= read -r line; do
    IFS=, read -r name version _ capability <<< "$line"
    version="${version# }"
    if [[ ! "$version" =~ ^([0-9]+\.[0-9.]+|\[.*\]|N/A|ERR!)$ ]]; then # not a row of the table
      if [[ -n "${line// }" ]]; then remarks+=("$line"); fi
      continue
    fi
    row=$((row + 1))
    trouble="$(trouble_in_row "$line")"
    if [[ -n "$trouble" ]]; then
      remarks+=("GPU $((row - 1)) ($name): $trouble")
    else
      take_gpu "$name" "$version" "$capability"
    fi
  done <<< "${smi_answer[table]}"
  [[ -n "$gpu_names" ]] || fail "no usable GPU: $(why_no_gpu "${remarks[0]:-}")"
  warn_of_lost_gpus "${remarks[@]}"
  if (($(sort -u <<< "$gpu_names" | wc -l) > 1)); then
    warn "the GPUs are of different types ($(counted "$gpu_names")): splitting one model over them works poorly"
  fi
}

# Print the field of a row that says that the GPU is broken; `[N/A]` only says that it does not have something.
trouble_in_row() {
  local field
  local -a fields
  IFS=, read -ra fields <<< "$1"
  for field in "${fields[@]}"; do
    if is_trouble "$field"; then echo "${field# }"; return; fi
  done
}

is_trouble() { [[ "${1,,}" =~ (^|[^a-z])err(or|!)|(^|[^a-z])lost|requires\ reset|unable\ to\ determine ]]; }

take_gpu() {
  local capability="${3# }"
  gpu_names+="${gpu_names:+$'\n'}$1"
  if [[ "$2" == [0-9]* || -z "$driver_version" ]]; then driver_version="$2"; fi
  if [[ "$capability" =~ ^[0-9]+\.[0-9]+$ ]] \
    && { [[ -z "$compute_capability" ]] || is_older "$capability" "$compute_capability"; }; then
    compute_capability="$capability"
    oldest_gpu="$1"
  fi
}

why_no_gpu() {
  local said="$1"
  if [[ -z "$said" ]] || [[ "$said" == "No devices"* && "${smi_status[table]}" == 0 ]]; then
    echo "nvidia-smi lists none: $(advice_on "$said")"
  else
    echo "nvidia-smi says \`$said\`: $(advice_on "$said")"
  fi
}

warn_of_lost_gpus() {
  local line
  for line; do
    if is_trouble "$line"; then
      warn "a GPU cannot be used, nvidia-smi says \`$line\`: restart the machine, or ask the provider for another one"
    elif [[ "${smi_status[table]}" != 0 ]]; then
      warn "nvidia-smi says \`$line\`"
    fi
  done
  if [[ -z "${smi_status[table]}" ]]; then
    warn "nvidia-smi did not finish within $driver_patience s: a GPU may be missing here. $(how_to_wake_the_driver)"
  fi
}

# A GPU in MIG mode has no usable memory until it is divided into slices.
check_mig() {
  local enabled slices
  enabled="$(grep -c ', Enabled,' <<< "${smi_answer[table]}" || true)"
  if ((enabled == 0)); then return; fi
  has_mig=yes
  slices="$(grep -c '^ *MIG ' <<< "${smi_answer[list]}" || true)"
  if ((slices > 0)); then
    say "MIG: $slices slices on $enabled GPUs"
  elif [[ -z "${smi_status[list]}" ]]; then
    warn "nvidia-smi did not list the MIG slices within $driver_patience s"
  elif ((enabled < $(wc -l <<< "$gpu_names"))); then
    warn "$enabled GPUs are in MIG mode without slices: nothing can run on them." \
      "Turn MIG off with \`nvidia-smi -mig 0\` as root"
  else
    fail "no usable GPU: MIG is on, and there are no slices." \
      "Create some, or turn MIG off with \`nvidia-smi -mig 0\` as root"
  fi
}

name_a_compat_library() {
  if [[ "${smi_answer[banner]}" =~ Version:\ *([0-9]+\.[0-9]+)\ *\| && -n "$driver_cuda" ]] \
    && is_older "$driver_cuda" "${BASH_REMATCH[1]}"; then
    warn "nvidia-smi shows CUDA ${BASH_REMATCH[1]}, but driver $driver_version supports $driver_cuda: the image has a" \
      "newer libcuda (package cuda-compat), which works on some GPUs only. Setup goes by the driver"
  fi
}

# Without persistence mode, the driver initialises every GPU again for each program. The banner shows `Off |` per GPU.
propose_persistence_mode() {
  if [[ -z "$smi_is_slow" || -z "${smi_status[table]}" || -z "${smi_status[banner]}" ]]; then return; fi
  if [[ "${smi_answer[banner]}" =~ \ On\ +\|\ +[0-9A-Fa-f]+: ]]; then return; fi
  if [[ -n "$is_container" ]]; then
    warn "nvidia-smi took more than $driver_note_after s. If persistence mode is off, each start of a model takes" \
      "that long too: the provider can turn it on, on the host of this container"
  else
    warn "nvidia-smi took more than $driver_note_after s. If persistence mode is off, each start of a model takes" \
      "that long too: turn it on with \`nvidia-smi -pm 1\` as root"
  fi
}

# Count equal lines: `2x THIS, 1x THAT`.
counted() { sort <<< "$1" | uniq -c | sed -E 's/^ *([0-9]+) /\1x /' | paste -sd , | sed 's/,/, /g'; }

summary_of_gpus() {
  [[ -n "$has_cuda_gpu" ]] || return 0
  echo ", driver $driver_version${driver_cuda:+ (CUDA $driver_cuda)}, $(counted "$gpu_names")"
}
