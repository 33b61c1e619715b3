"""What to do about a failed start, in words, with the starts in it that pi may try itself. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.hints import PLACEHOLDER, Value, fill


@dataclass(frozen=True, slots=True)
class Offer:
    """A hint, and the commands in it that repair something by themselves, the best first.

    A command that is right only after something else was done, such as a setup, is not among them.
    """

    hint: str
    starts: tuple[StartCommand, ...] = ()


def offer(template: str, **values: Value | StartCommand) -> Offer:
    """Fill values into a template; the commands that it shows can be tried, in their order."""
    shown = (values[name] for name in dict.fromkeys(PLACEHOLDER.findall(template)))
    starts = tuple(value for value in shown if isinstance(value, StartCommand))
    texts = {name: value.argv if isinstance(value, StartCommand) else value for name, value in values.items()}
    return Offer(fill(template, **texts), starts)


def joined(offers: Sequence[Offer]) -> Offer | None:
    """Return several offers as one; None without any."""
    starts = tuple(start for each in offers for start in each.starts)
    return Offer("; or ".join(each.hint for each in offers), starts) if offers else None
