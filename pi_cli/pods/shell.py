"""The few command lines that pi runs on a pod as text. Every value in them is quoted."""

import shlex
from collections.abc import Sequence

# Reads stdin: a line with a length, that many bytes of compressed modules, then the request. It contains no quote,
# dollar, backslash or exclamation mark, so every login shell (bash, dash, zsh, fish, csh) passes it on unchanged.
AGENT = (
    'exec python3 -I -S -c \'import sys,zlib,json,types;f=sys.stdin.buffer;n=int(f.readline());'
    's=[(m,compile(c,m,"exec")) for m,c in json.loads(zlib.decompress(f.read(n)))];'
    '[exec(c,sys.modules.setdefault(m,types.ModuleType(m)).__dict__) for m,c in s];'
    'sys.modules[s[-1][0]].main()\''
)  # fmt: skip

# The same with a program that the pod has kept (`remote/agent/keep.py`): reads a line with its hash, then the request.
# If the pod does not have it, or what it has is something else, exits with `NOT_KEPT` and has run nothing of it.
NOT_KEPT = 79
KEPT_AGENT = (
    'exec python3 -I -S -c \'import sys,os,types,marshal;from _blake2 import blake2b;'
    'h=sys.stdin.buffer.readline().decode().strip();p=os.path.expanduser("~/.pi/programs/")+h;'
    'd=open(p,"rb").read() if os.path.isfile(p) and os.access(p,os.R_OK) else b"";'
    'blake2b(d+sys.version.encode(),digest_size=16).hexdigest()==h or os._exit(79);'
    'k=marshal.loads(d);[exec(c,sys.modules.setdefault(m,types.ModuleType(m)).__dict__) for m,c in k];'
    'sys.modules[k[-1][0]].main()\''
)  # fmt: skip

BASH = "exec bash --norc -s"


def setup(archive: bytes, arguments: Sequence[str], *, mount: str = "", models_path: str | None = None) -> bytes:
    """Return the input for `BASH` that unpacks the setup script into `~/.pi/remote` and runs it until stdin ends.

    Each file is replaced by a rename, since another setup may be reading the old one. Only tools of a minimal Debian
    are used. The script runs until it is done or stdin ends (`remote/setup/supervise.sh`). The mount command may have a
    secret in it, and arguments are public: it is sent on stdin, and is then in the environment of the script only,
    with what it mounts and where: the script does not read the command itself.
    """
    from pi_cli.store import mount_commands  # not at the top: every command imports this module
    from pi_cli.store.mount_commands import Mount

    command = shlex.join(["bash", ".pi/remote/setup/supervise.sh", "bash", ".pi/remote/pod_setup.sh", *arguments])
    launcher = _LAUNCHER.replace("COMMAND", command).encode()
    volume = mount_commands.read(mount, models_path) if mount else Mount()
    fields = "".join(f"{field}\0" for field in (mount, volume.target, volume.shown_source, volume.kind))
    return b"%s\n%s%d\n%s" % (launcher, fields.encode("utf-8", "surrogateescape"), len(archive), archive)


# In braces, so that bash reads all of it before it reaches the archive that follows on the same stdin.
_LAUNCHER = """{
set +xv # in case of SHELLOPTS in the machine's environment, which would print the mount command
umask 077
# Whether ~/.pi is another user's, with the same exception as in the agent (`home.require_own_folder`); print whose.
not_ours() {
  cd && [ -e .pi ] || return
  set -- $(stat -L -c '%u %A %U' .pi)
  case "$1" in "$EUID" | 0) return 1 ;; esac
  if [ "$EUID" = 0 ] && [ "$1" = 65534 ]; then
    case "$2" in
      ?????w* | ????????w*) ;;
      *) trial=$(mktemp .pi/.owner.XXXXXX) && owner=$(stat -c %u "$trial") && rm -f "$trial"
        if [ "${owner:-}" = 65534 ]; then return 1; fi ;;
    esac
  fi
  echo "$3"
}
store() {
  cd && mkdir -p .pi/remote/setup && new=$(mktemp -d .pi/remote/.new.XXXXXX) || return
  trap 'rm -rf "$new"' EXIT # of the subshell that this runs in
  IFS= read -r size && head -c "$size" | tar -xzm --no-same-owner -C "$new" \\
    && mv -f "$new"/*.sh .pi/remote/ && mv -f "$new"/setup/* .pi/remote/setup/
}
for name in PI_MOUNT PI_MOUNT_TARGET PI_MOUNT_SOURCE PI_MOUNT_KIND; do IFS= read -r -d '' "$name"; done
if owner=$(not_ours 2>&1); then
  echo "cannot use $HOME/.pi: it belongs to another user, $owner" >&2
  exit 1
fi
if ! output=$(store 2>&1); then
  echo "cannot store the setup script in $HOME/.pi: ${output%%$'\\n'*}" >&2
  exit 1
fi
echo # the login shell may have printed an incomplete line
export PI_MOUNT PI_MOUNT_TARGET PI_MOUNT_SOURCE PI_MOUNT_KIND
unset BASH_ENV ENV # bash would run that script first
export -n SHELLOPTS
cd && exec COMMAND
}"""


def query(command: Sequence[str]) -> str:
    """Return the command line for a short command, which gets no stdin."""
    return f"exec bash --norc -c {shlex.quote(shlex.join(command))} < /dev/null"
