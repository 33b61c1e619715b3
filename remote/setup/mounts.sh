# shellcheck shell=bash
# What is mounted where, from the kernel's table, and how much room a disk has. Sourced by `pod_setup.sh`.

readonly network_types="nfs|nfs4|lustre|cifs|smb3|ceph|glusterfs|9p|virtiofs|beegfs|gpfs|wekafs"

# Print mount point, type and options of the disk that a path is on, links resolved, from the kernel's table.
mount_of() {
  local point type options path best="" facts=""
  path="$(readlink -m "$1")/"
  while read -r _ point type options _; do
    printf -v point '%b' "$point"
    if [[ "$path" == "${point%/}/"* && ${#point} -ge ${#best} ]]; then
      best="$point" facts="$point"$'\t'"$type"$'\t'"$options"
    fi
  done < "$machine_root/proc/self/mounts"
  printf '%s\n' "$facts"
}

# Print the device or share that is mounted on a folder, or nothing. Reads the kernel's table and not the folder, which
# hangs when the server of a mount is gone.
mounted_source() {
  local source point type folder mounted=""
  folder="$(readlink -m "$1")"
  while read -r source point type _; do
    if [[ "$(printf '%b' "$point")" == "$folder" && "$type" != autofs ]]; then mounted="$(printf '%b' "$source")"; fi
  done < "$machine_root/proc/self/mounts"
  printf '%s\n' "$mounted"
}

# Whether other machines may use the disk that a path is on.
is_shared() {
  local type
  IFS=$'\t' read -r _ type _ < <(mount_of "$1")
  is_network "$type"
}

is_network() {
  [[ "$1" =~ ^($network_types)$ ]] || [[ "$1" == fuse* && "$1" != @(fuseblk|fuse.fuse-overlayfs) ]]
}

# Describe the disk that holds a path: `/mnt/models (nfs4, 3.9 TB, 2.1 TB free)`.
disk_of() {
  local point type total free
  IFS=$'\t' read -r point type total free _ < <(disk_facts "$1")
  if [[ -z "${point:-}" ]]; then
    printf '%s (its disk does not answer)\n' "$1"
  elif is_pool "$point" "$type"; then
    printf '%s (%s, a shared pool: your share is unknown)\n' "$point" "$type"
  else
    printf '%s (%s, %s, %s free)\n' "$point" "$type" "$(human_size "$total")" "$(human_size "$free")"
  fi
}

is_full() { [[ "$(disk_facts "$1" | cut -f 4)" =~ ^[0-9]{1,3}$ ]]; } # less than a MiB

# Print the mount point, type, total KiB and free KiB of the disk that holds a path, separated by tabs.
disk_facts() {
  timeout -k 2 20 df -PTk "$1" 2> /dev/null \
    | sed -nE '2s/^.* ([^ ]+) +([0-9]+) +[0-9]+ +([0-9-]+) +[0-9-]+%? +(.*)$/\4\t\1\t\2\t\3/p' || true
}

# A file system in user space (MooseFS, S3 …) reports the size of the whole cluster, not our share of it.
is_pool() {
  [[ "$2" == fuse && "$(mounted_source "$1")" == mfs#* ]] || [[ "$2" == fuse.* && "$2" != fuse.fuse-overlayfs ]]
}

# Print a folder, or the nearest one above it that exists.
existing() {
  local folder="$1"
  while [[ ! -e "$folder" ]]; do folder="$(dirname "$folder")"; done
  printf '%s\n' "$folder"
}

# Format KiB: 21474836 → `22.0 GB`.
human_size() {
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
