# shellcheck shell=bash
# Wait for the programs that prepare a machine at its first boot, and for those that install its driver. Sourced by
# `pod_setup.sh`.

# Programs that install a driver, by a word of their command line. The brackets keep grep from finding itself.
driver_installers="(^|/)(nvidia-installer|NVIDIA-Linux-[^/]*[.]run|cuda_installer[.]pyz|cuda-installer"
driver_installers+="|install_gpu_driver[.](py|sh)|install-driver[.]sh|dkms|ubuntu-drivers|apt-get|apt|dpkg"
driver_installers+="|unattended-upgrades?)\$|[N]vidiaGpuDriverLinux"
# … and services that do it, among those of systemd that have not started yet.
driver_services="google-startup-script|google-c2d|nvidia|cuda|gpu|driver|dkms|first-?boot|lambda|rc-local"
no_installers="nvidia-(persistenced|fabricmanager|cdi|powerd|suspend|resume|hibernate|dcgm)|gpu-manager"

wait_for_the_first_boot() {
  local deadline=$((SECONDS + wait_limit)) program announced=""
  while program="$(first_boot)"; [[ -n "$program" ]]; do
    if ((SECONDS >= deadline)); then
      warn "$program has not finished within $wait_limit s; continuing while it runs"
      return
    fi
    [[ -n "$announced" ]] || say "waiting for $program to finish preparing this machine"
    announced=yes
    sleep 1
  done
}

# Print what still prepares the machine. cloud-init has finished when it has written its result, also one with errors.
first_boot() {
  local run="$machine_root/run"
  if [[ -e "$machine_root/.provisioning" ]]; then
    echo "the image's provisioning"
  elif [[ -d "$run/systemd/system" && -e "$run/cloud-init/status.json" && ! -e "$run/cloud-init/result.json" ]]; then
    echo "cloud-init"
  elif ! is_for_cpu; then
    missing_drivers_installer
  fi
}

# Print what installs the driver, unless that works already: then an update in the background does not matter.
missing_drivers_installer() {
  local program
  program="$(running_installer)"
  if [[ -n "$program" ]] && ! asked_driver > /dev/null; then printf '%s\n' "$program"; fi
}

# Print what the driver says of itself; fail if it does not work. One that is slow is there.
asked_driver() {
  find_nvidia_smi || return 1
  smi_began="$SECONDS"
  start_nvidia_smi list -L
  await_nvidia_smi list
  leave_nvidia_smi list
  printf '%s\n' "${smi_answer[list]}"
  [[ "${smi_status[list]:-0}" == 0 ]]
}

running_installer() {
  local word unit
  word="$(grep -saszohE "$driver_installers" "$machine_root"/proc/[0-9]*/cmdline | tr '\0' '\n' | head -n 1 || true)"
  case "${word#/}" in
    "") ;;
    cuda* | install[-_]* | NVIDIA-* | nvidia-*) echo "the installation of the NVIDIA driver (${word#/})"; return ;;
    NvidiaGpuDriverLinux) echo "Azure's extension that installs the NVIDIA driver"; return ;;
    *) echo "${word#/}"; return ;;
  esac
  if [[ ! -d "$machine_root/run/systemd/system" ]]; then return; fi
  while read -r unit _; do
    if [[ "$unit" =~ $driver_services && ! "$unit" =~ $no_installers ]]; then echo "$unit"; return; fi
  done < <(timeout 10 systemctl list-units --plain --no-legend --state=start --state=start-pre 2> /dev/null)
}

# Refuse a driver that is not there yet, or that needs a reboot; `gpus.sh` finds the other faults.
check_the_driver_is_loaded() {
  local program said
  program="$(missing_drivers_installer)"
  if [[ -n "$program" ]]; then
    fail "no NVIDIA driver yet: $program is still running. Run setup again when it has finished"
  fi
  if ! awaits_a_reboot || said="$(asked_driver)"; then return; fi
  if [[ "$said" == *mismatch* ]]; then
    fail "the NVIDIA driver was updated, and the kernel still has the old one: reboot the pod, then run setup again"
  fi
  fail "the NVIDIA driver does not work, and the machine waits for a reboot$(packages_that_wait): reboot the pod, then" \
    "run setup again"
}

# Whether updates of the kernel or the driver wait for a reboot, or the libraries are not those of the loaded module.
awaits_a_reboot() {
  local version
  if [[ -n "$(packages_that_wait)" ]]; then return; fi
  { read -r version < "$machine_root/sys/module/nvidia/version"; } 2> /dev/null || return 1
  compgen -G "$machine_root/usr/lib*/*/libnvidia-ml.so.[0-9]*.[0-9]*" > /dev/null \
    && ! compgen -G "$machine_root/usr/lib*/*/libnvidia-ml.so.$version" > /dev/null
}

packages_that_wait() {
  local names
  names="$(grep -shE 'nvidia|^linux-(image|modules)' "$machine_root"/run/reboot-required.pkgs | sort -u || true)"
  names="$(head -n 3 <<< "$names" | paste -sd ,)"
  if [[ -n "$names" ]]; then printf ' (%s)' "${names//,/, }"; fi
}
