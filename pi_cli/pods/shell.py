"""The few command lines that pi runs on a pod as text. Every value in them is quoted."""

import shlex
from collections.abc import Sequence

# Reads stdin: a line with a length, that many bytes of compressed modules, then the request. It contains no quote,
# dollar, backslash or exclamation mark, so every login shell (bash, dash, zsh, fish, csh) passes it on unchanged.
AGENT = (
    'exec python3 -I -S -c \'import sys,zlib,json,types;f=sys.stdin.buffer;n=int(f.readline());'
    's=json.loads(zlib.decompress(f.read(n)));'
    '[exec(compile(c,m,"exec"),sys.modules.setdefault(m,types.ModuleType(m)).__dict__) for m,c in s];'
    'sys.modules[s[-1][0]].main()\''
)  # fmt: skip

BASH = "exec bash --norc -s"


def setup(archive: bytes, arguments: Sequence[str]) -> bytes:
    """Return the input for `BASH` that unpacks the setup script into `~/.pi/remote` and runs it until stdin ends.

    Each file is replaced by a rename, since another setup may be reading the old one. Only tools of a minimal Debian
    are used. The script runs until it is done or stdin ends (`remote/setup/supervise.sh`).
    """
    command = shlex.join(["bash", ".pi/remote/setup/supervise.sh", "bash", ".pi/remote/pod_setup.sh", *arguments])
    return b"%s\n%d\n%s" % (_LAUNCHER.replace("COMMAND", command).encode(), len(archive), archive)


# In braces, so that bash reads all of it before it reaches the archive that follows on the same stdin.
_LAUNCHER = """{
umask 077
store() {
  cd && mkdir -p .pi/remote/setup && new=$(mktemp -d .pi/remote/.new.XXXXXX) || return
  trap 'rm -rf "$new"' EXIT # of the subshell that this runs in
  IFS= read -r size && head -c "$size" | tar -xzm --no-same-owner -C "$new" \\
    && mv -f "$new"/*.sh .pi/remote/ && mv -f "$new"/setup/*.sh .pi/remote/setup/
}
if ! output=$(store 2>&1); then
  echo "cannot store the setup script in $HOME/.pi: ${output%%$'\\n'*}" >&2
  exit 1
fi
echo # the login shell may have printed an incomplete line
cd && exec COMMAND
}"""


def query(command: Sequence[str]) -> str:
    """Return the command line for a short command, which gets no stdin."""
    return f"exec bash --norc -c {shlex.quote(shlex.join(command))} < /dev/null"
