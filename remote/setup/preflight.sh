# shellcheck shell=bash
# Check the machine before anything is changed on it, and refuse what cannot work. Sourced by `pod_setup.sh`.
#
# Sets for later steps: os_id os_version arch provider is_container. `gpus.sh` and `disks.sh` check the rest.

machine_root="${PI_MACHINE_ROOT:-}" # machines of the tests and the demo have /etc, /proc … below this folder
wait_limit="${PI_SETUP_WAIT_LIMIT:-300}" # seconds to wait for other programs: the first boot, another apt

os_id="" os_version="" os_title="" arch="" provider="" is_container=""
missing_at_start=""
cuda_trouble="" # why there will be no CUDA toolkit

check_the_machine() {
  read_the_system
  detect_the_provider
  check_the_mount
  name_what_is_left_out
  wait_for_the_first_boot
  if ! is_for_cpu; then
    check_the_driver_is_loaded
    look_at_the_gpus
  fi
  check_rights
  check_the_clock "$EPOCHSECONDS"
  check_the_disks
  ask_cuda_at_once
  say "$os_title, $arch${provider:+, $provider}$(summary_of_gpus), $free_space"
}

is_for_cpu() { [[ -n "$cpu_build" ]] || is_cpu_build "$vllm_spec"; }

# The operating system

read_the_system() {
  local name value
  local -A release=()
  while IFS='=' read -r name value; do
    value="${value#[\"\']}"
    release["${name:-_}"]="${value%[\"\']}"
  done < <(cat "$machine_root/etc/os-release" 2> /dev/null)
  os_title="${release[NAME]:-an unknown system} ${release[VERSION_ID]:-}"
  os_title="${os_title/ GNU\/Linux/}"
  os_title="${os_title% }"
  os_id="${release[ID]:-}" os_version="${release[VERSION_ID]:-}"
  if [[ "$os_id" != @(ubuntu|debian) ]]; then
    treat_as_its_parent "${release[ID_LIKE]:-}" "${release[UBUNTU_CODENAME]:-${release[VERSION_CODENAME]:-}}"
  fi
  check_the_version
  command -v apt-get > /dev/null || fail "not Debian or Ubuntu: apt-get is missing"
  arch="$(uname -m)"
  [[ "$arch" == @(x86_64|aarch64) ]] || fail "vLLM has no builds for $arch: choose a machine with x86_64 or aarch64"
}

# Mint, Pop!_OS, Kali …: derivatives use the packages of their parent distribution.
treat_as_its_parent() {
  case " $1 " in
    *" ubuntu "*) os_id=ubuntu ;;
    *" debian "*) os_id=debian ;;
    *) fail "$os_title is neither Ubuntu (20.04 to 26.04) nor Debian (12, 13): choose another image" ;;
  esac
  case "$2" in
    focal) os_version=20.04 ;;
    jammy) os_version=22.04 ;;
    noble) os_version=24.04 ;;
    resolute) os_version=26.04 ;;
    bookworm) os_version=12 ;;
    trixie) os_version=13 ;;
    *) os_version="" ;;
  esac
  warn "$os_title is treated as ${os_id^}${os_version:+ $os_version}, which is not tested"
}

check_the_version() {
  local oldest=2004 newest=2604 version="${os_version/./}"
  if [[ "$os_id" == debian ]]; then oldest=12 newest=13; fi
  if [[ ! "$version" =~ ^[0-9]+$ ]]; then return; fi # Debian testing has none
  ((version >= oldest)) || fail "$os_title is too old: choose an image with Ubuntu 20.04 to 26.04, or Debian 12 or 13"
  ((version <= newest)) || warn "$os_title is newer than the releases that setup is tested with"
}

# Containers and providers

detect_the_provider() {
  local comm="" names=" " entry
  { read -r comm < "$machine_root/proc/1/comm"; } 2> /dev/null || true
  if [[ "$comm" != @(systemd|init) || -e "$machine_root/.dockerenv" ]]; then is_container=yes; fi
  # A command run through ssh does not get the container's variables: read those of PID 1. Only their names are used:
  # the values include the platform's keys.
  while IFS= read -r -d '' entry; do names+="${entry%%=*} "; done < <(cat "$machine_root/proc/1/environ" 2> /dev/null)
  provider="$(provider_by_variables "$names ${!machine_variables[*]} ")"
  provider="${provider:-$(provider_by_files)}"
}

# Resellers come first: their pods have the variables of the provider behind them too.
provider_by_variables() {
  case "$1" in
    *" PRIME_"*) echo prime ;;
    *" HYPERBOLIC_"*) echo hyperbolic ;;
    *" RUNPOD_POD_ID "*) echo runpod ;;
    *" VAST_CONTAINERLABEL "* | *" VAST_TCP_PORT_"*) echo vast ;;
  esac
}

provider_by_files() {
  local vendor="" file
  if [[ -e "$machine_root/etc/rp_environment" ]]; then echo runpod; return; fi
  if compgen -G "$machine_root/etc/vast*" > /dev/null; then echo vast; return; fi
  if [[ -d "$machine_root/lambda/nfs" ]]; then echo lambda; return; fi
  for file in sys_vendor product_name chassis_vendor; do
    vendor+=" $(cat "$machine_root/sys/class/dmi/id/$file" 2> /dev/null || true)"
  done
  vendor+=" $(grep -hv '^#' "$machine_root/etc/fstab" "$machine_root/etc/hostname" 2> /dev/null || true)"
  case "${vendor,,}" in
    *datacrunch* | *verda*) echo verda ;;
    *lambda*) echo lambda ;;
    *hyperbolic*) echo hyperbolic ;;
    *"amazon ec2"*) echo aws ;;
  esac
}

check_the_mount() {
  local volume
  volume="$(mounted_volume)"
  if [[ -n "$mount_command" ]] && [[ -z "$(mounted_source "${mount_target:-$models_path}")" ]] && ! may_mount; then
    fail "--mount cannot work: this is an unprivileged container. $(instead_of_mounting "$volume")"
  fi
  if [[ -n "$models_path$users_hub" ]]; then return; fi
  if [[ -n "$volume" && ! "$HOME/.cache/huggingface" -ef "$volume/huggingface" ]]; then
    propose_the_volume "$volume"
  elif [[ -z "$volume" ]]; then
    name_unformatted_disks
  fi
}

propose_the_volume() {
  local note=""
  if is_emptied "$1"; then note=" (providers delete what is there when the machine stops)"; fi
  warn "models will be stored on the machine's own disk;" \
    "to use the volume on $1$note, add --models-path $(printf '%q' "$1")"
}

name_unformatted_disks() {
  local disks
  disks="$(unformatted_disks)"
  if [[ -z "$disks" ]]; then return; fi
  say "not formatted, and not used: ${disks//$'\n'/, }. Make a file system there (\`mkfs.ext4 DISK\` deletes what is on" \
    "it), then add --mount \"mount DISK /mnt/models\""
}

instead_of_mounting() {
  if [[ -n "$1" ]]; then
    echo "Use --models-path $(printf '%q' "$1") instead: your provider has mounted that volume"
  else
    echo "Leave it out: a volume must be attached when the machine is created"
  fi
}

# Whether mounting is allowed: it needs CAP_SYS_ADMIN (bit 21) of the machine itself, not of a user namespace. A user
# other than root has no capabilities before sudo: the bounding set holds what sudo can give.
may_mount() {
  local name value set=CapEff outside
  if [[ "$(id -u)" != 0 ]]; then set=CapBnd; fi
  read -r _ outside _ < "$machine_root/proc/self/uid_map"
  [[ "$outside" == 0 ]] || return 1
  while read -r name value; do
    if [[ "$name" == "$set:" ]]; then break; fi
  done < "$machine_root/proc/self/status"
  (((16#${value:-0} >> 21) & 1))
}

# Rights and clock

check_rights() {
  missing_at_start="$(missing_packages)"
  if can_be_root; then return; fi
  if [[ -n "$missing_at_start" ]]; then require_root "installing ${missing_at_start% }"; fi
  if [[ -n "$mount_command" ]] && [[ -z "$(mounted_source "${mount_target:-$models_path}")" ]]; then
    require_root "mounting ${mount_target:-$models_path}"
  fi
  cuda_trouble="it needs root"
}

can_be_root() { as_root true 2> /dev/null; }

# With a clock that is behind, certificates lie in the future, and TLS fails with messages that do not mention clocks.
check_the_clock() {
  local now="$1" newest
  newest="$(stat -c %Y "$machine_root/var/lib/dpkg/status" 2> /dev/null || echo 0)"
  ((now >= 1767225600)) \
    || fail "the clock says $(date -u -d "@$now" '+%F %R') UTC: no download can work. Set it (\`date -s\`, as root)"
  if ((now + 3600 < newest)); then
    warn "the clock says $(date -u -d "@$now" '+%F %R') UTC, but packages were installed here later than that"
  fi
}
