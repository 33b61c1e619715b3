"""Ports forwarded to models: URLs go to stdout, outages to stderr."""

import sys
from collections.abc import Mapping

from pi_cli import units
from pi_cli.events import Down, Up
from pi_cli.view import terminal


class ForwardPrinter:
    """Prints each URL once, between what `names` and `keys` have for its (pod, name), if anything."""

    def __init__(self, names: Mapping[tuple[str, str], str], keys: Mapping[tuple[str, str], str]) -> None:
        self._names, self._keys = names, keys
        self._shown: set[str] = set()

    def show(self, event: Up | Down) -> None:
        shown = f"`{event.name}` on `{event.pod}`"
        match event:
            case Down(reason=reason):
                terminal.note(f"{shown} is down: {reason}")
            case Up(url=url, after=after) if url in self._shown:
                terminal.note(f"{shown} is up again, after {units.age(after)}: {url}")
            case Up(url=url):
                self._shown.add(url)
                model = (event.pod, event.name)
                terminal.say(" ".join(filter(None, [self._names.get(model), url, self._keys.get(model)])))
                if sys.stdout.isatty():
                    terminal.note(f"forwarding to {shown} until Ctrl+C")


def show_as_json(keys: Mapping[tuple[str, str], str], event: Up | Down) -> None:
    """Print a line of JSON for a model that can be reached now, or no longer; with its key for the port, if asked."""
    model = {"pod": event.pod, "name": event.name, "url": event.url}
    if key := keys.get((event.pod, event.name)):
        model["token"] = key
    match event:
        case Up(after=after):
            terminal.show_json_line({"event": "up"} | model | {"down_seconds": after and round(after, 1)})
        case Down(reason=reason):
            terminal.show_json_line({"event": "down"} | model | {"reason": reason})
