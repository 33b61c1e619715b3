# shellcheck shell=bash
# The volumes that are mounted already, and disks that could be one. Sourced by `pod_setup.sh`.

smallest_volume=10485760 # KiB; a smaller one holds no models
smallest_disk=100000000000 # bytes
# Folders whose content providers delete when the machine stops.
emptied="@(/ephemeral*|/scratch*|/local*|/mnt|/mnt/@(resource|scratch|ephemeral|local)*|/opt/dlami/*)"

# Print the mount points of the volumes that can hold models, the best first: those that outlive the machine, then by
# free space.
volumes() {
  local source target type options total free lasts
  while read -r source target type options _; do
    target="$(printf '%b' "${target//\\/\\0}")"
    if ! may_hold_models "$source" "$target" "$type" "$options"; then continue; fi
    IFS=$'\t' read -r _ _ total free _ < <(disk_facts "$target") || continue
    if ! ((${total:-0} >= smallest_volume)); then continue; fi # also one that does not answer
    lasts=1
    if is_emptied "$target"; then lasts=0; fi
    printf '%s\t%s\t%s\n' "$lasts" "${free:-0}" "$target"
  done < "$machine_root/proc/self/mounts" | sort -s -t $'\t' -k 1,1nr -k 2,2nr | cut -f 3 | awk '!seen[$0]++'
}

# Whether it is a disk or a share, and not a part of the system: SOURCE TARGET TYPE OPTIONS.
may_hold_models() {
  local disks="ext[234]|xfs|btrfs|zfs|f2fs|bcachefs"
  local shares="nfs.*|cifs|smb3|ceph|lustre|wekafs|gpfs|beegfs.*|virtiofs|vboxsf|ocfs2|gfs2|fuse|fuse\\..*|fuseblk|9p"
  local no_volumes="fuse\\.(lxcfs|gvfs.*|portal|snapfuse|.*overlayfs)"
  local system="boot|efi|snap|etc|usr|proc|sys|dev|run|var|tmp|lib[0-9]*|bin|sbin|opt|nix|gnu|root|init|mnt/wslg"
  [[ "$3" =~ ^($disks|$shares)$ && ! "$3" =~ ^($no_volumes)$ ]] || return 1
  if [[ "$3" == 9p && ( "$4" == *aname=drvfs* || "$1" == [A-Z]:* ) ]]; then return 1; fi # a disk of Windows
  if [[ "$2" == @(/|/home) || ( "$2" =~ ^/($system)(/.*)?$ && "$2" != /opt/dlami/* ) ]]; then return 1; fi
  [[ ",$4," != *,ro,* && ! -f "$2" && "$HOME/" != "$2/"* && "$1" != "$(mounted_source /)" ]]
}

# shellcheck disable=SC2053  # it is a pattern
is_emptied() { [[ "$1" == $emptied ]]; }

# Print the mount point of the best volume.
mounted_volume() {
  local all
  all="$(volumes)"
  printf '%s\n' "${all%%$'\n'*}"
}

# Name the volumes that the provider has mounted.
name_the_volumes() {
  local all
  all="$(volumes)"
  if [[ -n "$all" ]]; then printf '; mounted volumes: %s' "${all//$'\n'/, }"; fi
}

# Print large disks without a file system or partitions: `/dev/nvme1n1 (3.8 TB)`, one a line. A container sees the disks
# of its host, and so does a machine of the tests.
unformatted_disks() {
  local line name used=" "
  local -a rows=()
  local row='^NAME="([a-z0-9]+)" TYPE="disk" SIZE="([0-9]+)" FSTYPE="" PKNAME="" RO="0"'
  if [[ -n "$is_container$machine_root" ]]; then return; fi
  mapfile -t rows < <(lsblk -bPno NAME,TYPE,SIZE,FSTYPE,PKNAME,RO 2> /dev/null)
  for line in "${rows[@]}"; do
    if [[ "$line" =~ PKNAME=\"([^\"]+)\" ]]; then used+="${BASH_REMATCH[1]} "; fi
  done
  for line in "${rows[@]}"; do
    if [[ ! "$line" =~ $row || "${BASH_REMATCH[1]}" != @(nvme|sd|vd|xvd)* ]]; then continue; fi
    name="${BASH_REMATCH[1]}"
    if [[ "$used" == *" $name "* ]] || ((BASH_REMATCH[2] < smallest_disk)); then continue; fi
    printf '/dev/%s (%s)\n' "$name" "$(human_size $((BASH_REMATCH[2] / 1024)))"
  done
}
