"""The pods that are linked once the command has given its answer: never before, never delaying it."""

from typing import Any

from pi_cli.hold import client, place

_wanted: dict[str, dict[str, Any]] = {}


def want(pod: str, ssh: str, connect_timeout: float | None, *, anew: bool) -> None:
    """Have a pod linked after this command, which has just logged in there; `connect_timeout` is the pod's own.

    `anew`: also if there is a link, which has given no sign of life.
    """
    if place.is_on():
        _wanted[pod] = {"ssh": ssh, "connect_timeout": connect_timeout, "anew": anew}


def begin() -> None:
    """Link the pods that commands have wanted; the answer is printed, and pi exits next."""
    if _wanted and seconds_held() and not client.hand_over(_wanted):
        client.start(_wanted)
    _wanted.clear()


def seconds_held() -> float:
    """Return for how long a link is kept after its last use, 0 for never; a broken setting counts as that."""
    from pi_cli.errors import PiError
    from pi_cli.ssh.speaker import speaker
    from pi_cli.store import settings

    try:
        return settings.seconds_held()
    except PiError as error:
        speaker.get().note(f"{error}; {error.hint}")
        return 0.0
