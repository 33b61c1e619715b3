# shellcheck shell=bash
# System packages through apt. Sourced by `pod_setup.sh`.

apt_trouble=""       # why `apt_install` failed
lists_are_fresh=""   # one refresh is enough
mirror_trouble=""    # why the refresh failed

# Print what other steps need: to download uv or install it from PyPI, for pi's agent, and for `--mount`.
essentials() {
  echo ca-certificates curl python3 python3-venv
  if is_for_cpu; then echo libnuma1; fi # without it the CPU build silently runs without its kernels
  if [[ "$mount_kind" == nfs ]]; then echo nfs-common; fi
  if [[ "$mount_kind" == cifs ]]; then echo cifs-utils; fi
}

# Triton compiles at run time: it needs gcc and Python.h.
build_tools() { echo build-essential python3-dev; }

install_essentials() { install_missing "$(essentials)"; }

install_packages() { install_missing "$(build_tools)"; }

missing_packages() { missing_among "$(essentials) $(build_tools)"; }

install_missing() {
  local -a missing
  read -ra missing <<< "$(missing_among "$1")"
  if ((${#missing[@]} == 0)); then skip "all packages are already installed"; return; fi
  require_root "installing ${missing[*]}"
  apt_install "${missing[@]}" || fail "$apt_trouble"
  say "installed ${missing[*]}"
}

missing_among() {
  local package installed
  # shellcheck disable=SC2016,SC2086  # the ${} are dpkg's; the names are words
  installed="$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $1 2> /dev/null || true)"
  for package in $1; do
    if [[ $'\n'"$installed"$'\n' != *$'\n'"installed $package"$'\n'* ]]; then printf '%s ' "$package"; fi
  done
}

is_installed() { [[ -z "$(missing_among "$1")" ]]; }

# Install packages, after refreshing lists that are older than an hour. On failure, `apt_trouble` is the reason.
apt_install() {
  local status=0
  try_to_install "$@" || status=$?
  if [[ -n "$set_aside" ]]; then rm -rf "$set_aside"; fi
  set_aside="" apt_options=()
  return "$status"
}

try_to_install() {
  if have_fresh_lists && install_what_is_wanted "$@"; then return; fi
  if [[ -z "$lists_are_fresh" ]]; then
    refresh_lists
    if install_what_is_wanted "$@"; then return; fi
  fi
  apt_trouble="cannot install $*: $(reason_of_apt)"
  return 1
}

# apt fails for every package that it cannot finish, also one of somebody else's: what counts is what is there then.
install_what_is_wanted() {
  local -a command=(apt_get install --no-install-recommends "$@")
  local -i attempts
  for ((attempts = 0; attempts < 5; attempts++)); do
    if retry_while_locked "${command[@]}"; then return; fi
    if is_installed "$*"; then name_what_is_broken; return; fi
    clear_the_way "$@" || return 1
  done
  return 1
}

# The folder of the lists changes with every refresh, also by earlier setups; in new images it is empty.
have_fresh_lists() {
  [[ -n "$lists_are_fresh" ]] \
    || { compgen -G "$machine_root/var/lib/apt/lists/*_Packages*" \
      && [[ -n "$(find "$machine_root/var/lib/apt/lists" -maxdepth 0 -mmin -60)" ]]; } > /dev/null
}

# If one of several sources cannot be read, the others may be enough.
refresh_lists() {
  local -i attempts
  lists_are_fresh=yes
  for ((attempts = 0; attempts < 5; attempts++)); do
    if retry_while_locked apt_get update -o APT::Update::Error-Mode=any; then return; fi
    if ! has_unreadable_sources || ! leave_out_sources; then break; fi
  done
  mirror_trouble="$(reason_of_apt)"
  say "could not refresh the package lists; continuing with the existing ones: $mirror_trouble"
}

# Run apt-get with plain output and no questions; it keeps changed configuration files and restarts no services. In a
# container, whose disk does not survive a crash anyway, dpkg need not sync every file.
apt_get() {
  local -a options=(-o Dpkg::Use-Pty=0 -o APT::Color=0 -o Acquire::Retries=3
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold)
  options+=("${apt_options[@]}")
  if [[ -n "$is_container" ]]; then options+=(-o Dpkg::Options::=--force-unsafe-io); fi
  as_root_on_the_network env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C apt-get -q -y "${options[@]}" "$@"
}

# Run apt or dpkg; while another process holds their locks (cloud-init, unattended-upgrades), wait and retry. The output
# is shown as it comes, and kept. A daemon that a package starts may hold the output open forever: therefore it goes to
# a file, not to a pipe or to what `step` has open.
retry_while_locked() {
  local log="$pi_home/apt.log" deadline=$((SECONDS + wait_limit)) command announced="" status
  while true; do
    : > "$log"
    "$@" >> "$log" 2>&1 &
    command=$!
    tail -n +1 -s 0.1 --pid="$command" -f "$log" 2> /dev/null
    status=0
    wait "$command" || status=$?
    if ((status == 0)) || ! is_locked_out "$log"; then return "$status"; fi
    ((SECONDS < deadline)) || fail "$(holder_of_the_lock "$log") has held apt's lock for $wait_limit s: try again later"
    [[ -n "$announced" ]] || say "waiting for $(holder_of_the_lock "$log"), which holds apt's lock"
    announced=yes
    sleep 1
  done
}

is_locked_out() { grep -qE 'Could not get lock|Unable to (acquire|lock)|locked by another process' "$1"; }

# Both messages name the process: "It is held by process 4711 (apt-get)", "… another process with pid 4711".
holder_of_the_lock() {
  local pid name=""
  pid="$(sed -nE 's/.*(held by process|another process with pid) ([0-9]+).*/\2/p' "$1" | head -n 1)"
  if [[ -z "$pid" ]]; then echo "another program"; return; fi
  { read -r name < "/proc/$pid/comm"; } 2> /dev/null || name="another program"
  echo "$name (pid $pid)"
}

# Print in a few words why the last apt or dpkg failed.
reason_of_apt() {
  local log="$pi_home/apt.log" text broken
  text="$(grep -E '^(E|Err|Error|W|dpkg|curl):?' -A 1 "$log" || cat "$log")"
  broken="$(broken_packages "$log" | head -n 1)"
  case "$text" in
    *"No space left"* | *"enough free space"*) echo "the disk is full" ;;
    *"not valid yet"* | *"not yet valid"* | *"not yet activated"*) echo "the clock of the machine is wrong ($(date))" ;;
    *[Cc]"ertificate verif"*) certificate_trouble "$text" "$(host_in "$text")" ;;
    *resolving* | *"Could not resolve"* | *"Could not connect"* | *"Network is unreachable"* | *"Connection "*)
      echo "the machine cannot reach $(host_of_apt "$text")" ;;
    *"Unable to locate"* | *"no installation candidate"*)
      echo "${mirror_trouble:-$(sed -nE 's/^E: //p' "$log" | head -n 1)}" ;;
    *[Hh]"eld packages"* | *"held broken packages"*) echo "$(unmet_dependency "$log")$(name_held_packages)" ;;
    *) if [[ -n "$broken" ]]; then echo "$broken"; return; fi
      sed -nE 's/^(E: |dpkg: error[^:]*: )//p' "$log" | head -n 1 | grep . || echo "see above" ;;
  esac
}

host_of_apt() {
  local host
  host="$(host_in "$1")"
  echo "${host:+$host and other }package mirrors"
}

host_in() {
  local url
  url="$(grep -oE 'https?://[^/ ]+' <<< "$1" | head -n 1 || true)"
  echo "${url#*//}"
}
