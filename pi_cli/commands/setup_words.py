"""The command line of `pi pods setup`: behind the name, an ssh command may stand without quotes."""

from collections.abc import Iterator, Mapping
from typing import Any

from typer.core import TyperOption

from pi_cli import hints
from pi_cli.commands.lazy import PlainCommand

PROMPTS = ("$", "#", ">", "%")


class SetupCommand(PlainCommand):
    """Joins the words of an ssh command into one argument.

    What follows the name is the ssh command, with its options (`-p`, `-i`, `-v`). pi's own options stand before the
    name, right behind it, or behind `--`; long ones anywhere, since ssh has none.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            args = _joined(args, {name: each for each in self.params for name in each.opts})
        return super().parse_args(ctx, args)


def _joined(args: list[str], options: Mapping[str, object]) -> list[str]:
    """Return the arguments with the ssh command as the last one; unchanged if it is one word already."""
    ours: list[str] = []
    rest = iter(args)
    before = _before_a_word(rest, options, ours)
    if before is None or before.startswith("-"):
        return args
    command = list(_command(rest, options, ours))
    if not command or (len(command) == 1 and command[0] != "ssh"):
        return args
    return [*ours, "--", before, _text(command)]


def _before_a_word(rest: Iterator[str], options: Mapping[str, object], ours: list[str]) -> str | None:
    """Take the options of pi, up to the first other word, and return that; None at the end or at `--`."""
    for word in rest:
        if word == "--":
            return None
        if not _take(word, rest, options, ours):
            return word
    return None


def _command(rest: Iterator[str], options: Mapping[str, object], ours: list[str]) -> Iterator[str]:
    """Yield the words of the ssh command, and take the long options of pi among them."""
    first = _before_a_word(rest, options, ours)
    if first is None:
        return
    yield first
    words = list(rest)
    if first != "ssh" and _are_ours(words, options):
        ours += words
        return
    while words:
        word = words.pop(0)
        if word == "--" and words and _are_ours(words, options):
            ours += words
            return
        following = iter(words)
        if not word.startswith("--") or word == "--" or not _take(word, following, options, ours):
            yield word
        words = list(following)


def _are_ours(words: list[str], options: Mapping[str, object]) -> bool:
    """Return whether all words are options of pi with their values."""
    rest = iter(words)
    return all(_take(word, rest, options, []) for word in rest)


def _take(word: str, rest: Iterator[str], options: Mapping[str, object], ours: list[str]) -> bool:
    """Take an option of pi with its value; also one that is misspelt, which Typer reports."""
    name, _, inline = word.partition("=")
    option = options.get(name)
    if not isinstance(option, TyperOption):
        import difflib

        is_ours = word in ("-h", "--help") or (
            word.startswith("--") and bool(difflib.get_close_matches(name, options, cutoff=0.8))
        )
        ours += [word] if is_ours else []
        return is_ours
    ours.append(word)
    if not option.is_flag and not inline:
        ours += [value for value in [next(rest, None)] if value is not None]
    return True


def _text(command: list[str]) -> str:
    if command[0] in PROMPTS:
        command = command[1:]
    first, *others = command
    is_line = " " in first and (first.startswith("ssh ") or "@" in first)  # `"ssh root@h" -p 22`
    return " ".join([first if is_line else hints.command(first), *([hints.command(*others)] if others else [])])
