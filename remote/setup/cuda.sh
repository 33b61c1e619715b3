# shellcheck shell=bash
# The CUDA toolkit for what vLLM compiles at run time (kernels of FlashInfer and DeepGEMM that do not come prebuilt),
# and NVIDIA's newer user-mode driver where that helps. Sourced by `pod_setup.sh`.

cuda_repositories="${PI_CUDA_REPOSITORY:-https://developer.download.nvidia.com/compute/cuda/repos}"
cuda_keyring="cuda-keyring_1.1-1_all.deb"
apt_sources=/etc/apt

# Machine code of a newer CUDA 12 runs on an older driver, but PTX does not (vllm-project/vllm#28305, #31700).
lacks_ptx() { is_older "${driver_cuda:-99.0}" "$(cuda_of_the_wheel)"; }

# NVIDIA's solution, the package cuda-compat with a newer user-mode driver, works on data centre GPUs and with the
# long-term branches of the driver; elsewhere CUDA fails with error 803 or 804.
may_use_compat() {
  local gpu
  [[ "${driver_version%%.*}" == @(535|550|570) ]] || return 1
  while read -r gpu; do
    [[ "$gpu" =~ ^(Tesla |NVIDIA (A|B|H|L|GH|GB)[0-9]) && "$gpu" != "NVIDIA GB10" ]] || return 1
  done <<< "$gpu_names"
}

# Print the folder for VLLM_CUDA_COMPATIBILITY_PATH, if one is needed and installed.
cuda_compat() {
  local folder
  [[ -n "$has_cuda_gpu" ]] && lacks_ptx && may_use_compat || return 0
  folder="$machine_root/usr/local/cuda-$(cuda_of_the_wheel)/compat"
  if [[ -d "$folder" ]]; then echo "$folder"; fi
}

# Print the folder for CUDA_HOME: a toolkit that can compile for this vLLM and this GPU, the exact version first.
cuda_home() {
  local folder wanted
  [[ -n "$has_cuda_gpu" ]] || return 0
  wanted="$(cuda_of_the_wheel)"
  for folder in "$machine_root/usr/local/cuda-$wanted" "$machine_root"/usr/local/cuda{-*,} \
    "${CUDA_HOME:-${machine_variables[CUDA_HOME]:-}}"; do
    if can_compile "$folder" "$wanted"; then echo "$folder"; return; fi
  done
}

# A compiler of another major version generates code for libraries that this vLLM does not load. The headers that are
# included at run time have to be there too: images often have only the compiler.
can_compile() {
  local folder="$1" wanted="$2" version header
  [[ -x "$folder/bin/nvcc" ]] || return 1
  for header in cuda_runtime.h nvrtc.h curand.h cublas_v2.h; do [[ -e "$folder/include/$header" ]] || return 1; done
  version="$(version_of_toolkit "$folder")"
  [[ -n "$version" && "${version%%.*}" == "${wanted%%.*}" ]] && ! is_older "$version" "$(oldest_compiler)"
}

version_of_toolkit() { "$1/bin/nvcc" --version 2> /dev/null | sed -nE 's/.*release ([0-9]+\.[0-9]+).*/\1/p'; }

# Only the last CUDA 12 releases support Blackwell GPUs (FlashInfer: "SM 12.x requires CUDA >= 12.9").
oldest_compiler() {
  local capability="${compute_capability:-7.5}"
  if is_older "$capability" 10.0; then echo 12.0; elif is_older "$capability" 10.1; then echo 12.8; else echo 12.9; fi
}

has_wanted_toolkit() {
  local home version
  home="$(cuda_home)"
  if [[ -z "$home" || "$cuda" != full ]]; then [[ -n "$home" ]]; return; fi
  version="$(version_of_toolkit "$home")"
  is_installed "cuda-toolkit-${version/./-}"
}

# The step

install_cuda() {
  local needs_compat=""
  if [[ "$cuda" == none ]]; then skip "--cuda none"; return; fi
  if [[ -z "$has_cuda_gpu" ]]; then skip "vLLM's build for CPUs needs none"; return; fi
  if lacks_ptx && may_use_compat && [[ -z "$(cuda_compat)" ]]; then needs_compat=yes; fi
  if [[ -z "$needs_compat" ]] && has_wanted_toolkit; then skip "already installed: $(cuda_home)"; return; fi
  if [[ -n "$cuda_trouble" ]]; then skip_the_toolkit "$cuda_trouble"; return; fi
  install_the_toolkit || return 0
  hash -r
  say "installed CUDA $(version_of_toolkit "$(cuda_home)") in $(cuda_home)"
}

install_the_toolkit() {
  local folder wanted version dashed
  local -a packages=()
  folder="$(cuda_repository)"
  if [[ -z "$folder" ]]; then skip_the_toolkit "NVIDIA has no packages for $os_title on $arch"; return 1; fi
  add_cuda_repository "$folder" || { skip_the_toolkit "$cuda_trouble"; return 1; }
  wanted="$(cuda_of_the_wheel)"
  version="$(toolkit_among "$wanted" < <(apt-cache pkgnames cuda-nvcc-))"
  if [[ -z "$version" ]]; then
    skip_the_toolkit "NVIDIA's packages for $os_title do not include CUDA ${wanted%%.*}"
    return 1
  fi
  dashed="${version/./-}"
  if ! has_wanted_toolkit; then read -ra packages <<< "$(toolkit_packages "$dashed")"; fi
  if lacks_ptx && may_use_compat; then packages+=("cuda-compat-$dashed"); fi
  say "installing CUDA $version: ${packages[*]}"
  apt_install "${packages[@]}" || { skip_the_toolkit "$apt_trouble"; return 1; }
}

# What vLLM's own image has for compiling at run time, and the nvrtc headers (for FlashInfer's FP4 kernels).
toolkit_packages() {
  if [[ "$cuda" == full ]]; then echo "cuda-toolkit-$1"; return; fi
  echo "cuda-nvcc-$1 cuda-cudart-dev-$1 cuda-nvrtc-dev-$1 cuda-cuobjdump-$1 libcurand-dev-$1 libcublas-dev-$1"
}

skip_the_toolkit() {
  if [[ "$cuda" == full ]]; then fail "no CUDA toolkit: $1"; fi
  warn "no CUDA toolkit: $1. vLLM runs with its prebuilt kernels; models that need other kernels compiled fail"
  skip "not installed"
}

# Print the folder of NVIDIA's repository for this system. Ubuntu between two LTS uses the packages of the older LTS.
cuda_repository() {
  local system="" machine="$arch" version="${os_version/./}"
  if [[ "$arch" == aarch64 ]]; then machine=sbsa; fi
  case "$os_id" in
    debian) if [[ "$version" == 1[23] ]]; then system="debian$version"; fi ;;
    ubuntu)
      for system in 2604 2404 2204 2004; do
        if ((${version:-0} >= system)); then system="ubuntu$system"; break; fi
      done ;;
  esac
  if [[ -n "$system" && -n "$version" ]]; then echo "$system/$machine"; fi
}

# Add the repository to apt and refresh its list. An entry that came with the image is kept: a second one with another
# Signed-By would make apt fail.
add_cuda_repository() {
  local folder="$1" entry
  entry="$(entry_of_repository "$folder")"
  if [[ -z "$entry" ]]; then
    add_keyring "$folder" || { cuda_trouble="$(why_no_keyring "$cuda_repositories/$folder")"; return 1; }
    entry="$(entry_of_repository "$folder")"
    [[ -n "$entry" ]] || { cuda_trouble="$cuda_keyring does not add $cuda_repositories"; return 1; }
  fi
  retry_while_locked apt_get update -o "Dir::Etc::sourcelist=$entry" -o Dir::Etc::sourceparts=- \
    -o APT::Get::List-Cleanup=0 -o APT::Update::Error-Mode=any || { cuda_trouble="$(reason_of_apt)"; return 1; }
}

# Print the file that has an entry for the repository. apt reads each by itself and says what it would fetch: it leaves
# out comments, entries for sources, and those with `Enabled: no`. Files with other endings (`cuda.list.save`) are not
# apt's.
entry_of_repository() {
  local file addresses address="${cuda_repositories#*://}/$1/"
  while read -r file; do
    if [[ "$file" != "$apt_sources/sources.list" && ! "$file" =~ /[A-Za-z0-9_.-]+\.(list|sources)$ ]]; then continue; fi
    addresses="$(apt-get update --print-uris -o "Dir::Etc::sourcelist=$file" -o Dir::Etc::sourceparts=- 2> /dev/null)" \
      || continue
    if grep -F "://$address" <<< "$addresses" | grep -qF /Packages; then echo "$file"; return; fi
  done < <(grep -ls "${cuda_repositories#*://}" "$apt_sources"/sources.list "$apt_sources"/sources.list.d/* || true)
}

# Install NVIDIA's package with its key and the entry for apt.
add_keyring() {
  local scratch status=0
  scratch="$(mktemp -d)"
  fetch "$cuda_repositories/$1/$cuda_keyring" "$scratch/keyring.deb" \
    && retry_while_locked as_root env LC_ALL=C dpkg --force-confold -i "$scratch/keyring.deb" \
    && name_the_mirror || status=1
  rm -rf "$scratch"
  return "$status"
}

why_no_keyring() {
  local host="${1#*://}"
  certificate_trouble "$captured" "${host%%/*}" || echo "the machine cannot download $1/$cuda_keyring"
}

fetch() {
  local -a options=(-fsSL --connect-timeout 20 --max-time 120 --retry 2 -o "$2")
  if [[ "$1" == https:* ]]; then options+=(--proto '=https' --tlsv1.2); fi
  capture curl "${options[@]}" "$1"
}

# Change the entry, which names NVIDIA's own address, to the mirror.
name_the_mirror() {
  [[ -n "${PI_CUDA_REPOSITORY:-}" ]] || return 0
  as_root find /etc/apt/sources.list.d -name 'cuda-*.list' \
    -exec sed -i "s|https://developer.download.nvidia.com/compute/cuda/repos|$PI_CUDA_REPOSITORY|" {} +
}

# Choose from the versions whose compiler is available (`cuda-nvcc-12-9`, one per line): the wanted one, else the newest
# older one, else the next newer one, all of the same major version.
toolkit_among() {
  local wanted="$1" package version before="" after=""
  while read -r package; do
    version="${package#cuda-nvcc-}"
    version="${version/-/.}"
    if [[ ! "$version" =~ ^[0-9]+\.[0-9]+$ || "${version%%.*}" != "${wanted%%.*}" ]]; then continue; fi
    if [[ "$version" == "$wanted" ]]; then echo "$version"; return; fi
    if is_older "$version" "$wanted"; then
      if [[ -z "$before" ]] || is_older "$before" "$version"; then before="$version"; fi
    elif [[ -z "$after" ]] || is_older "$version" "$after"; then
      after="$version"
    fi
  done
  echo "${before:-$after}"
}
