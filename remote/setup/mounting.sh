# shellcheck shell=bash
# Runs a mount command as root, for `storage.sh`. This text is given to `bash -c`: root may not be allowed to read it in a
# home on a share. On stdin: the variables of the network, each followed by a NUL, one more NUL, and the command.

patience="$1" # seconds for other programs that hold apt's locks
locked="Could not get lock|Unable to (acquire|lock)"

# Providers' own commands say `sudo mount …`; root on a bare machine has no sudo and needs none.
sudo() {
  while (($#)); do
    case "$1" in
      -- | -[ugpChrtTDRU] | --user | --group) if [[ "$1" != -- ]]; then shift; fi ;;
      -*) ;;
      [A-Za-z_]*=*) export "${1?}" ;;
      *) break ;;
    esac
    shift
  done
  "$@"
}

apt-get() { patiently apt-get "$@"; }
apt() { patiently apt-get "$@"; }

# Run apt without questions. Setup installs packages at the same time, and a package that apt cannot finish does not
# matter if those that the command wants are there.
patiently() {
  local log status deadline=$((SECONDS + patience))
  log="$(mktemp)"
  while true; do
    status=0
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 command "$@" -q -y < /dev/null > "$log" 2>&1 || status=$?
    if ((status == 0 || SECONDS >= deadline)) || ! grep -qE "$locked" "$log"; then break; fi
    sleep 1
  done
  cat "$log"
  rm "$log"
  if ((status == 0)) || has_what_was_wanted "$@"; then return 0; fi
  return "$status"
}

has_what_was_wanted() {
  local word wanted=""
  for word in "${@:2}"; do
    case "$word" in
      update) return 0 ;; # other sources may be enough
      install) wanted=yes ;;
      -*) ;;
      *) [[ "$(dpkg-query -W -f '${db:Status-Status}' "${word%%=*}" 2> /dev/null)" == installed ]] || return 1 ;;
    esac
  done
  [[ -n "$wanted" ]]
}

while IFS= read -r -d '' entry && [[ -n "$entry" ]]; do export "${entry?}"; done
mount_command="$(cat)"
eval "$mount_command"
