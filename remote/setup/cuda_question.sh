# shellcheck shell=bash
# Ask the driver itself whether CUDA works (`ask_cuda.py`, `cuda_errors.py`): before anything large is downloaded, and at
# the end in the environment of models and with their PyTorch. Sourced by `pod_setup.sh`.
#
# A GPU that another program uses is not touched: see `ask_cuda.py`.

fabric_patience=60 # seconds: after the boot of a machine, Fabric Manager needs up to a minute
young=600          # seconds since the boot of the host during which that is waited for
is_cuda_asked=""
cuda_verdict="not asked"

# In the preflight. A bare Debian has no Python yet, or one without ctypes: then `ask_cuda` follows the prerequisites.
ask_cuda_at_once() {
  if ! is_for_cpu && command -v python3 > /dev/null; then put_the_question; fi
}

must_still_ask_cuda() { [[ -z "$is_cuda_asked" ]] && ! is_for_cpu; }

ask_cuda() {
  put_the_question
  say "$cuda_verdict"
}

# At the end: a compatibility library may have been installed, and PyTorch is there. Its import takes seconds: it is
# asked once for each vLLM, driver and boot.
ask_cuda_at_the_end() {
  local proof="$pi_home/cuda-works" now
  if is_for_cpu; then skip "vLLM's build for CPUs does not use CUDA"; return; fi
  put_the_question
  now="$(readlink "$venv" || true) $driver_version $(cuda_compat) ${boot:-}"
  if [[ "$(cat "$proof" 2> /dev/null)" == "$now" ]]; then skip "$cuda_verdict"; return; fi
  if [[ "$(cuda_of_torch "$venv")" =~ ^[0-9] ]]; then
    if ask_pytorch; then echo "$now" > "$proof"; fi
  fi
  say "$cuda_verdict"
}

put_the_question() {
  local answer said="" until=$((SECONDS + $(patience_with_the_fabric)))
  while true; do
    answer="$(answer_of_cuda python3 -I -S)"
    if [[ "$answer" != "~ "* ]] || ((SECONDS >= until)); then break; fi
    [[ -n "$said" ]] || say "waiting for Fabric Manager, which may still be starting (CUDA error 802)"
    said=yes
    sleep 1
  done
  report_on_cuda "$answer"
}

# Whether PyTorch has answered; one that cannot be asked is a line in the log.
ask_pytorch() {
  local driver="$cuda_verdict" answer
  answer="$(answer_of_cuda "$venv/bin/python" -I --torch)"
  report_on_cuda "$answer"
  cuda_verdict="$driver"
  [[ "$answer" != "? "* ]] || return 1
  cuda_verdict+=", also with PyTorch"
}

# Print the answer in the format of `cuda_errors.py`; `$@` is the command of a Python, and `--torch`.
answer_of_cuda() {
  local compat count word
  local -a options=() variables=() command=()
  for word; do if [[ "$word" == --torch ]]; then options+=(--torch --seconds 300); else command+=("$word"); fi; done
  compat="$(cuda_compat)"
  if [[ -n "$compat" ]]; then
    variables=(VLLM_ENABLE_CUDA_COMPATIBILITY=1 VLLM_CUDA_COMPATIBILITY_PATH="$compat")
  fi
  count="$(gpus_that_cuda_should_find)"
  options+=(--expect "$count" --leave "$(gpus_in_use)")
  env "${variables[@]}" "${command[@]}" "$here/ask_cuda.py" "${options[@]}" 2> /dev/null \
    | tail -n 1 | python3 -I -S "$here/cuda_errors.py" || echo "? CUDA could not be asked"
}

# Report on an answer: the verdict, warnings, or why the step fails.
report_on_cuda() {
  local sign text
  while read -r sign text; do
    case "$sign" in
      '*') is_cuda_asked=yes cuda_verdict="$text" ;;
      '!') warn "$text" ;;
      '?') echo "$text" ;;
      '~' | x) fail "CUDA does not work: $text" ;;
    esac
  done <<< "$1"
}

# Print how many GPUs nvidia-smi has; 0 if CUDA may find fewer: of slices (MIG) it shows a program only one.
gpus_that_cuda_should_find() {
  if [[ -n "$has_mig" ]]; then echo 0; else wc -l <<< "$gpu_names"; fi
}

# Print the GPUs on which models of this pod use memory: `0,3`.
gpus_in_use() {
  local gpu used total numbers=""
  if ! compgen -G "$HOME/.pi/models/*.json" > /dev/null; then return; fi
  while IFS=', ' read -r gpu used total; do
    if [[ "$gpu$used$total" =~ ^[0-9]+$ ]] && ((used * 20 > total)); then numbers+="${numbers:+,}$gpu"; fi
  done < <(timeout 60 nvidia-smi --query-gpu=index,memory.used,memory.total --format=csv,noheader,nounits 2> /dev/null)
  echo "$numbers"
}

patience_with_the_fabric() {
  local uptime="$young"
  { read -r uptime _ < "$machine_root/proc/uptime"; } 2> /dev/null || true
  if ((${uptime%%.*} >= young)); then
    echo 0
  else
    echo $((fabric_patience < wait_limit ? fabric_patience : wait_limit))
  fi
}
