"""Typer's usage errors in pi's own words: one line what is wrong, one line what to type."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import typer

from pi_cli import hints
from pi_cli.errors import BadUsage
from pi_cli.hints import fill

UsageError: Any = typer.BadParameter.__base__  # Typer exports only classes derived from it
NUMBERS = {
    "int": "a whole number",
    "integer": "a whole number",
    "float": "a number",
}  # by the names of old and new Typers


def unknown_command(words: str, name: str, known: Iterable[str]) -> BadUsage:
    """Return the error for a command that pi does not have; `words` are those before it, e.g. `pi pods`.

    >>> print(unknown_command("pi pods", "setp", ["setup", "list"]).hint)
    did you mean `pi pods setup`? See `pi pods --help`
    """
    from pi_cli.commands import other_words

    similar = difflib.get_close_matches(name, list(known))
    before = words.split()
    meant = " or ".join(fill("`{words} {meant}`", words=before, meant=each) for each in similar)
    hint = other_words.hint(words, name) or (f"did you mean {meant}? See" if meant else "see")
    hint = hint if hint.endswith("`") else fill("{hint} `{words} --help`", hint=hint, words=before)
    return BadUsage(fill("there is no command `{name}`", name=f"{words} {name}"), hint=hint)


def worded(error: Any, arguments: Sequence[str] = ()) -> BadUsage:
    """Return the error of Typer's parser as pi says it; `arguments` are those of pi."""
    context = error.ctx
    words = context.command_path if context else hints.command("pi", *_command(arguments))
    see = fill("see `{words} --help`", words=words.split())
    kind = type(error).__name__
    if kind == "NoSuchOption":
        similar = _similar(error.option_name, _options(context))
        meant = " or ".join(f"`{each}`" for each in similar)
        message = fill("`{command}` has no option `{option}`", command=words, option=error.option_name)
        return BadUsage(message, hint=f"did you mean {meant}? S{see[1:]}" if meant else see)
    if kind == "MissingParameter" and error.param is not None:
        usage = " ".join(context.command.collect_usage_pieces(context)).replace("[OPTIONS] ", "")
        return BadUsage(f"{_name(error.param)} is missing", hint=f"usage: {words} {usage}; {see}")
    if kind == "BadOptionUsage" and (option := error.option_name):
        needs = "takes no value" if "not take a value" in error.message else "needs a value"
        return BadUsage(fill("`{option}` {needs}", option=option, needs=needs), hint=see)
    if kind == "BadParameter" and error.param is not None:
        return BadUsage(_wrong_value(error), hint=see)
    if extra := re.fullmatch(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", error.message, re.DOTALL):
        word = extra[1].split(" ")[0]
        return BadUsage(fill("unexpected argument `{word}`", word=word), hint=f"quote what belongs together, or {see}")
    if error.message == "Missing command.":
        return BadUsage(f"the command behind `{words}` is missing", hint=see)
    message = error.format_message().removesuffix(".")
    return BadUsage(message[:1].lower() + message[1:], hint=see)


def _command(arguments: Sequence[str]) -> list[str]:
    """Return the words of a command line that name the command."""
    first = arguments[:1]
    return [*first, *arguments[1:2]] if first in (["pods"], ["key"]) else list(first)


def _options(context: Any) -> list[str]:
    """Return the long options of a command."""
    parameters = context.command.get_params(context) if context else []
    spellings = [option for each in parameters if not each.hidden for option in (*each.opts, *each.secondary_opts)]
    return [option for option in spellings if option.startswith("--")]


def _similar(option: str, known: Sequence[str]) -> list[str]:
    """Return what may be meant by an option: those that it begins, else those that are spelt alike."""
    begun = [each for each in known if len(option) > 2 and each.startswith(option)]
    return begun or difflib.get_close_matches(option, known, n=2)


def _name(parameter: Any) -> str:
    """Return a parameter as the help writes it: `--pod`, or NAME."""
    if parameter.param_type_name == "option":
        return f"`{max(parameter.opts, key=len)}`"
    return str(parameter.human_readable_name).strip("[]…")


def _wrong_value(error: Any) -> str:
    """Return what a value should be.

    Typer puts the value between quotes in its own message, which says the type in the words of Python.
    """
    name, type_ = _name(error.param), error.param.type
    given = re.match(r"(['\"]?)(.*)\1 is not ", error.message, re.DOTALL)
    value = given[2] if given else error.message.split(" ", 1)[0]  # Typer quotes it, but not if it is out of range
    if choices := getattr(type_, "choices", None):
        spelled = [str(getattr(each, "value", each)) for each in choices]
        listed = " or ".join(filter(None, [", ".join(spelled[:-1]), spelled[-1]]))
        return fill("{name} takes {listed}, not `{value}`", name=name, listed=listed, value=value)
    number = NUMBERS.get(str(type_.name).split()[0])
    if number is None:
        return f"{name}: {error.message.removesuffix('.')}"
    low, high = getattr(type_, "min", None), getattr(type_, "max", None)
    if low is not None and high is not None:
        number += f" from {low} to {high}"
    elif low is not None:
        number += f", {low} or more"
    return fill("{name} takes {number}, not `{value}`", name=name, number=number, value=value)
