# shellcheck shell=bash
# The environment of the steps: what is let in of the machine's variables, and what the user has added to ~/.pi/env.
# Sourced first by `pod_setup.sh`; docs/variables.md lists what is let in, with the reasons.
#
# Nothing else of the machine's environment reaches uv, pip, vLLM, apt, mount or nvidia-smi.

# An extended regular expression, the same as in `remote/agent/variables.py`.
let_in="HOME|USER|LOGNAME|SHELL|PATH|PWD|HOSTNAME|LANG|LANGUAGE|LC_[A-Z]+|TZ|TERM|TMPDIR"
let_in+="|(https?|ftp|all|no)_proxy|(HTTPS?|FTP|ALL|NO)_PROXY|PIP_PROXY"
let_in+="|SSL_CERT_(FILE|DIR)|SSL_CLIENT_CERT|(REQUESTS|CURL)_CA_BUNDLE|PIP_(CLIENT_)?CERT|GIT_SSL_CAINFO"
let_in+="|UV_(NATIVE_TLS|SYSTEM_CERTS|INSECURE_HOST)|PIP_TRUSTED_HOST"
let_in+="|UV_(DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|INDEX_STRATEGY|FIND_LINKS)"
let_in+="|UV_INDEX_[A-Z0-9_]+_(USERNAME|PASSWORD)|UV_PYTHON_(INSTALL_MIRROR|DOWNLOADS)"
let_in+="|PIP_(INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS)|NETRC|HF_ENDPOINT"
let_in+="|UV_(HTTP|REQUEST)_TIMEOUT|UV_HTTP_RETRIES|PIP_(DEFAULT_TIMEOUT|TIMEOUT|RETRIES)"
let_in+="|NVIDIA_(VISIBLE_DEVICES|DRIVER_CAPABILITIES)|container|(NCCL|FI|UCX)_[A-Z0-9_]+|GLOO_SOCKET_IFNAME"
let_in+="|PI_(CUDA_REPOSITORY|DEMO_[A-Z]+|FIRST_PORT|FREE_DISK|LAB_[A-Z]+|MACHINE_ROOT|SETUP|SETUP_WAIT_LIMIT)"
let_in+="|PI_(STALL_SECONDS|VLLM_WHEELS)"
# The folders of LD_LIBRARY_PATH in which container runtimes put the driver.
driver_folders="/usr/local/nvidia/lib|/usr/local/nvidia/lib64|/usr/lib/wsl/lib"

# Variables that would have changed what uv, pip, hf or vLLM do: that they are left out is said.
telling="(UV|PIP|HF|HUGGINGFACE|TRANSFORMERS|VLLM|CUDA|TORCH|PYTORCH|TRITON|FLASHINFER)_[A-Z0-9_]+"
telling+="|XDG_CACHE_HOME|PYTHON(PATH|HOME|USERBASE)|LD_(LIBRARY_PATH|PRELOAD)"

# What setup itself writes to ~/.pi/env; for a file of an older version, which has no copy (`environment.sh`).
written_by_setup="PATH|CUDA_HOME|VLLM_ENABLE_CUDA_COMPATIBILITY|VLLM_CUDA_COMPATIBILITY_PATH|HF_XET_HIGH_PERFORMANCE"
written_by_setup+="|HF_HUB_ENABLE_HF_TRANSFER|VLLM_NO_USAGE_STATS|PI_VLLM_CACHE|VLLM_TARGET_DEVICE|SSL_CERT_FILE"
written_by_setup="^export (($written_by_setup|REQUESTS_CA_BUNDLE)='|HF_HOME='.*/huggingface'\$)"

env_timeout=10 # seconds for ~/.pi/env, which is a script

declare -A machine_variables=() # the environment that the machine gave us, by name; not exported
declare -A user_variables=()    # what the user's lines of ~/.pi/env set
users_hub=""                    # the folder of the models, if these lines choose it

# Remove from the environment, and from this shell, what is not let in; also the functions that the machine exports.
clear_the_environment() {
  local name folder libraries=""
  local -a exported folders
  mapfile -t exported < <(compgen -e)
  for name in "${exported[@]}"; do
    machine_variables[$name]="${!name-}"
    if [[ "$name" =~ ^($let_in)$ ]]; then continue; fi
    export -n "${name?}" # some of bash's own cannot be unset
    unset "$name" 2> /dev/null || true
  done
  IFS=: read -ra folders <<< "${machine_variables[LD_LIBRARY_PATH]:-}"
  for folder in "${folders[@]}"; do
    if [[ "${folder%/}" =~ ^($driver_folders)$ ]]; then libraries+="${libraries:+:}$folder"; fi
  done
  IFS='|' read -ra folders <<< "$driver_folders"
  for folder in "${folders[@]}"; do # an ssh session lacks the variable that the container has
    folder="${PI_MACHINE_ROOT:-}$folder"
    if [[ -e "$folder/libcuda.so.1" && ":$libraries:" != *":$folder:"* ]]; then libraries+="${libraries:+:}$folder"; fi
  done
  if [[ -n "$libraries" ]]; then export LD_LIBRARY_PATH="$libraries"; fi
  while read -r _ _ name; do unset -f "$name"; done < <(declare -Fx)
}

# Add what the user's own lines of ~/.pi/env set: for uv and vLLM that is the user's word.
read_the_users_variables() {
  local entry name file
  local -A before=()
  for file in "$HOME/.pi/env" "$pi_home/env"; do
    if [[ -e "$file" ]] && ! is_trusted "$file"; then
      fail "$file belongs to another user, $(stat -Lc %U "$file"): move it away, then run setup again"
    fi
  done
  while IFS= read -r -d '' entry; do before["${entry%%=*}"]="${entry#*=}"; done < <(env -0)
  while IFS= read -r -d '' entry; do
    name="${entry%%=*}"
    if [[ "$name" == @(_|SHLVL|PWD|OLDPWD|HOME) || ! "$name" =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]]; then continue; fi
    if [[ -n "${before[$name]+set}" && "${before[$name]}" == "${entry#*=}" ]]; then continue; fi
    user_variables[$name]="${entry#*=}"
    export "$name=${entry#*=}"
  done < <(
    {
      if ! has_usual_places; then users_lines "$HOME/.pi/env"; fi
      users_lines "$pi_home/env"
    } | variables_of
  )
  users_hub="${user_variables[HF_HUB_CACHE]:-${user_variables[HUGGINGFACE_HUB_CACHE]:-}}"
  name="${user_variables[HF_HOME]:-${user_variables[XDG_CACHE_HOME]:+${user_variables[XDG_CACHE_HOME]}/huggingface}}"
  users_hub="${users_hub:-${name:+${name%/}/hub}}"
  users_hub="${users_hub/#\~/$HOME}"
}

# Whether a file in ~/.pi is ours, root's, or of the owner of ~/.pi, who has another uid on a share with root_squash.
is_trusted() { [[ "$(stat -Lc %u "$1")" == @("$EUID"|0|"$(stat -Lc %u "$HOME/.pi")") ]]; }

# Print the environment that a script on stdin leaves, each variable followed by a NUL.
variables_of() {
  # What the script prints comes before the first NUL.
  # shellcheck disable=SC2016  # expanded by the inner bash
  timeout -k 1 "$env_timeout" bash --norc -c 'set -a; . /dev/stdin; printf "\0"; exec env -0 < /dev/null' 2> /dev/null \
    | { IFS= read -r -d '' _ && cat; } || true
}

# Print the lines of ~/.pi/env, or of the file that another machine with the same home has, that setup did not write.
users_lines() {
  local file="$1"
  if [[ ! -f "$file" || ! -r "$file" ]]; then return; fi
  if [[ -f "$file.setup" ]]; then
    grep -vxF -f "$file.setup" "$file" || true
  else
    grep -vE "$written_by_setup" "$file" || true
  fi
}

# Print the value of a variable in ~/.pi/env, whoever wrote it.
value_in_env() {
  local entry
  while IFS= read -r -d '' entry; do
    if [[ "$entry" == "$1="* ]]; then printf '%s\n' "${entry#*=}"; fi
  done < <(if [[ -f "$pi_home/env" && -r "$pi_home/env" ]]; then variables_of < "$pi_home/env"; fi)
}

# Name the variables of the machine that are left out, never their values: a value that agrees with ours is not missed.
name_what_is_left_out() {
  local name left=""
  local -A ours=([LD_LIBRARY_PATH]="${LD_LIBRARY_PATH-}" [XDG_CACHE_HOME]="$HOME/.cache")
  for name in CUDA_VERSION CUDA_HOME; do ours[$name]="${machine_variables[$name]-}"; done # a fact; seen by `cuda_home`
  name="${models_path:-$HOME/.cache}/huggingface"
  ours[HF_HOME]="$name" ours[HF_HUB_CACHE]="$name/hub" ours[HUGGINGFACE_HUB_CACHE]="$name/hub"
  while IFS= read -r name; do
    if [[ ! "$name" =~ ^($telling)$ || "$name" =~ ^($let_in)$ || -n "${user_variables[$name]+set}" ]]; then continue; fi
    if [[ "${machine_variables[$name]}" == "${ours[$name]-}" ]]; then continue; fi
    left+="${left:+, }$name"
  done < <(printf '%s\n' "${!machine_variables[@]}" | sort)
  if [[ -n "$left" ]]; then
    warn "left out of the machine's environment: $left. What you need of it belongs in ~/.pi/env"
  fi
}
