# shellcheck shell=bash
# Why there is no usable NVIDIA GPU: what the machine has instead, and what its driver lacks. Sourced by `pod_setup.sh`.
#
# The PCI bus shows a card without any driver, in most containers too: `10de:2330` is vendor and device.

pi_builds="pi installs vLLM's builds for NVIDIA GPUs and for CPUs"

# Print why nvidia-smi is missing, and what to do.
why_without_nvidia_smi() {
  local cards module
  cards="$(cards_of 0x10de)"
  module="$(version_of_the_module)"
  if [[ -z "$cards$module" && ! -e "$machine_root/dev/nvidiactl" && ! -e "$machine_root/dev/dxg" ]]; then
    why_without_nvidia
  elif [[ -e "$machine_root/dev/dxg" ]]; then
    echo "no NVIDIA driver: nvidia-smi is missing in this WSL. Install NVIDIA's driver in Windows, then run" \
      "\`wsl --shutdown\` there"
  elif [[ -n "$is_container" && ! -e "$machine_root/dev/nvidiactl" ]]; then
    echo "the machine has an NVIDIA GPU${cards:+ ($cards)}, but this container was started without it: create it with" \
      "GPUs (\`docker run --gpus all\`), or choose a template that has them"
  elif [[ -n "$is_container" ]]; then
    echo "this container has an NVIDIA GPU, but not nvidia-smi: create it with" \
      "NVIDIA_DRIVER_CAPABILITIES=compute,utility, or choose another image"
  elif [[ -n "$module" ]]; then
    echo "NVIDIA's driver $module is loaded, but nvidia-smi is missing: $(how_to_install "${module%%.*}")"
  elif has_nouveau; then
    echo "the machine has an NVIDIA GPU ($cards) with the driver nouveau, which has no CUDA: $(how_to_install)"
  else
    echo "the machine has an NVIDIA GPU ($cards) and no driver: $(how_to_install), or choose an image with the driver"
  fi
}

# Print what to do if nvidia-smi is there, and says that there is no GPU.
advice_on() {
  case "$1" in
    *"version mismatch"*) echo "the driver was updated while it was loaded: restart the machine" ;;
    *"GPU access blocked"*) echo "update NVIDIA's driver in Windows, then run \`wsl --shutdown\` there" ;;
    *"find libnvidia-ml"*) echo "the image has nvidia-smi without the driver: choose a machine with a GPU" ;;
    *"Insufficient Permissions"*) echo "this user may not use the GPU: log in as root" ;;
    *) advice_on_silence ;;
  esac
}

advice_on_silence() {
  local cards
  cards="$(cards_of 0x10de)"
  if [[ -n "$is_container" ]]; then
    echo "restart the container; if that does not help, ask the provider, or choose another machine"
  elif [[ -z "$cards" && -d "$machine_root/sys/bus/pci/devices" && ! -e "$machine_root/dev/dxg" ]] && ! is_jetson; then
    why_without_nvidia
  elif [[ -n "$cards" ]] && has_nouveau; then
    echo "the driver of the GPU ($cards) is nouveau, which has no CUDA: $(how_to_install)"
  elif [[ -n "$cards" && -z "$(version_of_the_module)" ]]; then
    echo "the module of the driver is not loaded for the GPU ($cards): restart the machine, e.g. into the kernel that" \
      "the driver was built for; or $(how_to_install)"
  else
    echo "restart the machine; if that does not help, ask the provider, or choose another machine"
  fi
}

# Print what a machine without an NVIDIA card has.
why_without_nvidia() {
  local other
  other="$(other_accelerators)"
  if [[ -n "$other" ]]; then
    echo "this machine has $other; $pi_builds. Choose a machine with an NVIDIA GPU, or use --cpu"
  else
    echo "no NVIDIA GPU and no driver: choose a machine that has them. On a machine without a GPU, use --cpu"
  fi
}

other_accelerators() {
  local cards
  cards="$(cards_of 0x1002)"
  if [[ -n "$cards" ]]; then echo "AMD GPUs ($cards)"; return; fi
  if [[ -e "$machine_root/dev/kfd" ]]; then echo "AMD GPUs (/dev/kfd)"; return; fi
  cards="$(cards_of 0x1da3)"
  if [[ -n "$cards" ]]; then echo "Intel Gaudi accelerators ($cards)"; return; fi
  cards="$(cards_of 0x1ae0)"
  if [[ -n "$cards" ]]; then echo "Google TPUs ($cards)"; return; fi
  if compgen -G "$machine_root/dev/neuron[0-9]*" > /dev/null; then echo "AWS Neuron accelerators"; return; fi
  if grep -qsa apple, "$machine_root/proc/device-tree/compatible"; then echo "an Apple GPU"; return; fi
  cards="$(cards_of 0x8086)"
  if [[ -n "$cards" ]]; then echo "an Intel GPU ($cards)"; return; fi
  if compgen -G "$machine_root/dev/accel*/accel[0-9]*" > /dev/null; then echo "an accelerator (/dev/accel)"; fi
}

# Print the cards of a vendor on the PCI bus that compute or draw: `8x 10de:2330`. Class 03 is for displays, 12 for
# accelerators, and Google's TPUs have ff.
cards_of() {
  local folder vendor class device found=""
  for folder in "$machine_root"/sys/bus/pci/devices/*/; do
    { read -r vendor < "$folder/vendor" && read -r class < "$folder/class" && read -r device < "$folder/device"; } \
      2> /dev/null || continue
    if [[ "$vendor" == "$1" && ( "$class" == 0x@(03|12)* || "$1$class" == 0x1ae00xff* ) ]]; then
      found+="${found:+$'\n'}${vendor#0x}:${device#0x}"
    fi
  done
  if [[ -n "$found" ]]; then counted "$found"; fi
}

version_of_the_module() {
  grep -oEs 'Kernel Module +(for [^ ]+ +)?[0-9.]+' "$machine_root/proc/driver/nvidia/version" \
    | grep -oE '[0-9.]+$' || true
}

has_nouveau() { [[ -d "$machine_root/sys/module/nouveau" && ! -d "$machine_root/sys/module/nvidia" ]]; }

# Print how the driver, or its tools for a branch that is loaded, are installed.
how_to_install() {
  if [[ -n "${1:-}" && "$os_id" == ubuntu ]]; then
    echo "install its tools (\`apt install nvidia-utils-$1\`, as root)"
  elif [[ "$os_id" == ubuntu ]]; then
    echo "install NVIDIA's driver (\`apt install ubuntu-drivers-common && ubuntu-drivers install --gpgpu\`, as root)" \
      "and restart the machine"
  else
    echo "install NVIDIA's driver (https://docs.nvidia.com/datacenter/tesla/driver-installation-guide) and restart" \
      "the machine"
  fi
}
