# shellcheck shell=bash
# What a running step has downloaded or installed so far, from the output of uv, pip and apt, which print no progress to
# a pipe. Runs in the `label` of the step (`steps.sh`), which reads that output anyway. Sourced by `pod_setup.sh`.
#
# uv, pip and apt name each file with its size when its download begins: this gives the total, and limits for the bytes
# so far. In between, the growth of apt's cache counts for apt, and for the others the traffic of the machine, without
# what apt downloads at the same time.

meter=""             # what is counted: bytes, packages, or nothing
meter_source=""      # of the bytes between the limits: traffic, apt, or none
meter_text=""        # DONE TOTAL UNIT
meter_shown=""       # … as it was printed last,
meter_shown_at=0     # in seconds, like
meter_ticked_at=0
most_files=2000
heartbeat=10         # seconds: a step that counts nothing says that often that it still runs

declare -A files=()  # the downloads of uv that have begun: bytes by name
total=0 begun=0 finished=0             # bytes
packages=0 unpacked=0 configured=0
received=0 received_before=0           # bytes that the machine has received, now and when counting began
apts_cache=0 apts_cache_before=0 apts_share=0
interface=""

# Begin to count the traffic of the machine: for a program that does not say what it downloads.
count_traffic() {
  meter=bytes meter_source=traffic total=0 begun=0 finished=0 files=()
  read_traffic
  received_before=$received
  read_apts_cache
  apts_share=0
}

# Look for what is to be counted in a line that a program has printed.
see_line() {
  case "$1" in
    *"Downloading "* | *"Downloaded "*) see_download "$1" ;;
    "Need to get "* | "Get:"* | "Fetched "* | *" newly installed, "* | "Unpacking "* | "Setting up "*) see_apt "$1" ;;
    "Prepared "* | "Installed "* | "Installing collected "*) stop_counting ;;
  esac
}

stop_counting() { meter="" meter_source="" total=0 begun=0 finished=0 files=(); }

# uv: `Downloading torch (846.5MiB)`, ` Downloaded torch`; pip: `  Downloading uv-0.13.9-….whl (24.7 MB)`.
see_download() {
  local name
  if [[ "$1" =~ ^\ *Downloading\ ([^ ]{1,200}).*\ \(([0-9.]{1,9})\ ?([kKMG]?i?)B\)$ ]]; then
    if [[ "$meter_source" != traffic ]]; then count_traffic; fi
    if ((${#files[@]} >= most_files)); then return; fi
    name="${BASH_REMATCH[1]}"
    read_size "${BASH_REMATCH[2]}" "${BASH_REMATCH[3]}"
    files["$name"]=$size
    begun=$((begun + size)) total=$begun
  elif [[ "$1" =~ ^\ *Downloaded\ ([^ ]{1,200}) ]]; then
    name="${BASH_REMATCH[1]}"
    size="${files["$name"]:-0}" # not within (( )), where a name would be evaluated
    finished=$((finished + size))
    files["$name"]=0
  fi
}

# `Need to get 1,234 kB/69.6 MB of archives.` (apt's cache has the rest), `Get:7 ADDRESS gcc-12 amd64 [19.3 MB]`.
see_apt() {
  if [[ "$1" =~ ^([0-9]{1,5})\ upgraded,\ ([0-9]{1,5})\ newly\ installed ]]; then
    packages=$((BASH_REMATCH[1] + BASH_REMATCH[2])) unpacked=0 configured=0
  elif [[ "$1" =~ ^Need\ to\ get\ ([0-9.,]{1,9})\ ([kMG]?)B ]]; then
    stop_counting
    read_size "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
    if ((size == 0)); then return; fi
    total=$size meter=bytes meter_source=apt
    read_apts_cache
    apts_cache_before=$apts_cache
    printf '    %s ~ %d 0 0\n' "$label_name" "$total"
  elif [[ "$1" =~ ^Get:.*\ \[([0-9.,]{1,9})\ ([kMG]?)B\]$ ]]; then
    meter=bytes finished=$begun
    read_size "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
    begun=$((begun + size))
  elif [[ "$1" == "Fetched "* ]]; then
    stop_counting
  elif [[ "$1" == "Unpacking "* ]] && ((packages)); then
    meter=packages unpacked=$((unpacked + 1))
  elif [[ "$1" == "Setting up "* ]] && ((packages)); then
    meter=packages configured=$((configured + 1))
  fi
}

# Set `size` to a number of bytes: `846.5 Mi`, `1,234 k`, `69.6 M`.
read_size() {
  local number="${1//,/}" unit=1 whole tenth=0
  whole="${number%%.*}"
  if [[ "$number" == *.?* ]]; then tenth="${number#*.}" tenth="${tenth:0:1}"; fi
  case "$2" in
    Ki) unit=1024 ;; Mi) unit=$((1024 ** 2)) ;; Gi) unit=$((1024 ** 3)) ;;
    k | K) unit=1000 ;; M) unit=$((1000 ** 2)) ;; G) unit=$((1000 ** 3)) ;;
  esac
  size=$(((10#${whole:-0} * 10 + 10#${tenth//[!0-9]/0}) * unit / 10))
}

# Print what is counted, at most once a second and only if it has changed.
tick() {
  if ((EPOCHSECONDS == meter_ticked_at)); then return; fi
  meter_ticked_at=$EPOCHSECONDS
  read_meter
  if [[ "$meter_text" == "$meter_shown" ]] && ((EPOCHSECONDS - meter_shown_at < heartbeat)); then return; fi
  meter_shown="$meter_text" meter_shown_at=$EPOCHSECONDS
  printf '    %s %%%s\n' "$label_name" "${meter_text:+ $meter_text}"
}

read_meter() {
  local so_far=$finished
  meter_text=""
  case "$meter" in
    bytes)
      case "$meter_source" in
        traffic) measure_traffic ;;
        apt)
          read_apts_cache
          so_far=$((apts_cache - apts_cache_before))
          ;;
      esac
      if ((so_far < finished)); then so_far=$finished; fi
      if ((begun && so_far > begun)); then so_far=$begun; fi
      if ((so_far || total)); then meter_text="$so_far $total bytes"; fi
      ;;
    packages)
      meter_text="$unpacked $packages packages unpacked"
      if ((unpacked >= packages)); then meter_text="$configured $packages packages set up"; fi
      ;;
  esac
}

measure_traffic() {
  local before=$apts_cache
  read_traffic
  read_apts_cache
  if ((apts_cache > before)); then apts_share=$((apts_share + apts_cache - before)); fi
  so_far=$((received - received_before - apts_share))
}

# On the interface of the default route: bridges of containers and the members of a bond would count bytes twice.
read_traffic() {
  local name destination bytes net="$machine_root/proc/net"
  if [[ ! -r "$net/route" || ! -r "$net/dev" ]]; then return; fi
  while read -r name destination _; do
    if [[ -z "$interface" && "$destination" == 00000000 ]]; then interface="$name"; fi
  done < "$net/route"
  while read -r name bytes _; do
    if [[ -n "$interface" && "$name" == "$interface:" ]]; then received=$bytes; fi
  done < "$net/dev"
}

# A folder that is not there, or not ours to read, counts as empty.
read_apts_cache() {
  local bytes
  apts_cache=0
  while read -r bytes; do apts_cache=$((apts_cache + bytes)); done \
    < <(stat -c %s "$machine_root"/var/cache/apt/archives/{,partial/}*.deb 2> /dev/null)
}
