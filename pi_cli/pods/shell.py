"""The few command lines we run on a pod as text. Every value in them is quoted."""

import shlex
from collections.abc import Sequence

# Feeds itself from stdin: a line with a length, then so many bytes of modules, then the request. No quote, dollar,
# backslash or exclamation mark is in it, so that every login shell (bash, dash, zsh, fish, csh) passes it on as it is.
AGENT = (
    'exec python3 -I -c \'import sys,zlib,json,types;f=sys.stdin.buffer;n=int(f.readline());'
    's=json.loads(zlib.decompress(f.read(n)));'
    '[exec(compile(c,m,"exec"),sys.modules.setdefault(m,types.ModuleType(m)).__dict__) for m,c in s];'
    'sys.modules[s[-1][0]].main()\''
)  # fmt: skip

BASH = "exec bash --norc -s"


def setup(script: str, arguments: Sequence[str]) -> str:
    """Return what to feed to `BASH`: store the setup script on the pod and run it, until stdin ends.

    The script runs in a session of its own. While it runs a watcher holds our stdin; at its end it ends the whole
    session: TERM, and KILL five seconds later.
    """
    command = shlex.join(["bash", ".pi/pod_setup.sh", *arguments])
    return f"""{{
cd && umask 077 && mkdir -p .pi || exit 1
IFS= read -r size && head -c "$size" > .pi/pod_setup.sh || exit 1
exec 3<&0
setsid {command} < /dev/null 3<&- 2>&1 &
setup=$!
(
  while read -r -u 3 _; do :; done
  trap '' TERM # the script itself may be gone long before all it started is
  kill -TERM -- "-$setup"
  for _ in 1 2 3 4 5; do sleep 1; kill -0 -- "-$setup" || exit; done
  kill -KILL -- "-$setup"
) > /dev/null 2>&1 &
watcher=$!
wait "$setup"
status=$?
kill "$watcher" 2> /dev/null
exit "$status"
}}
{len(script.encode())}
{script}"""


def query(command: Sequence[str]) -> str:
    """Return a short command line; it must not read stdin."""
    return f"exec bash --norc -c {shlex.quote(shlex.join(command))} < /dev/null"
