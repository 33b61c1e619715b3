"""The command line of `vllm serve`: an argparse with the options of vLLM 0.32, and with what vLLM adds to argparse."""

import argparse
import functools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

from pi_cli.vllm import abilities
from pi_cli.vllm.abilities import Option

SIMULATE = Option(("--simulate",))  # of the stand-in only: failures and delays
REPEATABLE = ("middleware", "simulate")


def _human_number(text: str) -> int:
    """Parse `128k` = 128,000, `128K` = 131,072 and plain numbers, as vLLM does; `auto` is -1.

    >>> [_human_number(text) for text in ("4096", "25.6k", "32K", "auto")]
    [4096, 25600, 32768, -1]
    """
    if text == "auto":
        return -1
    units = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
    if text[-1:] in units:
        number = text[:-1]
        return round(float(number) * units[text[-1]]) if text[-1].islower() else int(number) * units[text[-1]]
    return int(text)


TYPES: dict[str, tuple[str, Callable[[str], object]]] = {
    "--port": ("int", int),
    "--tensor-parallel-size": ("int", int),
    "--pipeline-parallel-size": ("int", int),
    "--prefill-context-parallel-size": ("int", int),
    "--data-parallel-size": ("int", int),
    "--max-num-seqs": ("int", int),
    "--seed": ("int", int),
    "--gpu-memory-utilization": ("float", float),
    "--max-model-len": ("human_readable_int_or_auto", _human_number),
    "--kv-cache-memory-bytes": ("human_readable_int", _human_number),
}


class BadCommandLine(Exception):
    """The error that argparse would print before it exits with status 2."""


class Settings(NamedTuple):
    """A parsed command line. `given` has the values by flag name, in the order of the command line."""

    model: str
    given: dict[str, list[str]]

    def has(self, name: str) -> bool:
        return name in self.given

    def text(self, name: str, default: str = "") -> str:
        return self.given[name][-1] if self.given.get(name) else default

    def number(self, name: str, default: int) -> int:
        return _human_number(self.text(name, str(default)))

    @property
    def utilization(self) -> float:
        return float(self.text("gpu-memory-utilization") or "0.92")

    @property
    def names(self) -> list[str]:
        return self.given.get("served-model-name") or [self.model]

    def simulated(self, name: str) -> str | None:
        """Return the value of `--simulate name=value` (empty for a bare `name`), or None."""
        for option in self.given.get("simulate", []):
            option_name, _, value = option.partition("=")
            if option_name == name:
                return value
        return None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadCommandLine(message)


class _Record(argparse.Action):
    """Records an option by its first name, or by that of its opposite, with its values as texts."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        del parser
        is_opposite = self.nargs == 0 and (option_string or "").startswith("--no-")
        name = (option_string or "")[2:] if is_opposite else self.dest
        texts = [values] if isinstance(values, str) else list(values or [])
        given: dict[str, list[str]] = namespace.given
        given[name] = [*given.get(name, []), *texts] if name in REPEATABLE else texts


def parse(argv: list[str]) -> Settings:
    """Parse the arguments after `vllm serve`."""
    given: dict[str, list[str]] = {}
    read = _parser().parse_args(list(prepared(argv)), argparse.Namespace(given=given))
    model = read.model_tag or (given.get("model") or ["Qwen/Qwen3-0.6B"])[-1]  # vLLM's own default
    return Settings(model, given)


@functools.cache
def _parser() -> _Parser:
    parser = _Parser(add_help=False)
    parser.add_argument("model_tag", nargs="?")
    for option in (*abilities.shipped().options, SIMULATE):
        nargs = {"no": 0, "yes": None, "maybe": "?", "many": "+"}[option.value]
        name = option.names[0]
        settings: dict[str, Any] = {"type": _checked(name, option)} if option.value != "no" else {}
        parser.add_argument(*option.names, action=_Record, dest=name.lstrip("-"), nargs=nargs, **settings)
    return parser


def _checked(name: str, option: Option) -> Callable[[str], str]:
    """Return the type of an option for argparse: it checks a value, and leaves it as text."""
    kind, read = TYPES.get(name, ("str", str))

    def check(text: str) -> str:
        read(text)
        # Some options take capitals and hyphens too.
        if option.choices and text not in option.choices and text.lower().replace("-", "_") not in option.choices:
            choices = ", ".join(map(repr, option.choices))
            raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from {choices})")
        return text

    check.__name__ = kind
    return check


def prepared(argv: list[str]) -> Iterator[str]:
    """Yield the words as vLLM passes them on: `_` as `-`, `-O3` in two words, and parts of JSON joined at the end."""
    words = iter(argv)
    joined: dict[str, dict[str, Any]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if re.fullmatch(r"-O.+", word):
            yield from ("--optimization-level", word[2:].removeprefix("="))
        elif word == "-O":
            yield "--optimization-level"
        elif not word.startswith("--"):
            yield word
        elif "." not in name:
            yield f"{name.replace('_', '-')}{equals}{value}"
        else:
            option, _, key = name.partition(".")
            text = value if equals else next(words, None)
            if text is None:
                raise BadCommandLine(f"argument {option}: expected one argument")
            _put(joined.setdefault(option.replace("_", "-"), {}), key.split("."), text)
    for option, parts in joined.items():
        yield from (option, json.dumps(parts))


def _put(parts: dict[str, Any], keys: list[str], text: str) -> None:
    for key in keys[:-1]:
        parts = parts.setdefault(key, {})
    try:
        parts[keys[-1]] = json.loads(text)
    except ValueError:
        parts[keys[-1]] = text
