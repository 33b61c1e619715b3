#!/usr/bin/env bash
# Run a command that must not outlive stdin: when stdin ends first, the command and all it started are ended.
#
#   supervise.sh COMMAND…
#
# The command gets a session of its own, no stdin, and a mark in its environment, which identifies daemons that left the
# session and their parents. A process under sudo may have lost both; it still descends from the command.

main() {
  local mark session watcher status
  mark="PI_SETUP=$(< /proc/sys/kernel/random/uuid)"
  exec 3<&0
  env "$mark" setsid "$@" < /dev/null 3<&- 2>&1 &
  session=$!
  watch "$session" "$mark" > /dev/null 2>&1 &
  watcher=$!
  wait "$session"
  status=$?
  kill "$watcher" 2> /dev/null
  exit "$status"
}

# Wait until stdin ends, then end everything; by then the command itself may be gone, and its supervisor with it.
watch() {
  while read -r -u 3 _; do :; done
  trap '' TERM
  # A mount command that has succeeded may have left a daemon that serves the mount: only an unfinished one is ended.
  if grep -qsxF "${2#*=}" "$HOME"/.pi/mounting "$HOME"/.pi/machines/*/mounting; then
    set -- "$@" "${2/PI_SETUP/PI_MOUNTING}"
  fi
  if [[ "$(id -u)" != 0 ]] && sudo -n true; then
    # shellcheck disable=SC2024  # our shell reads it: root may not be allowed to, in a home on a share
    sudo -n bash -s end "$@" < "${BASH_SOURCE[0]}"
  else
    end_all "$@"
  fi
}

# Send TERM, and KILL five seconds later, to every process of the command: SESSION MARK…
end_all() {
  local session="$1" marks pid
  marks="$(printf '%s\n' "${@:2}")"
  local -i rounds
  local -A members=() signalled=()
  for ((rounds = 10; rounds > 0; rounds--)); do
    find_members
    ((${#members[@]})) || return
    for pid in "${!members[@]}"; do
      [[ -n "${signalled[$pid]:-}" ]] || kill -TERM "$pid"
      signalled[$pid]=yes
    done
    sleep 0.5
  done
  for ((rounds = 20; rounds > 0; rounds--)); do
    find_members
    ((${#members[@]})) || return
    kill -KILL "${!members[@]}"
    sleep 0.1
  done
}

# Update `members` (start times by PID): known members that still live, the session, processes with the mark, and all
# their descendants.
find_members() {
  local file text pid grown=yes
  local -a fields
  local -A parents=() starts=() current=()
  for file in /proc/[0-9]*/stat; do
    text=""
    { read -r -d '' text < "$file"; } 2> /dev/null
    # shellcheck disable=SC2206  # numbers and a letter
    fields=(${text##*) }) # behind the name: state, parent, group, session; the 20th is the start time
    [[ "${fields[0]:-Z}" != [ZX] ]] || continue
    pid="${file//[!0-9]/}"
    parents[$pid]="${fields[1]}"
    starts[$pid]="${fields[19]}"
    if [[ "${fields[3]}" == "$session" || "${members[$pid]:-}" == "${fields[19]}" ]]; then current[$pid]=yes; fi
  done
  while read -r file; do
    pid="${file//[!0-9]/}"
    if [[ -n "${starts[$pid]:-}" ]]; then current[$pid]=yes; fi
  done < <(grep -lzxsF -f <(echo "$marks") /proc/[0-9]*/environ)
  while [[ -n "$grown" ]]; do
    grown=""
    for pid in "${!parents[@]}"; do
      if [[ -z "${current[$pid]:-}" && -n "${current[${parents[$pid]}]:-}" ]]; then current[$pid]=yes grown=yes; fi
    done
  done
  members=()
  for pid in "${!current[@]}"; do members[$pid]="${starts[$pid]}"; done
}

if [[ "${1:-}" == end ]]; then end_all "${@:2}"; else main "$@"; fi
