# shellcheck shell=bash
# The environment of launches and downloads, and of login shells on request. Sourced by `pod_setup.sh`.

# shellcheck disable=SC2016  # the login shell's
shell_line='[ -r ~/.pi/env ] && case ":$PATH:" in *":$HOME/venv/bin:"*) ;; *) . ~/.pi/env ;; esac # by pi pods setup'

write_the_environment() {
  local file="$pi_home/env" changed="" written
  written="$(environment)"
  # If this is interrupted, the old and the new lines are recognised as ours.
  (
    umask 077
    { printf '%s\n' "$written" && kept_lines; } > "$file.new"
    printf '%s\n' "$written" >> "$file.setup"
  )
  chmod 600 "$file.new" "$file.setup"
  if cmp -s "$file.new" "$file"; then
    rm "$file.new"
    chmod 600 "$file"
  else
    mv "$file.new" "$file"
    changed=yes
  fi
  (umask 077 && printf '%s\n' "$written" > "$file.setup.new")
  mv "$file.setup.new" "$file.setup"
  if [[ -n "$provider" && "$(cat "$pi_home/provider" 2> /dev/null)" != "$provider" ]]; then
    echo "$provider" > "$pi_home/provider"
    changed=yes
  fi
  if [[ -n "$shell_env" ]]; then configure_login_shells; fi
  if [[ -z "$changed" ]]; then skip "nothing has changed"; else say "wrote $file"; fi
}

# Print the user's own lines, without those that `--models-path` or `--mount` contradicts.
kept_lines() {
  local line places="^ *(export +)?(HF_HOME|HF_HUB_CACHE|HUGGINGFACE_HUB_CACHE)="
  while IFS= read -r line; do
    if [[ -z "$models_path_is_former" && "$line" =~ $places ]]; then
      warn "removed ${BASH_REMATCH[2]} from $pi_home/env: models are now on $models_path"
    else
      printf '%s\n' "$line"
    fi
  done < <(users_lines "$pi_home/env")
}

environment() {
  local name value cuda compat
  # The agent reads the file of the home's first machine before that of another one.
  if ! has_usual_places; then
    echo unset CUDA_HOME VLLM_ENABLE_CUDA_COMPATIBILITY VLLM_CUDA_COMPATIBILITY_PATH HF_HUB_ENABLE_HF_TRANSFER HF_HOME \
      PI_VLLM_CACHE VLLM_TARGET_DEVICE SSL_CERT_FILE REQUESTS_CA_BUNDLE FLASHINFER_WORKSPACE_BASE TRITON_CACHE_DIR \
      TORCHINDUCTOR_CACHE_DIR TORCH_EXTENSIONS_DIR TILELANG_CACHE_DIR TVM_FFI_CACHE_DIR CUTE_DSL_CACHE_DIR CUDA_CACHE_PATH
  fi
  cuda="$(cuda_home)"
  compat="$(cuda_compat)"
  # Before the session's own PATH: a login shell may have found more than this shell.
  # shellcheck disable=SC2016  # the session's
  printf '%s:"$PATH"\n' "$(export_line PATH "$venv/bin${cuda:+:$cuda/bin}")"
  if [[ -n "$cuda" ]]; then export_line CUDA_HOME "$cuda"; fi
  if [[ -n "$compat" ]]; then
    export_line VLLM_ENABLE_CUDA_COMPATIBILITY 1
    export_line VLLM_CUDA_COMPATIBILITY_PATH "$compat"
  fi
  if compgen -G "$venv/lib/python*/site-packages/hf_transfer-*" > /dev/null; then
    export_line HF_HUB_ENABLE_HF_TRANSFER 1
  fi
  export_line VLLM_NO_USAGE_STATS 1
  if [[ -n "$models_path" ]]; then
    export_line HF_HOME "$models_path/huggingface"
    export_line PI_VLLM_CACHE "$models_path/vllm-cache/$(kind_of_gpus)"
  elif [[ -n "$home" ]]; then
    export_line PI_VLLM_CACHE "$place/cache/vllm/$(kind_of_gpus)"
  fi
  while read -r name value; do export_line "$name" "$value"; done < <(cache_variables)
  if [[ -n "$cpu_build" ]]; then export_line VLLM_TARGET_DEVICE cpu; fi
  for name in SSL_CERT_FILE REQUESTS_CA_BUNDLE; do # certificates that Python's own list lacks
    if [[ -n "${!name:-}" ]]; then export_line "$name" "${!name}"; fi
  done
}

export_line() {
  local quote="'"
  printf "export %s='%s'\n" "$1" "${2//$quote/$quote\\$quote$quote}"
}

# Print a folder name for what vLLM compiles, which is for one kind of GPU: `NVIDIA-H100-80GB-HBM3`.
kind_of_gpus() {
  if [[ -z "$gpu_names" ]]; then echo cpu; return; fi
  sort -u <<< "$gpu_names" | tr -cs 'A-Za-z0-9._\n' - | sed 's/-*$//' | paste -sd +
}

# Add one line to the files that shells read at login, and change nothing else in them.
configure_login_shells() {
  local file changed_files=""
  if ! has_usual_places; then
    warn "login shells read ~/.pi/env, which is that of another machine with this home folder: this one's is $pi_home/env"
    return
  fi
  for file in .profile .bashrc .bash_profile .zshrc; do
    file="$HOME/$file"
    if [[ ! -e "$file" && "$file" == */.@(bash_profile|zshrc) ]] || grep -qsF '.pi/env' "$file"; then continue; fi
    if [[ -s "$file" && -n "$(tail -c 1 "$file")" ]]; then echo >> "$file"; fi
    printf '%s\n' "$shell_line" >> "$file" || fail "cannot write to $file"
    changed_files+="${changed_files:+, }$file"
    changed=yes
  done
  if [[ -n "$changed_files" ]]; then say "login shells now read ~/.pi/env ($changed_files)"; fi
}
