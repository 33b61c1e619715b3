# shellcheck shell=bash
# Which machine this is, and which places in the home folder are its own: machines may share a home, e.g. over NFS. The
# rules are those of `agent/machine.py`, which has the reasons. Sourced by `pod_setup.sh`, before `vllm.sh`.
#
#     ~/.pi/machine           the id of the first machine, and of its boot: ~/.pi, ~/venv and ~/.vllm_logs are its own
#     ~/.pi/machines/ID/      what is in ~/.pi and ~/venv, for another machine

# Set `machine`, and `pi_home` to the folder of this machine. Only reads.
find_the_place() {
  machine="$(machine_identity)"
  boot="$(cat /proc/sys/kernel/random/boot_id 2> /dev/null || true)"
  if ! is_first_machine; then move_to_own_place; fi
}

move_to_own_place() {
  pi_home="$HOME/.pi/machines/$machine"
  venv="$pi_home/venv"
  place="$pi_home"
  venvs="$pi_home/venvs"
}

# Create the folder of this machine; the first machine of a home claims the usual places.
take_the_place() {
  mkdir -p "$pi_home"
  chmod 700 "$HOME/.pi" "$pi_home"
  if has_usual_places && ! claim "$pi_home/machine" is_first_machine; then # another setup was faster
    move_to_own_place
    use_the_place
    mkdir -p "$pi_home"
    chmod 700 "$pi_home"
  fi
  if ! has_usual_places; then say "other machines have this home folder too: what is for this one is in $pi_home"; fi
}

has_usual_places() { [[ "$pi_home" == "$HOME/.pi" ]]; }

# Write into a file that its folder is this machine's, unless a condition says that it is another's by now.
claim() {
  local claim="$1"
  if [[ ! -s "$claim" ]] && (set -C && echo "$machine $boot" > "$claim") 2> /dev/null; then return; fi
  "${@:2}" || return 1
  echo "$machine $boot" > "$claim.new"
  mv "$claim.new" "$claim"
}

is_first_machine() {
  local first="" first_boot=""
  if [[ -d "$HOME/.pi/machines/$machine" ]]; then return 1; fi
  { read -r first first_boot < "$HOME/.pi/machine"; } 2> /dev/null || true
  if [[ "$first" == "$machine" ]]; then return 0; fi
  if ! is_home_shared; then
    [[ "$first_boot" != "$boot" ]]
  else # without a claim, an older version of pi has set it up for a machine that nothing names
    [[ -z "$first" && ! -e "$HOME/.pi/env" && ! -e "$HOME/venv" ]]
  fi
}

# Print the name of this machine in paths: `gpu01-3f9a8b7c-Xy12Zq9A`.
machine_identity() {
  local host id="" key="" kind word
  host="$(cat "$machine_root/proc/sys/kernel/hostname" 2> /dev/null | tr -cd 'A-Za-z0-9.' | head -c 40)" || true
  id="$(container_id)"
  if [[ -z "$id" ]]; then
    id="$(cat "$machine_root/etc/machine-id" 2> /dev/null || true)"
    if [[ "$id" =~ ^[0-9a-f]{32}$ ]]; then id="${id:0:8}"; else id=""; fi
    for kind in rsa ecdsa ed25519; do
      { read -r _ word _ < "$machine_root/etc/ssh/ssh_host_${kind}_key.pub"; } 2> /dev/null || continue
      key="$(tr -cd 'A-Za-z0-9' <<< "$word" | tail -c 8)"
    done
  elif [[ "$id" == "$host" ]]; then
    host=""
  fi
  id="${host:+$host-}${id:+$id-}${key:+$key-}"
  id="${id:-machine-}"
  echo "${id%-}"
}

container_id() {
  local root point
  while read -r _ _ _ root point _; do
    if [[ "$point" == /etc/hosts ]]; then
      grep -oE '[0-9a-f]{64}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}' <<< "$root" | tail -n 1 | tr -d - | head -c 12 || true
      return
    fi
  done < <(cat "$machine_root/proc/self/mountinfo" 2> /dev/null)
}

# Whether the home is on a network file system.
is_home_shared() { is_shared "$HOME"; }
