# shellcheck shell=bash
# Broken packages and entries of sources on a machine, because of which apt refuses to do anything. They are named and
# not changed. Sourced by `pod_setup.sh`.

apt_options=() # what is left out of apt's view of the machine, for one installation
set_aside=""   # the folder for that; root reads it, which a home on a share may not allow
left_out=""    # names of packages
named_as_broken=""

# Get past what stopped apt before it began, if that changes only what is ours. The arguments are the
# packages that are wanted.
clear_the_way() {
  local log="$pi_home/apt.log"
  if grep -q 'dpkg was interrupted' "$log"; then
    # Packages of others may not be finished by this either.
    retry_while_locked as_root_on_the_network env DEBIAN_FRONTEND=noninteractive LC_ALL=C \
      dpkg --force-confdef --force-confold --configure -a || name_what_is_broken
  elif has_unreadable_sources; then
    leave_out_sources
  elif grep -qE 'fix-broken|needs to be reinstalled' "$log"; then
    leave_out_packages "$@"
  elif grep -q 'Problem with MergeList' "$log"; then
    remove_broken_lists
  else
    return 1
  fi
}

make_room_aside() {
  if [[ -n "$set_aside" ]]; then return; fi
  set_aside="$(mktemp -d)"
  chmod 755 "$set_aside"
}

# apt does nothing while an installed package lacks something that it needs: show it the list of packages without that.
leave_out_packages() {
  local log="$pi_home/apt.log" name before="$left_out"
  while read -r name; do
    if [[ " $* $left_out " == *" $name "* ]]; then continue; fi
    left_out+=" $name"
    warn "$name is not fully installed on this machine: $(unmet_dependency "$log" "$name"). Setup does not change it"
  done < <(sed -nE -e 's/^ ([a-z0-9][a-z0-9+.-]+)(:[a-z0-9]+)? : .*/\1/p' \
    -e 's/.*[Tt]he package ([^ :]+)(:[a-z0-9]+)? needs to be reinstalled.*/\1/p' "$log" | sort -u)
  if [[ "$left_out" == "$before" ]]; then return 1; fi
  make_room_aside
  awk -v RS= -v ORS='\n\n' -v names="$left_out " '{ split($2, name, ":") } !index(names, " " name[1] " ")' \
    "$machine_root/var/lib/dpkg/status" > "$set_aside/status"
  apt_options+=(-o "Dir::State::status=$set_aside/status")
}

# Print what a package needs: the first one that apt names, or this one.
unmet_dependency() {
  local line
  line="$(grep -E "^ ${2:-[a-z0-9][a-z0-9+.-]+}(:[a-z0-9]+)? : " "$1" | head -n 1 | sed -E 's/^ +//; s/ +/ /g' || true)"
  line="${line:-$(grep -E '^E: ' "$1" | head -n 1 | cut -d ' ' -f 2-)}"
  echo "${line%.}"
}

has_unreadable_sources() { grep -q 'list of sources could not be read' "$pi_home/apt.log"; }

# Show apt its entries of sources without those that it cannot read. Of entries that contradict each other, one stays.
leave_out_sources() {
  local log="$pi_home/apt.log" folder="$machine_root/etc/apt/sources.list.d" file why url
  local -a bad
  why="$(sed -nE 's/^(E|Error): //p' "$log" | head -n 1)"
  mapfile -t bad < <(grep -oE '/etc/apt/sources\.list(\.d/[^ ]+)?' <<< "$why" | sort -u)
  url="$(sed -nE 's/.*Conflicting values set for option .* regarding source ([^ ]+).*/\1/p' <<< "$why")"
  if [[ -n "$url" ]]; then
    mapfile -t bad < <(grep -lFs "${url%/}" "$folder"/*.list "$folder"/*.sources | head -n -1)
  fi
  if ((${#bad[@]} == 0)); then return 1; fi
  make_room_aside
  if [[ ! -d "$set_aside/sources" ]]; then
    cp -rL "$folder" "$set_aside/sources"
    apt_options+=(-o "Dir::Etc::sourceparts=$set_aside/sources" -o APT::Get::List-Cleanup=0)
  fi
  for file in "${bad[@]}"; do
    if [[ "$file" == */sources.list ]]; then apt_options+=(-o Dir::Etc::sourcelist=/dev/null); fi
    rm -f "$set_aside/sources/${file##*/}"
    warn "apt cannot read $file, and it is left out here: $why"
  done
}

# The lists are copies of what the sources have.
remove_broken_lists() {
  local file
  file="$(grep -oE '/var/lib/apt/lists/[A-Za-z0-9._~%+-]+' "$pi_home/apt.log" | head -n 1 || true)"
  if [[ -z "$file" ]]; then return 1; fi
  as_root rm -f "$file"
  lists_are_fresh=""
  refresh_lists
}

# Warn of packages that apt could not finish although all that setup needs is there.
name_what_is_broken() {
  local line log="$pi_home/apt.log" found=""
  while IFS= read -r line; do
    found=yes
    if [[ "$named_as_broken" == *"|$line|"* ]]; then continue; fi
    named_as_broken+="|$line|"
    warn "$line. What setup needs is installed; finish that package with \`dpkg --configure -a\` on the pod"
  done < <(broken_packages "$log")
  [[ -n "$found" ]] || warn "apt ended with an error, but what setup needs is installed: $(reason_of_apt)"
}

# Print the packages that dpkg could not finish, with its reasons.
broken_packages() {
  awk '/^dpkg: error processing (package|archive) / { name = $5; sub(/.*\//, "", name); sub(/_.*/, "", name)
    getline; sub(/^ +/, ""); if (!seen[name]++) print "dpkg cannot finish " name ": " $0 }' "$1"
}

name_held_packages() {
  local held
  held="$(apt-mark showhold 2> /dev/null | paste -sd ' ')"
  if [[ -n "$held" ]]; then
    echo "; held back on this machine: $held. Release them with \`apt-mark unhold\` on the pod"
  fi
}
