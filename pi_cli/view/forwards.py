"""Ports that lead to models, as they come and go: URLs on stdout, what becomes of them on stderr."""

import sys

from pi_cli import units
from pi_cli.events import Down, Up
from pi_cli.view import terminal


class Telling:
    """Prints every URL once, behind the model's name unless it is the only one."""

    def __init__(self, *, is_alone: bool) -> None:
        self._is_alone = is_alone
        self._shown: set[str] = set()

    def tell(self, event: Up | Down) -> None:
        what = f"`{event.name}` on `{event.pod}`"
        match event:
            case Down(reason=reason):
                terminal.note(f"{what} is down: {reason}")
            case Up(url=url, after=after) if url in self._shown:
                terminal.note(f"{what} is up again, after {units.age(after)}: {url}")
            case Up(url=url):
                self._shown.add(url)
                terminal.say(url if self._is_alone else f"{event.name} {url}")
                if sys.stdout.isatty():
                    terminal.note(f"it leads to {what} until Ctrl+C")


def tell_as_json(event: Up | Down) -> None:
    """Print a line of JSON for a model that came within reach, or was lost."""
    told = {"pod": event.pod, "name": event.name, "url": event.url}
    match event:
        case Up(after=after):
            terminal.show_json_line({"event": "up"} | told | {"down_seconds": after and round(after, 1)})
        case Down(reason=reason):
            terminal.show_json_line({"event": "down"} | told | {"reason": reason})
