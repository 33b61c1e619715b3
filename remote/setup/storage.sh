# shellcheck shell=bash
# The volume for models, and the Hugging Face cache on it. Sourced by `pod_setup.sh`.
#
# A mount is made once, and not written to /etc/fstab: after a reboot setup, run again, makes it again.

hf_cache="$HOME/.cache/huggingface"
mount_patience=180 # seconds; mount.nfs itself gives up after 120, and says why

# Where a mount command mounts: its last absolute path.
target_of() {
  local word target=""
  while read -r word; do
    if [[ "$word" == /* && "$word" != /dev/null ]]; then target="${word%;}"; fi
  done < <(xargs printf '%s\n' 2> /dev/null <<< "$1")
  printf '%s\n' "${target%/}"
}

# Without --models-path, models stay where an earlier setup has put them.
former_models_path() {
  local store
  store="$(readlink "$hf_cache" || true)"
  if [[ "$store" == /*/huggingface ]]; then printf '%s\n' "${store%/huggingface}"; fi
}

mount_the_models() {
  local source
  if [[ -z "$mount_command" ]]; then look_at_the_models_path; return; fi
  source="$(mounted_source "$mount_target")"
  if [[ -n "$source" ]]; then
    check_what_is_mounted "$source"
    skip "there already: $(disk_of "$mount_target")"
  else
    run_the_mount_command
    [[ -n "$(mounted_source "$mount_target")" ]] \
      || fail "the mount command succeeded, but nothing is mounted on $mount_target"
    say "mounted $(disk_of "$mount_target")"
  fi
}

# The device or share that is mounted on a folder; nothing if it is no mount. Asked of the kernel, not of the folder:
# one whose server is gone answers nobody.
mounted_source() {
  local source point type folder found=""
  folder="$(readlink -m "$1")"
  while read -r source point type _; do
    if [[ "$(printf '%b' "$point")" == "$folder" && "$type" != autofs ]]; then found="$(printf '%b' "$source")"; fi
  done < "$machine_root/proc/self/mounts"
  printf '%s\n' "$found"
}

check_what_is_mounted() {
  local source="${1%/}" wanted
  timeout -k 2 20 stat "$mount_target/" > /dev/null 2>&1 \
    || fail "$mount_target is mounted ($source), but does not answer:" \
      "\`umount -l $mount_target\` there, then run setup again"
  wanted="$(source_of "$mount_command")"
  if [[ -n "$wanted" && "$wanted" != "$source" && ! "$wanted" -ef "$source" ]]; then
    fail "$source is mounted on $mount_target, not $wanted: \`umount $mount_target\` there, then run setup again"
  fi
}

# The share or device that a mount command names; nothing where that is not to be seen.
source_of() {
  local word found=""
  while read -r word; do
    if [[ "$word" =~ ^([^/=]+:/|/dev/[^n]).* ]]; then found="${word%/}"; fi
  done < <(xargs printf '%s\n' 2> /dev/null <<< "$1")
  printf '%s\n' "$found"
}

# Its output goes through a file: a mount that hangs in the kernel cannot even be killed, and would hold a pipe open.
run_the_mount_command() {
  local log="$pi_home/mount.log" status=0
  require_root "mounting $mount_target"
  [[ -d "$mount_target" ]] || as_root mkdir -p "$mount_target" || fail "cannot make $mount_target"
  say "$mount_command"
  # Providers' own commands say `sudo mount …`; root on a bare machine has no sudo and needs none.
  # With a mark of its own: the daemon of a FUSE mount stays when setup is broken off later (`supervise.sh`).
  : > "$pi_home/mounting"
  # shellcheck disable=SC2016  # expanded by the inner bash
  as_root timeout -k 5 "$mount_patience" env -u PI_SETUP PI_MOUNTING="${PI_SETUP:-}" HOME="$HOME" LC_ALL=C \
    bash -c 'sudo() { while [[ "$1" == -* ]]; do shift; done; "$@"; }; eval "$1"' mount "$mount_command" \
    > "$log" 2>&1 || status=$?
  rm -f "$pi_home/mounting"
  cat "$log"
  case "$status" in
    0) ;;
    124 | 137) fail "the mount command did not end within $mount_patience s: the server does not answer" ;;
    *) fail "the mount command failed: $(why_not_mounted "$log")" ;;
  esac
}

why_not_mounted() {
  local said
  said="$(grep -v '^[[:space:]]*$' "$1" | tail -n 1 || true)"
  if grep -qi 'access denied by server' "$1"; then
    echo "the server does not serve this machine ($said)"
  elif grep -qiE 'permission denied|operation not permitted|must be superuser' "$1"; then
    echo "this machine may not mount ($said)"
  elif grep -qiE 'need a /sbin/mount|unknown filesystem type|command not found' "$1"; then
    echo "a program that it needs is not installed ($said)"
  elif grep -qiE 'failed to resolve|name or service not known' "$1"; then
    echo "there is no such server ($said)"
  elif grep -qiE 'timed out|no route to host|connection refused|network is unreachable' "$1"; then
    echo "the server cannot be reached ($said)"
  elif grep -qiE 'no such file or directory|special device|does not exist' "$1"; then
    echo "there is no such share or device ($said)"
  else
    echo "${said:-\`$mount_command\`}"
  fi
}

# A models path that we did not mount: is it a volume, or the disk that ends with the machine?
look_at_the_models_path() {
  local there="$models_path" point
  if [[ -z "$there" ]]; then skip "no volume: models stay in ~/.cache/huggingface ($(disk_of "$HOME"))"; return; fi
  while [[ ! -e "$there" ]]; do there="$(dirname "$there")"; done
  point="$(disk_facts "$there" | cut -f 1)"
  if [[ "$point" != / ]]; then
    skip "$models_path is on $(disk_of "$there")"
  elif [[ -n "$is_container" || "$(disk_facts "$there" | cut -f 2)" == overlay ]]; then
    warn "$models_path is on the container's own disk, and lost with it$(volumes_that_are_here)"
    skip "$models_path is on $(disk_of "$there")"
  else
    skip "$models_path is on the machine's own disk, $(disk_of "$there")"
  fi
}

# What providers mount by themselves.
volumes_that_are_here() {
  local each found=""
  for each in /workspace /runpod-volume /data /lambda/nfs/* /mnt/*; do
    if [[ -d "$each" && -n "$(mounted_source "$each")" ]]; then found+="${found:+, }$each"; fi
  done
  if [[ -n "$found" ]]; then printf '; there are volumes: %s' "$found"; fi
}

# The Hugging Face cache goes to the models path, which outlives the pod.
place_the_cache() {
  local store="$models_path/huggingface"
  if [[ -z "$models_path" ]]; then skip "no --models-path"; return; fi
  if [[ -n "$models_path_is_former" && ! -d "$store" ]]; then
    fail "the models folder $store is gone: mount its volume again with --mount," \
      "or name another place with --models-path"
  fi
  make_writable "$store"
  if [[ "$hf_cache" -ef "$store" ]]; then skip "the cache is $store"; return; fi
  mkdir -p "${hf_cache%/*}"
  move_old_cache_away "$store"
  ln -s "$store" "$hf_cache"
  say "the cache is now $store"
}

# A share usually belongs to root; the folder for the models has to be ours.
make_writable() {
  local trouble
  if ! mkdir -p "$1" 2> /dev/null || [[ -n "$(write_trouble "$1")" ]]; then
    require_root "making $1"
    as_root mkdir -p "$1" || fail "cannot make $1"
    as_root chown "$(id -u):$(id -g)" "$1" || true # a server may refuse that, and still let us write
  fi
  trouble="$(write_trouble "$1")"
  case "$trouble" in
    "") ;;
    *"No space left"* | *"quota exceeded"*) fail "no space is left on $(disk_of "$1")" ;;
    *) fail "cannot write to $1: ${trouble##*: }" ;;
  esac
}

# Why nothing can be written to a folder; nothing if it can. An empty file would fit on a full disk.
write_trouble() {
  { LC_ALL=C printf '%4096s' '' > "$1/.pi-write-test" || true; } 2>&1
  rm -f "$1/.pi-write-test" 2> /dev/null || true
}

# What lies in the old cache is never deleted: it becomes the store if that is empty and on the same disk, or is kept.
move_old_cache_away() {
  local store="$1" kept="$hf_cache.before-setup"
  if [[ -L "$hf_cache" ]]; then
    say "the cache was $(readlink "$hf_cache"), which stays as it is"
    rm "$hf_cache"
  elif [[ ! -e "$hf_cache" ]] || rmdir "$hf_cache" 2> /dev/null; then
    return
  elif [[ "$(stat -c %d "$hf_cache")" == "$(stat -c %d "$store")" ]] && rmdir "$store" 2> /dev/null; then
    mv "$hf_cache" "$store"
    say "moved what was in $hf_cache to $store"
  else
    while [[ -e "$kept" ]]; do kept="$kept+"; done
    mv "$hf_cache" "$kept"
    say "kept what was in $hf_cache as $kept: move it to $store, or delete it"
  fi
}

# The disk that holds a path, in words: `/mnt/models (nfs4, 3.9 TB, 2.1 TB free)`.
disk_of() {
  local point type total free
  IFS=$'\t' read -r point type total free _ < <(disk_facts "$1")
  if [[ -z "${point:-}" ]]; then
    printf '%s (its disk does not answer)\n' "$1"
  elif is_pool "$point" "$type"; then
    printf '%s (%s, a shared pool: how much of it is yours cannot be told)\n' "$point" "$type"
  else
    printf '%s (%s, %s, %s free)\n' "$point" "$type" "$(in_words "$total")" "$(in_words "$free")"
  fi
}

is_full() { [[ "$(disk_facts "$1" | cut -f 4)" =~ ^[0-9]{1,3}$ ]]; } # less than a MiB

# Mount point, type, and KiB in all and free of the disk that holds a path, separated by tabs.
disk_facts() {
  timeout -k 2 20 df -PTk "$1" 2> /dev/null \
    | sed -nE '2s/^.* ([^ ]+) +([0-9]+) +[0-9]+ +([0-9-]+) +[0-9-]+%? +(.*)$/\4\t\1\t\2\t\3/p' || true
}

# A file system in user space (MooseFS, S3 …) tells the size of the whole cluster, never our share of it.
is_pool() {
  [[ "$2" == fuse && "$(mounted_source "$1")" == mfs#* ]] || [[ "$2" == fuse.* && "$2" != fuse.fuse-overlayfs ]]
}

# KiB as people say it: 21474836 → `22.0 GB`.
in_words() {
  local -i tenths
  tenths=$(($1 * 1024 / 100000000))
  if ((tenths >= 10000)); then
    tenths=$((tenths / 1000))
    printf '%d.%d TB' $((tenths / 10)) $((tenths % 10))
  elif ((tenths < 10)); then
    printf '%d MB' $(($1 * 1024 / 1000000))
  else
    printf '%d.%d GB' $((tenths / 10)) $((tenths % 10))
  fi
}
