"""Ports forwarded to models: URLs go to stdout, outages to stderr."""

import sys
from collections.abc import Mapping

from pi_cli import units
from pi_cli.events import Down, Up
from pi_cli.view import terminal


class ForwardPrinter:
    """Prints each URL once, after what `names` has for its (pod, name), if anything."""

    def __init__(self, names: Mapping[tuple[str, str], str]) -> None:
        self._names = names
        self._shown: set[str] = set()

    def show(self, event: Up | Down) -> None:
        model = f"`{event.name}` on `{event.pod}`"
        match event:
            case Down(reason=reason):
                terminal.note(f"{model} is down: {reason}")
            case Up(url=url, after=after) if url in self._shown:
                terminal.note(f"{model} is up again, after {units.age(after)}: {url}")
            case Up(url=url):
                self._shown.add(url)
                terminal.say(" ".join([*filter(None, [self._names.get((event.pod, event.name))]), url]))
                if sys.stdout.isatty():
                    terminal.note(f"forwarding to {model} until Ctrl+C")


def show_as_json(event: Up | Down) -> None:
    """Print a line of JSON for a model that can be reached now, or no longer."""
    model = {"pod": event.pod, "name": event.name, "url": event.url}
    match event:
        case Up(after=after):
            terminal.show_json_line({"event": "up"} | model | {"down_seconds": after and round(after, 1)})
        case Down(reason=reason):
            terminal.show_json_line({"event": "down"} | model | {"reason": reason})
