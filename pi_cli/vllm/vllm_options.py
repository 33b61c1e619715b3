"""Read arguments as vLLM's parser does: which option each word names, and which words are its values. Pure.

The parser is argparse with additions (vLLM 0.32, utils/argparse_utils.py): a unique beginning of an option counts as
the option, `_` as `-`, `-O3` as `--optimization-level 3`, and `--config.key value` as a part of a JSON value.
`tests/engine/test_option_reading.py` compares this module with the parser of a real vLLM, and
`tests/vllm/test_vllm_options.py` with argparse.
"""

import functools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from pi_cli.vllm.abilities import Option

NAME = re.compile(r"(?<=--)[^.]*")  # the part of an option in which `_` counts as `-`
NEGATIVE_NUMBER = re.compile(r"-\d+|-\d*\.\d+")  # a value, though it begins like an option
LEVEL = ("--optimization-level",)
LEVELS = ("0", "1", "2", "3")  # after `-O`, as a word of its own


@dataclass(frozen=True, slots=True)
class Reading:
    """An option with its values, or a word that belongs to no option.

    `words` are as typed, from the position `at`. `name` is the whole name of the option, without the key of
    `--config.key`, which is in `key`; a name that is not known stays as typed, and a word of no option has none.
    `candidates` are the options that an ambiguous beginning could mean. `given` is the value behind `=`, if any.
    """

    at: int
    words: tuple[str, ...]
    name: str = ""
    option: Option | None = None
    key: str = ""
    values: tuple[str, ...] = ()
    given: str | None = None
    candidates: tuple[str, ...] = ()

    @property
    def is_abbreviated(self) -> bool:
        """Return whether the option was typed as the beginning of its name."""
        if self.option is None or self.name in LEVEL:
            return False
        typed = _name(self.words[0].partition("=")[0]).partition(".")[0]
        return self.name != typed and self.name.startswith(typed)

    @property
    def lacks_value(self) -> bool:
        return self.option is not None and not self.values and self.option.value in ("yes", "many")

    @property
    def refuses_value(self) -> bool:
        """Return whether a value was given to an option that takes none."""
        return self.option is not None and self.option.value == "no" and (self.given is not None or bool(self.key))

    @property
    def spelled_out(self) -> tuple[str, ...]:
        """Return the words with the whole name of the option."""
        return self.spelled_as(self.name) if self.is_abbreviated else self.words

    def spelled_as(self, name: str) -> tuple[str, ...]:
        """Return the words with another name of the option."""
        _, equals, value = self.words[0].partition("=")
        return (f"{name}{f'.{self.key}' if self.key else ''}{equals}{value}", *self.words[1:])

    def is_one_of(self, names: Sequence[str]) -> bool:
        return self.name in names or (self.option is not None and any(name in names for name in self.option.names))


class _Token(NamedTuple):
    """A word for argparse: an option's name with the value behind `=`, or a value, and its position as typed."""

    at: int
    text: str
    given: str | None = None
    key: str = ""
    value: str | None = None  # of `--config.key value`, which takes the next word, whatever it is


def read(arguments: Sequence[str], options: Sequence[Option]) -> list[Reading]:
    """Read arguments, in their order."""
    table = _table(tuple(options))
    tokens = list(_tokens(arguments))
    readings = [_part_of_json(arguments, token, table) for token in tokens if token.key]
    readings += _by_argparse(arguments, [token for token in tokens if not token.key], table)
    return sorted(readings, key=lambda reading: reading.at)


def spelled_out(arguments: Sequence[str], options: Sequence[Option]) -> tuple[str, ...]:
    """Return the arguments with the whole names of options that were typed as the beginning of a name.

    >>> spelled_out(["--tensor-par=4", "-tp", "2"], [Option(("--tensor-parallel-size", "-tp"))])
    ('--tensor-parallel-size=4', '-tp', '2')
    """
    words = list(arguments)
    for reading in read(arguments, options):
        words[reading.at] = reading.spelled_out[0]
    return tuple(words)


@functools.lru_cache(maxsize=8)
def _table(options: tuple[Option, ...]) -> Mapping[str, Option]:
    return {name: option for option in options for name in option.names}


def _tokens(arguments: Sequence[str]) -> Iterator[_Token]:
    """Yield the words as vLLM passes them on to argparse; the parts of JSON values, which it joins, have a `key`."""
    words = enumerate(arguments)
    for at, word in words:
        following = arguments[at + 1] if at + 1 < len(arguments) else None
        if word.startswith("--help="):
            yield _Token(at, "--help")
        elif word.startswith("-O") and (word != "-O" or following in LEVELS):
            yield _Token(at, LEVEL[0], None if word == "-O" else word[2:].removeprefix("="))
        elif word.startswith("-"):
            name, equals, given = word.partition("=")
            name, dot, key = _name(name).partition(".")
            if dot and key and not NEGATIVE_NUMBER.fullmatch(word):
                yield _Token(at, name, given if equals else None, key, given if equals else following)
                if not equals:
                    next(words, None)
            else:
                yield _Token(at, name + dot, given if equals else None)
        else:
            yield _Token(at, word)


def _name(text: str) -> str:
    return NAME.sub(lambda match: match[0].replace("_", "-"), text, count=1) if text.startswith("--") else text


def _part_of_json(arguments: Sequence[str], token: _Token, table: Mapping[str, Option]) -> Reading:
    found = _find(token, arguments[token.at], table)
    words = 1 if token.given is not None or token.value is None else 2
    values = () if token.value is None else (token.value,)
    return replace(found, words=tuple(arguments[token.at : token.at + words]), values=values)


def _by_argparse(arguments: Sequence[str], tokens: Sequence[_Token], table: Mapping[str, Option]) -> Iterator[Reading]:
    """Yield options with their values, and words that belong to no option."""
    position, end = 0, next((i for i, token in enumerate(tokens) if token.text == "--"), len(tokens))
    while position < len(tokens):
        token = tokens[position]
        position += 1
        word = arguments[token.at]
        if position > end or not _is_option(token, word, table):
            yield Reading(token.at, (word,))
            continue
        found = _find(token, word, table)
        taken: list[str] = []
        limit = _limit(found)
        while len(taken) < limit and position < end:
            following = tokens[position]
            if _is_option(following, arguments[following.at], table):
                break
            taken.append(arguments[following.at])
            position += 1
        values = tuple(taken) if found.given is None else (found.given,)
        yield replace(found, words=(word, *taken), values=values)


def _limit(found: Reading) -> int:
    """Return how many words may follow an option as its values; an unknown one is shown with the words behind it."""
    if found.given is not None:
        return 0
    if found.option is None:
        return sys.maxsize
    return {"no": 0, "yes": 1, "maybe": 1, "many": sys.maxsize}[found.option.value]


def _find(token: _Token, word: str, table: Mapping[str, Option]) -> Reading:
    """Return what an option means: exactly, or as the beginning of one name or several."""
    found = Reading(token.at, (word,), token.text, key=token.key, given=token.given)
    if token.text in table:
        return replace(found, option=table[token.text])
    matches = _matches(token, table)
    if len(matches) == 1:
        [(name, given)] = matches
        return replace(found, name=name, option=table[name], given=given)
    return replace(found, candidates=tuple(name for name, _ in matches))


def _matches(token: _Token, table: Mapping[str, Option]) -> list[tuple[str, str | None]]:
    """Return the options that argparse takes a name for, with their values: `-n4` is `-n 4`."""
    name, given = token.text, token.given
    if name.startswith("--"):
        return [(option, given) for option in table if option.startswith(name)]
    glued = name[2:] + ("" if given is None else f"={given}")
    matches: list[tuple[str, str | None]] = [(name[:2], glued)] if name[:2] in table and glued else []
    if given is None:
        matches += [(option, given) for option in table if option.startswith(name)]
    return matches


def _is_option(token: _Token, word: str, table: Mapping[str, Option]) -> bool:
    """Return whether argparse takes a word for an option instead of a value."""
    text = token.text
    if len(text) < len("-x") or not text.startswith("-") or text == "--":
        return False
    if text in table or _matches(token, table):
        return True
    return not NEGATIVE_NUMBER.fullmatch(word) and " " not in word
