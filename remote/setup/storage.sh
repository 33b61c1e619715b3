# shellcheck shell=bash
# The volume for models, and the Hugging Face cache on it. Sourced by `pod_setup.sh`.
#
# The volume is mounted once and not written to /etc/fstab: after a reboot, running setup again mounts it.

hf_cache="$HOME/.cache/huggingface"
mount_timeout=180 # seconds; mount.nfs itself gives up after 120, and says why
mount_delay=150   # tenths of a second

# Print the words of a mount command, one a line, as a shell would split it. Not with a program: its arguments could be
# read by every user of the machine, and the command may contain a password.
words_of() {
  local text="$1" word="" quote="" char
  local -i index is_word=0
  for ((index = 0; index < ${#text}; index++)); do
    char="${text:index:1}"
    if [[ -n "$quote" ]]; then
      if [[ "$char" == "$quote" ]]; then quote=""; else word+="$char"; fi
    elif [[ "$char" == [[:space:]] ]]; then
      if ((is_word)); then printf '%s\n' "$word"; fi
      word="" is_word=0
    else
      is_word=1
      case "$char" in
        \' | \") quote="$char" ;;
        \\) index+=1 word+="${text:index:1}" ;;
        *) word+="$char" ;;
      esac
    fi
  done
  if ((is_word)) && [[ -z "$quote" ]]; then printf '%s\n' "$word"; fi
}

# Replace in a text on stdin what may be a secret of the mount command: the command itself, the values of its options, and
# what stands before an `@` in a URL.
masked() {
  local text word part value
  text="$(cat)"
  text="${text//"$mount_command"/COMMAND}"
  while read -r word; do
    while IFS= read -r -d , part; do
      case "$part" in
        *//*@*) part="${part#*//}" value="${part%@*}" ;;
        *[=%]*) value="${part#*[=%]}" ;;
        *) continue ;;
      esac
      for value in "$value" "${value#*[:%]}"; do
        if ((${#value} > 2)) && [[ "$value" != "$mount_target" && "$value" != @(nfs*|cifs) && ! -e "$value" ]]; then
          text="${text//"$value"/***}"
        fi
      done
    done <<< "$word,"
  done < <(words_of "$mount_command")
  printf '%s\n' "$text"
}

# Print the models path of an earlier setup: without --models-path, models stay there.
former_models_path() {
  local store
  store="$(value_in_env HF_HOME)"
  if [[ "$store" != /*/huggingface ]]; then store="$(readlink "$hf_cache" || true)"; fi
  if [[ "$store" == /*/huggingface ]]; then printf '%s\n' "${store%/huggingface}"; fi
}

mount_the_models() {
  local place="${mount_target:-$models_path}" source
  if [[ -z "$mount_command" ]]; then look_at_the_models_path; return; fi
  source="$(mounted_source "$place")"
  if [[ -n "$source" ]]; then
    check_what_is_mounted "$place" "$source"
    skip "already mounted: $(disk_of "$place")"
  else
    run_the_mount_command
    wait_for_the_mount || fail "the mount command succeeded, but nothing is mounted on $place"
    say "mounted $(disk_of "$(existing "$place")")"
  fi
}

# A command that goes on in the background may need a moment.
wait_for_the_mount() {
  local -i tenths
  for ((tenths = mount_delay; tenths >= 0; tenths--)); do
    if is_the_volume_mounted; then return; fi
    [[ "$mount_command" =~ [^\>\&]\&([^\>\&]|$) ]] || return 1
    sleep 0.1
  done
  return 1
}

# A command that does not say where it mounts has done it if the models path is not on the disk of /.
is_the_volume_mounted() {
  if [[ -n "$mount_target" ]]; then
    [[ -n "$(mounted_source "$mount_target")" ]]
  else
    [[ "$(disk_facts "$(existing "$models_path")" | cut -f 1)" != @(|/) ]]
  fi
}

check_what_is_mounted() {
  local place="$1" source="${2%/}" wanted="${mount_source%/}"
  timeout -k 2 20 stat "$place/" > /dev/null 2>&1 \
    || fail "$place is mounted ($source), but does not answer:" \
      "run \`umount -l $place\` on the pod, then setup again"
  if [[ -n "$wanted" && "$wanted" != "$source" && ! "$wanted" -ef "$source" ]]; then
    wanted="$(masked <<< "$wanted")"
    fail "$source is mounted on $place, not $wanted: run \`umount $place\` on the pod, then setup again"
  fi
}

# Its output goes through a file: a mount that hangs in the kernel cannot even be killed, and would hold a pipe open.
run_the_mount_command() {
  local log="$pi_home/mount.log" status=0 place="${mount_target:-$models_path}" limit="$mount_timeout"
  require_root "mounting $place"
  [[ -z "$mount_target" || -d "$place" ]] || as_root mkdir -p "$place" || fail "cannot create $place"
  say "running the mount command for $place"
  if [[ "$mount_command" == *apt* ]]; then limit=$((limit + wait_limit)); fi
  # With a mark of its own: the daemon of a FUSE mount keeps running when setup is interrupted later (`supervise.sh`).
  echo "${PI_SETUP:-}" > "$pi_home/mounting"
  as_root timeout -k 5 "$limit" env -u PI_SETUP PI_MOUNTING="${PI_SETUP:-}" HOME="$HOME" LC_ALL=C \
    bash -c "$(< "$here/mounting.sh")" mount "$wait_limit" \
    < <(network_variables; printf '\0%s' "$mount_command") > "$log" 2>&1 || status=$?
  rm -f "$pi_home/mounting"
  masked < "$log" > "$log.masked"
  mv "$log.masked" "$log"
  cat "$log"
  case "$status" in
    0) ;;
    124 | 137) fail "the mount command did not end within $limit s: the server does not answer" ;;
    *) if [[ -n "$mount_target" ]] || ! is_the_volume_mounted; then
      fail "the mount command failed: $(why_not_mounted "$log")"
    fi
      warn "the mount command failed: $(why_not_mounted "$log")" ;;
  esac
}

why_not_mounted() {
  local output
  output="$(grep -v '^[[:space:]]*$' "$1" | tail -n 1 || true)"
  if grep -qi 'access denied by server' "$1"; then
    echo "the server denies access to this machine ($output)"
  elif grep -qiE 'permission denied|operation not permitted|must be superuser' "$1"; then
    echo "this machine is not allowed to mount ($output)"
  elif grep -qiE 'need a /sbin/mount|unknown filesystem type|command not found' "$1"; then
    echo "a program that it needs is not installed ($output)"
  elif grep -qiE 'failed to resolve|name or service not known' "$1"; then
    echo "there is no such server ($output)"
  elif grep -qiE 'timed out|no route to host|connection refused|network is unreachable' "$1"; then
    echo "the server cannot be reached ($output)"
  elif grep -qiE 'no such file or directory|special device|does not exist' "$1"; then
    echo "there is no such share or device ($output)"
  else
    echo "${output:-it ended without output}"
  fi
}

# Report what disk a models path is on that we did not mount: a volume, or the disk that ends with the machine.
look_at_the_models_path() {
  local folder="$models_path" point
  if [[ -n "$users_hub" ]]; then
    skip "models are in $users_hub, as ~/.pi/env says: $(disk_of "$(existing "$users_hub")")"
    return
  elif [[ -z "$folder" ]]; then
    skip "no volume: models stay in ~/.cache/huggingface ($(disk_of "$(existing "$hf_cache")"))"
    return
  fi
  folder="$(existing "$folder")"
  point="$(disk_facts "$folder" | cut -f 1)"
  if [[ "$point" != / ]]; then
    skip "$models_path is on $(disk_of "$folder")"
  elif [[ -n "$is_container" || "$(disk_facts "$folder" | cut -f 2)" == overlay ]]; then
    warn "$models_path is on the container's own disk and will be lost with it$(name_the_volumes)"
    skip "$models_path is on $(disk_of "$folder")"
  else
    skip "$models_path is on the machine's own disk, $(disk_of "$folder")"
  fi
}

# Put the Hugging Face cache on the models path, which outlives the pod.
place_the_cache() {
  local store="$models_path/huggingface"
  if [[ -n "$users_hub" ]]; then skip "models are in $users_hub, as ~/.pi/env says"; return; fi
  if [[ -z "$models_path" ]]; then leave_the_former_home; return; fi
  if [[ -n "$models_path_is_former" && ! -d "$store" ]]; then
    fail "the models folder $store is gone: mount its volume again with --mount," \
      "or choose another folder with --models-path"
  fi
  make_writable "$store"
  if [[ "$hf_cache" -ef "$store" ]]; then skip "the cache is $store"; return; fi
  mkdir -p "${hf_cache%/*}"
  move_old_cache_away "$store"
  ln -s "$store" "$hf_cache"
  say "the cache is now $store"
}

# With `--home ~` the models are in the home folder again; those of before stay where they are.
leave_the_former_home() {
  if [[ -z "$former_home" || "$(readlink "$hf_cache")" != "$former_home/huggingface" ]]; then
    skip "no --models-path"
    return
  fi
  rm "$hf_cache"
  say "the cache was $former_home/huggingface, which is kept; models are now in $hf_cache"
}

# A share usually belongs to root; the folder for the models has to be ours.
make_writable() {
  local trouble
  if ! mkdir -p "$1" 2> /dev/null || [[ -n "$(write_trouble "$1")" ]]; then
    require_root "creating $1"
    as_root mkdir -p "$1" || fail "cannot create $1"
    as_root chown "$(id -u):$(id -g)" "$1" || true # a server may refuse that, and still let us write
  fi
  trouble="$(write_trouble "$1")"
  case "$trouble" in
    "") ;;
    *"No space left"* | *"quota exceeded"*) fail "no space is left on $(disk_of "$1")" ;;
    *) fail "cannot write to $1: ${trouble##*: }" ;;
  esac
}

# Print why a folder cannot be written to, or nothing. Writes 4 KiB: an empty file would fit on a full disk.
write_trouble() {
  { LC_ALL=C printf '%4096s' '' > "$1/.pi-write-test" || true; } 2>&1
  rm -f "$1/.pi-write-test" 2> /dev/null || true
}

# Never delete the old cache: it becomes the store if that is empty and on the same disk, otherwise it is renamed.
move_old_cache_away() {
  local store="$1" kept="$hf_cache.before-setup"
  if [[ -L "$hf_cache" ]]; then
    say "the cache was $(readlink "$hf_cache"), which is kept"
    rm "$hf_cache"
  elif [[ ! -e "$hf_cache" ]] || rmdir "$hf_cache" 2> /dev/null; then
    return
  elif [[ "$(stat -c %d "$hf_cache")" == "$(stat -c %d "$store")" ]] && rmdir "$store" 2> /dev/null; then
    mv "$hf_cache" "$store"
    say "moved the old cache to $store"
  else
    while [[ -e "$kept" ]]; do kept="$kept+"; done
    mv "$hf_cache" "$kept"
    say "kept the old cache as $kept: move it to $store, or delete it"
  fi
}
