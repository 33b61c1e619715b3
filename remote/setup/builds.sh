# shellcheck shell=bash
# One decision from the driver: which CUDA it supports, which build of vLLM runs on that, and which torch belongs to
# that build. Sourced by `pod_setup.sh`.

# The newest CUDA that each branch of the driver supports, newest branch first.
driver_branches=(610:13.3 595:13.2 590:13.1 580:13.0 575:12.9 570:12.8 565:12.7 560:12.6 555:12.5 550:12.4 545:12.3
  535:12.2 530:12.1 525:12.0 520:11.8 515:11.7 510:11.6 495:11.5 470:11.4 465:11.3 460:11.2 455:11.1 450:11.0 0:10.2)

# Since which version vLLM's default wheel is built with which CUDA, newest first. 0.20: vllm-project/vllm#44335; 0.11.1
# to 0.19: #30435 and vllm-omni#1919; the torch 2.7 and 2.8 of 0.9 to 0.11.0 are for 12.8, torch 2.5 and 2.6 for 12.4.
vllm_builds=(0.20:13.0 0.11.1:12.9 0.9:12.8 0.6.4:12.4 0:12.1)

# The build for drivers that support less than the default wheel needs. It is in an index of its own.
cuda_of_the_other_build=12.9

# Compare versions of CUDA or of compute capability: 12.9 is older than 12.10.
is_older() { ((${1%%.*} * 1000 + ${1#*.} < ${2%%.*} * 1000 + ${2#*.})); }

# Compare versions of vLLM by their numbers: 0.20.0rc1 counts as 0.20.0.
is_before() { (("$(rank_of "$1")" < "$(rank_of "$2")")); }

rank_of() {
  [[ "$1" =~ ^([0-9]+)\.?([0-9]*)\.?([0-9]*) ]] || { echo 0; return; }
  echo $(((10#${BASH_REMATCH[1]} * 10000 + 10#${BASH_REMATCH[2]:-0}) * 10000 + 10#${BASH_REMATCH[3]:-0}))
}

# Print the newest CUDA that a driver supports, or nothing if that is unknown. nvidia-smi's banner has a "CUDA Version"
# (in newer drivers "CUDA UMD Version"): that of the libcuda which programs load. Images may have a newer one than the
# driver's, from the package cuda-compat, which works on some GPUs only: the branch of the driver is the upper limit. An
# older one is what programs get.
cuda_of_the_driver() {
  local branch="${1%%.*}" banner="" limit=""
  if [[ "$2" =~ CUDA( UMD)?\ Version:\ *([0-9]+\.[0-9]+) ]]; then banner="${BASH_REMATCH[2]}"; fi
  limit="$(cuda_of_the_branch "$branch")"
  if [[ -z "$banner" || -z "$limit" ]]; then
    echo "${banner:-$limit}"
  elif is_older "$banner" "$limit" || ((branch >= ${driver_branches[0]%:*} + 5)); then # … or newer than the table
    echo "$banner"
  else
    echo "$limit"
  fi
}

# Windows has numbers between the branches: 572 is of 570. Those of Jetsons say nothing: 540 came with 12.2 and 12.6.
cuda_of_the_branch() {
  local each
  if [[ ! "$1" =~ ^[0-9]+$ || "$1" == 540 ]] || is_jetson; then return; fi
  for each in "${driver_branches[@]}"; do
    if (($1 >= ${each%:*})); then echo "${each#*:}"; return; fi
  done
}

is_jetson() { [[ -e "$machine_root/etc/nv_tegra_release" || "$gpu_names" =~ Orin|Thor|Xavier|\(nvgpu\) ]]; }

# Print which wheel of a vLLM runs on a driver for this CUDA (`default`, or the suffix of another one: `cu129`), and the
# torch backend of uv that belongs to it. Fail if there is none. A driver for CUDA 12 runs code of a newer CUDA 12.
# Arguments, each may be empty: the version, else the newest; the CUDA of the driver; the wheel that is asked for.
pair_for() {
  local version="$1" driver="$2" asked="$3" cuda
  if [[ -n "$driver" ]] && is_older "$driver" 12.0; then return 1; fi
  cuda="$(cuda_of_the_default "$version")"
  if [[ -n "$asked" && "$asked" != "$(backend_for "$cuda")" ]]; then
    may_run "$(cuda_of_the_backend "$asked")" "$driver" && echo "$asked $asked"
  elif may_run "$cuda" "$driver"; then
    echo "default $(backend_for "$cuda")"
  else
    [[ -z "$asked" ]] && echo "$(backend_for "$cuda_of_the_other_build") $(backend_for "$cuda_of_the_other_build")"
  fi
}

# Whether a driver for the CUDA $2 runs code that was built with the CUDA $1: within a major version, yes.
may_run() { [[ -z "$2" ]] || ((${1%%.*} <= ${2%%.*})); }

# Print the CUDA of the default wheel of a version. torch has no builds with 12.8 for ARM since 2.8.
cuda_of_the_default() {
  local each
  for each in "${vllm_builds[@]}"; do
    if [[ -n "$1" ]] && is_before "$1" "${each%:*}"; then continue; fi
    if [[ "$each" == *:12.8 && "$arch" == aarch64 ]] && ! is_before "$1" 0.10.2; then each=:12.9; fi
    echo "${each#*:}"
    return
  done
}

backend_for() { echo "cu${1/./}"; }

cuda_of_the_backend() {
  local digits="${1#cu}"
  echo "${digits%?}.${digits: -1}"
}

# Print the pair for what `--vllm` asks, as far as its text says: `vllm>=0.31` is decided again once its version is
# known.
pair() { pair_for "$(version_in "$vllm_spec")" "$driver_cuda" "$(build_in "$vllm_spec")"; }

# Print the version in a requirement or in the name of a wheel: `vllm[runai]==0.33.0`, `…/vllm-0.33.0-cp38….whl`.
version_in() {
  if [[ "$1" =~ ^(vllm(\[[^]]*\])?\ *==\ *)?([0-9][0-9A-Za-z.]*)(\+[A-Za-z0-9.]+)?$ ]]; then
    echo "${BASH_REMATCH[3]}"
  elif names_own_wheel "$1" && [[ "$1" =~ vllm-([0-9]+\.[0-9]+[0-9A-Za-z.]*) ]]; then
    echo "${BASH_REMATCH[1]}"
  fi
}

# Print the build that a requirement, or the address of a wheel, names: `0.33.0+cu129`, `https://host/cu128/vllm-….whl`.
build_in() {
  if [[ "$1" =~ (\+|%2[Bb]|/)(cu1[0-9][0-9])([^0-9A-Za-z]|$) ]] || [[ "$1" =~ [.](cu1[0-9][0-9])- ]]; then
    [[ "${BASH_REMATCH[0]}" =~ cu1[0-9]+ ]]
    echo "${BASH_REMATCH[0]}"
  fi
}

# Print the CUDA version that vLLM's build is made with.
cuda_of_the_wheel() {
  local chosen
  chosen="$(pair)" || chosen="default $(backend_for "$(cuda_of_the_default "$(version_in "$vllm_spec")")")"
  cuda_of_the_backend "${chosen#* }"
}

asks_for_vllm_before() {
  local version
  version="$(version_in "$vllm_spec")"
  [[ -n "$version" ]] && is_before "$version" "$1"
}

# A wheel by its address or path, or another source: it is built already, and no index decides.
names_own_wheel() { [[ "$1" == *[/@]* ]]; }

# A custom build is not checked: a user who names one knows what it runs on.
names_own_build() { [[ -n "$vllm_spec" && ! "$vllm_spec" =~ ^(release|nightly|(vllm==)?[0-9][A-Za-z0-9.+]*)$ ]]; }

# vLLM's documentation asks for 7.0 up to 0.19; 0.20 dropped it together with CUDA 12.9 as the default
# (vllm-project/vllm#39878).
check_the_capability() {
  local least=7.5 advice="no vLLM was ever built for it"
  if asks_for_vllm_before 0.20; then least=7.0; fi
  if [[ -z "$compute_capability" ]] || ! is_older "$compute_capability" "$least" || names_own_build; then return; fi
  if ! is_older "$compute_capability" 7.0; then advice="0.19.1 was the last one built for it: use --vllm 0.19.1"; fi
  fail "$oldest_gpu has compute capability $compute_capability, and vLLM needs $least; $advice"
}

check_the_driver() {
  if names_own_build; then return; fi
  pair > /dev/null || fail "$(why_no_build)"
  if lacks_ptx && ! may_use_compat; then
    warn "the driver supports CUDA $driver_cuda, and vLLM is built with $(cuda_of_the_wheel): models fail if the" \
      "driver has to translate their kernels for this GPU (\"the provided PTX was compiled with an unsupported" \
      "toolchain\"). Driver 575 and newer do not have this limit"
  fi
}

# The last builds with CUDA 11.8 were those of 0.10.1.1: 0.10.2 moved to PyTorch 2.8, which has none
# (vllm-project/vllm#24124, #28115).
why_no_build() {
  local build
  build="$(build_in "$vllm_spec")"
  if [[ -n "$build" ]] && ! is_older "$driver_cuda" 12.0; then
    echo "$build is built with CUDA $(cuda_of_the_backend "$build"), and the NVIDIA driver $driver_version supports" \
      "CUDA $driver_cuda: name another build, or choose a machine with driver 580 or newer"
  else
    echo "the NVIDIA driver $driver_version is too old: it supports CUDA $driver_cuda, and vLLM needs 12.0 (driver" \
      "525) or newer; vLLM 0.10.1.1 was the last built with CUDA 11"
  fi
}
