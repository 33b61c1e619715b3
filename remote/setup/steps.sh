# shellcheck shell=bash
# Steps: how they are announced, what they print, how they fail. Sourced by `pod_setup.sh`.
#
# The format of our stdout, which pi parses and people read:
#
#     ==> STEP: Title               a step begins
#         STEP | text               a line that a program printed
#         STEP * text               a message of ours; the last one is the step's summary
#         STEP ! text               a warning
#         STEP x text               why the step fails; the first one counts
#         STEP > OPTION VALUE       with this option of `pi pods setup` it would not have failed
#         STEP ~ BYTES FROM TO      what it will download, and the seconds that it usually takes; 0: unknown
#         STEP % DONE TOTAL UNIT    so far, `bytes` or e.g. `packages unpacked`; TOTAL 0: unknown. At most once a second
#         STEP %                    it still runs, with nothing to count
#     <== STEP: done|skipped|failed CODE|stopped        stopped: because another step failed

readonly mark=$'\x1e' # begins our own lines among those of the programs we run
readonly longest_line=16384 # characters

step_name=""
stopped=""

# step NAME CODE TITLE FUNCTION: run a step; CODE is the exit status if it fails. Its output goes to `label` through
# descriptor 8. Programs do not inherit our own stdout: a daemon would hold it open.
step() {
  step_name="$1" step_code="$2" step_title="$3" step_result="done"
  printf '==> %s: %s\n' "$step_name" "$step_title"
  exec 8> >(label "$step_name")
  label_pid=$!
  "$4" >&8 2>&1
  end_step "$step_result"
}

# `label` ends at the end mark, not at the end of the file: a daemon that a package started may hold the file open.
end_step() {
  printf '%s.%s\n' "$mark" "$1" >&8
  exec 8>&-
  # Before bash 5.1 a process substitution is not a child to wait for once another job has begun.
  wait "$label_pid" 2> /dev/null || while kill -0 "$label_pid" 2> /dev/null; do sleep 0.01; done
  step_name=""
}

# Prefix every line of stdin with the step's name; of an overwritten line (progress bars), keep the last state. Report in
# between what the step's meter counts (`meters.sh`).
label() {
  local line label_name="$1"
  trap '' TERM # so that the last output of a stopped step still gets through
  meter_ticked_at=$EPOCHSECONDS meter_shown_at=$EPOCHSECONDS
  while read_line; do
    if [[ "$line" == ?*"$mark"* ]]; then # a program had not ended its line
      label_output "${line%%"$mark"*}"
      line="$mark${line#*"$mark"}"
    fi
    case "$line" in
      "$mark."*) break ;;
      "$mark#"*) count_traffic ;;
      "$mark"*) printf '    %s %s\n' "$1" "${line#"$mark"}" ;;
      *) label_output "$line" ;;
    esac
    tick
  done
  printf '<== %s: %s\n' "$1" "${line#"$mark."}"
}

# Set `line` to the next line, or to a part of one that is very long: a program may print gigabytes without a line break.
read_line() {
  local part
  local -i status
  line=""
  while true; do
    status=0
    IFS= read -r -t 1 -n "$longest_line" part || status=$?
    line+="$part"
    if ((status == 0 || ${#line} >= longest_line)); then return; fi
    if ((status <= 128)); then break; fi # the end of the file, else the second is over
    tick
  done
  [[ -n "$line" ]]
}

label_output() {
  local output="${1%$'\r'}"
  output="${output##*$'\r'}"
  printf '    %s | %s\n' "$label_name" "$output"
  see_line "$output"
}

# On stderr, so that they work inside $(…) too.
say() { printf '%s* %s\n' "$mark" "$*" >&2; }
warn() { printf '%s! %s\n' "$mark" "$*" >&2; }

# propose OPTION VALUE: say with which option of `pi pods setup` the step would not have failed.
propose() { printf '%s> %s\n' "$mark" "$*" >&2; }

# announce BYTES [FROM TO]: say what the step will download, and how many seconds it usually takes; 0: unknown.
announce() { printf '%s~ %d %d %d\n' "$mark" "$1" "${2:-0}" "${3:-0}" >&2; }

# Count what the machine receives, until uv, pip or apt say themselves what they download.
meter_traffic() { printf '%s#\n' "$mark" >&2; }

skip() {
  step_result="skipped"
  say "$*"
}

fail() {
  if [[ -z "$step_name" ]]; then
    printf 'error: %s\n' "$*" >&2
    exit 2
  fi
  printf '%sx %s\n' "$mark" "$*" >&2
  exit "$step_code"
}

# Run a program, show its output and keep the end of it in `captured`: in memory, since the disk may be full.
capture() {
  local out status=0
  exec {out}>&1
  captured="$("$@" 2>&1 | tee "/dev/fd/$out" | tail -c 65536)" || status=$?
  exec {out}>&-
  return "$status"
}

# End the open step, also when a command failed whose error is not handled anywhere.
on_exit() {
  local status="$1"
  if ((status == 0)) || [[ -z "$step_name" ]]; then exit "$status"; fi
  exec >&8 2>&1 # the function that was running may have redirected its output
  if [[ -n "$stopped" ]]; then
    end_step stopped
    exit "$status"
  fi
  if ((status == step_code)); then
    : # `fail` has said why
  elif is_full "$pi_home"; then
    printf '%sx no space is left on %s\n' "$mark" "$(disk_of "$pi_home")" >&2
  else
    printf '%sx "%s" failed with exit status %s\n' "$mark" "$step_title" "$status" >&2
  fi
  end_step "failed $step_code"
  exit "$step_code"
}

# Run steps in the background, as a branch, until `await_branches`.
in_background() {
  (
    trap 'on_exit $?' EXIT
    trap 'trap "" TERM; stopped=yes; exit 143' TERM
    "$@"
  ) &
  branches+=("$!")
}

branches=()

# Wait for all branches. When one fails, stop the branch that may be interrupted at any moment (`$1`: its index);
# packages are installed to their end. `wait -n` is not enough: it misses a job that ended just before (bash 5.2 still
# does).
await_branches() {
  local interruptible="$1" status=0 ended index pid
  while ((${#branches[@]})); do
    for index in "${!branches[@]}"; do
      pid="${branches[$index]}"
      if kill -0 "$pid" 2> /dev/null; then continue; fi
      ended=0
      wait "$pid" || ended=$?
      unset "branches[$index]"
      if ((ended == 0 || status != 0)); then continue; fi
      status="$ended"
      if [[ -n "${branches[$interruptible]:-}" ]]; then end_tree "${branches[$interruptible]}"; fi
    done
    sleep 0.05
  done
  ((status == 0)) || exit "$status"
}

# End a process and its descendants, repeatedly: it may start more of them between a look and a signal.
end_tree() {
  local signal=TERM
  local -a tree
  local -i rounds
  for ((rounds = 0; rounds < 100; rounds++)); do
    kill -0 "$1" 2> /dev/null || return 0
    if ((rounds == 50)); then signal=KILL; fi
    read -ra tree <<< "$(tree_of "$1")"
    kill -"$signal" "${tree[@]}" 2> /dev/null || true
    sleep 0.1
  done
}

# Print the PIDs of a process and all its descendants.
tree_of() {
  local -A parents=()
  local stat pid rest all=" $1 " grown=1
  for stat in /proc/[0-9]*/stat; do
    { read -r rest < "$stat"; } 2> /dev/null || continue
    pid="${stat#/proc/}"
    rest="${rest##*) }" # behind the name: state, parent, …
    rest="${rest#* }"
    parents["${pid%/stat}"]="${rest%% *}"
  done
  while ((grown)); do
    grown=0
    for pid in "${!parents[@]}"; do
      if [[ "$all" == *" ${parents[$pid]} "* && "$all" != *" $pid "* ]]; then
        all+="$pid "
        grown=1
      fi
    done
  done
  printf '%s\n' "$all"
}
