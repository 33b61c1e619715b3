"""The few command lines we run on a pod as text. Every value in them is quoted."""

import shlex
from collections.abc import Sequence

# Feeds itself from stdin: a line with a length, then so many bytes of modules, then the request. No quote, dollar,
# backslash or exclamation mark is in it, so that every login shell (bash, dash, zsh, fish, csh) passes it on as it is.
AGENT = (
    'exec python3 -I -S -c \'import sys,zlib,json,types;f=sys.stdin.buffer;n=int(f.readline());'
    's=json.loads(zlib.decompress(f.read(n)));'
    '[exec(compile(c,m,"exec"),sys.modules.setdefault(m,types.ModuleType(m)).__dict__) for m,c in s];'
    'sys.modules[s[-1][0]].main()\''
)  # fmt: skip

BASH = "exec bash --norc -s"


def setup(archive: bytes, arguments: Sequence[str]) -> bytes:
    """Return what to feed to `BASH`: unpack the setup script into `~/.pi/remote` and run it, until stdin ends.

    Every file gets its place whole, by a rename: another setup may be reading the ones before. Nothing that a minimal
    Debian lacks is used, and nothing but stdin decides how long the script may live (`remote/setup/supervise.sh`).
    """
    command = shlex.join(["bash", ".pi/remote/setup/supervise.sh", "bash", ".pi/remote/pod_setup.sh", *arguments])
    return b"%s\n%d\n%s" % (_LAUNCHER.replace("COMMAND", command).encode(), len(archive), archive)


# In braces, so that bash has read it all before it comes to what follows on the same stdin.
_LAUNCHER = """{
umask 077
store() {
  cd && mkdir -p .pi/remote/setup && new=$(mktemp -d .pi/remote/.new.XXXXXX) || return
  trap 'rm -rf "$new"' EXIT # of the subshell that this runs in
  IFS= read -r size && head -c "$size" | tar -xzm --no-same-owner -C "$new" \\
    && mv -f "$new"/*.sh .pi/remote/ && mv -f "$new"/setup/*.sh .pi/remote/setup/
}
if ! said=$(store 2>&1); then
  echo "cannot store the setup script in $HOME/.pi: ${said%%$'\\n'*}" >&2
  exit 1
fi
echo # the login shell may have left half a line
cd && exec COMMAND
}"""


def query(command: Sequence[str]) -> str:
    """Return a short command line; it must not read stdin."""
    return f"exec bash --norc -c {shlex.quote(shlex.join(command))} < /dev/null"
