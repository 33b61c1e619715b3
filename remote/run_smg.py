"""Runs the balancer `smg` with its own Python; its arguments are those of `smg launch`.

The keys come as a line of JSON on stdin: an argument could be read by every user of the machine, and a variable is
inherited. stdin stays open as long as the process that started this one; when it ends, be it by SIGKILL, so does smg.
That works on every Unix, as PR_SET_PDEATHSIG does not.
"""

import json
import os
import signal
import sys
import threading


def main() -> None:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit(1)
        line += byte
    keys = json.loads(line.decode("ascii"))
    if not keys.get("stays"):  # on a pod, it outlives the program that starts it
        threading.Thread(target=_end_with_the_parent, daemon=True).start()
    from smg.launch_router import launch_router, parse_router_args

    arguments = parse_router_args(sys.argv[1:])
    arguments.api_key = keys["api_key"]
    arguments.control_plane_api_keys = [("pi", "pi", keys["control_key"], "admin")]
    launch_router(arguments)


def _end_with_the_parent() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
