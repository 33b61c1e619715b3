# shellcheck shell=bash
# Wait for the programs that prepare a machine at its first boot. Sourced by `pod_setup.sh`.

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

first_boot() {
  local run="$machine_root/run"
  if [[ -e "$machine_root/.provisioning" ]]; then
    echo "the image's provisioning"
  elif [[ -d "$run/systemd/system" && -e "$run/cloud-init/status.json" && ! -e "$run/cloud-init/result.json" ]]; then
    echo "cloud-init"
  fi
}
