"""Word what vLLM's argument parser says about the arguments of a start, and the command to type next. Pure.

The parser has run on the pod before anything was started (`remote/parse_arguments.py`). The patterns are argparse's and
those of vLLM 0.32, tried in `tests/diagnosis/test_argument_errors.py`; any other error is quoted.
"""

import difflib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.hints import excerpt, fill
from pi_cli.vllm import own_arguments, vllm_arguments

SHOWN = 8  # names of a list in an error
SIMILAR = 0.75  # difflib's ratio of a typo: below that, names have only their usual parts in common
OPTION = re.compile(r"--?[A-Za-z][\w.-]*")
NO = ("false", "no", "off", "0")  # after a switch, which takes no value
# What argparse calls the readers of values, and what they read.
VALUES = {
    "int": "a whole number",
    "float": "a number",
    "human_readable_int": "a number such as 32768 or 32k",
    "human_readable_int_or_auto": "a number such as 32768 or 32k, or `auto`",
    "parse_type": "of the option's type",
}


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why vLLM does not accept the arguments, what to type instead, and the part at fault with a mark below it."""

    problem: str
    hint: str
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """The command that was refused, the options that this vLLM knows, and the pod."""

    command: StartCommand
    options: tuple[str, ...]
    pod: str

    @property
    def words(self) -> tuple[str, ...]:
        return self.command.own_arguments or ()

    def with_words(self, words: Sequence[str]) -> tuple[str, ...]:
        """Return the command with other arguments for vLLM."""
        return replace(self.command, own_arguments=tuple(words)).argv

    def nearest(self, name: str) -> str | None:
        """Return the option that is most similar to a name."""
        return next(iter(difflib.get_close_matches(name, self.options, n=1, cutoff=SIMILAR)), None)

    def without(self, option: str) -> tuple[str, ...]:
        """Return the command without an option, in the form in which it was typed, and its values."""
        return self.with_words(vllm_arguments.without(self.words, [option]))

    def as_typed(self, names: Sequence[str]) -> str:
        """Return the one of an option's names that was typed."""
        return next(filter(self.is_typed, names), names[0])

    def is_typed(self, name: str) -> bool:
        return name in map(vllm_arguments.name_of, self.words)


def explain(said: str, command: StartCommand, *, options: Sequence[str], pod: str) -> Rejection:
    """Return what an error of vLLM's parser means; `options` are those that the parser knows."""
    asked = Asked(command, tuple(option for option in options if OPTION.fullmatch(option)), pod)
    for pattern, word in KINDS:
        if (match := re.match(pattern, said, re.DOTALL)) and (rejection := word(match, asked)):
            return rejection
    named = next(filter(asked.is_typed, OPTION.findall(said)), None)
    hint = _correct(named, asked) if named else _list_options(pod)
    return Rejection(f"does not accept the arguments: {_line(said)}", hint)


def _unrecognised(match: re.Match[str], asked: Asked) -> Rejection:
    """Explain the first word that the parser could not use: an option, a value, or both in one quotation."""
    unknown = match["words"]
    matching = [word for word in asked.words if f"{unknown} ".startswith(f"{_normal(word)} ")]
    word = max(matching, key=len, default=unknown.split(" ")[0])
    if not vllm_arguments.is_option(word):
        return _unexpected(word, asked)
    if " " in word.partition("=")[0]:
        words = [part for each in asked.words for part in (word.split() if each == word else [each])]
        hint = fill("write an option and its value as two words: `{start}`", start=asked.with_words(words))
        return Rejection(f"does not accept `{word}`: one word with a blank in it", hint)
    name = vllm_arguments.name_of(word)
    problem = f"does not accept `{name}`: unrecognized argument"
    if remedy := _renamed(name, own_arguments.RENAMED.get(name), asked, "it is called `{name}` now: `{start}`"):
        return Rejection(problem, remedy)
    remedy = _renamed(name, asked.nearest(name), asked, "did you mean `{name}`? `{start}`")
    return Rejection(problem, remedy or fill("leave it out: `{start}`", start=asked.without(name)))


def _renamed(name: str, new: str | None, asked: Asked, template: str) -> str | None:
    """Return the hint to call an option by another name, if this vLLM has one."""
    if new is None or new not in asked.options:
        return None
    words = [new + word[len(name) :] if vllm_arguments.name_of(word) == name else word for word in asked.words]
    return fill(template, name=new, start=asked.with_words(words)) if words != list(asked.words) else None


def _unexpected(word: str, asked: Asked) -> Rejection:
    """Explain a value that belongs to no option; after a switch, it may be meant to turn it off."""
    if word not in asked.words:
        return Rejection(f"does not accept `{word}`: unexpected argument", _list_options(asked.pod))
    place = asked.words.index(word)
    before = vllm_arguments.name_of(asked.words[place - 1]) if place else ""
    words = [*asked.words[:place], *asked.words[place + 1 :]]
    negated = f"--no-{before.removeprefix('--')}"
    if negated in asked.options:
        if word.lower() in NO:
            words[place - 1] = negated
        hint = fill("leave the value out: `{start}`", start=asked.with_words(words))
        return Rejection(f"does not accept `{word}`: `{before}` takes no value", hint)
    hint = fill("leave it out: `{start}`", start=asked.with_words(words))
    return Rejection(f"does not accept `{word}`: unexpected argument", hint)


def _ambiguous(match: re.Match[str], asked: Asked) -> Rejection:
    name = vllm_arguments.name_of(match["name"])
    names = [option for option in match["listed"].split(", ") if OPTION.fullmatch(option)]
    problem = f"does not accept `{name}`: ambiguous between {_listed(names)}"
    closest = next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0)), None)
    template = "write the whole name, for example `{start}`"
    return Rejection(problem, _renamed(name, closest, asked, template) or _list_options(asked.pod))


def _no_value(match: re.Match[str], asked: Asked) -> Rejection:
    option = asked.as_typed(match["names"].split("/"))
    hint = fill("write its value after it, or leave it out: `{start}`", start=asked.without(option))
    return Rejection(f"does not accept `{option}` without a value", hint)


def _choice(match: re.Match[str], asked: Asked) -> Rejection:
    option, value = asked.as_typed(match["names"].split("/")), match["value"]
    choices = re.findall(r"[\w.+-]+", match["listed"])
    return _not_one_of(option, value, choices, asked, f"does not accept `{value}` for `{option}`: choose from ")


def _parser(match: re.Match[str], asked: Asked) -> Rejection:
    option, value = f"--{match['kind'].replace(' ', '-')}-parser", match["value"]
    problem = f"has no {match['kind'].replace('tool call', 'tool-call')} parser `{value}`: choose from "
    return _not_one_of(option, value, re.findall(r"[\w.-]+", match["listed"]), asked, problem)


def _not_one_of(option: str, value: str, choices: list[str], asked: Asked, problem: str) -> Rejection:
    """Offer the most similar value; list those that there are."""
    similar = difflib.get_close_matches(value, choices, n=1, cutoff=0.5)
    if similar:
        start = asked.command.with_vllm_option([option], similar[0]).argv
        hint = fill("did you mean `{value}`? `{start}`", value=similar[0], start=start)
    else:
        hint = fill("choose one of those, or leave it out: `{start}`", start=asked.without(option))
    return Rejection(problem + _listed(choices, first=similar), hint)


def _switch(match: re.Match[str], asked: Asked) -> Rejection:
    option, value = asked.as_typed(match["names"].split("/")), match["value"]
    words = [option if vllm_arguments.name_of(word) == option else word for word in asked.words]
    if value.lower() in NO and f"--no-{option.removeprefix('--')}" in asked.options:
        words = [f"--no-{word.removeprefix('--')}" if word == option else word for word in words]
    hint = fill("leave the value out: `{start}`", start=asked.with_words(words))
    return Rejection(f"does not accept `{value}`: `{option}` takes no value", hint)


def _json(match: re.Match[str], asked: Asked) -> Rejection | None:
    """Explain JSON that cannot be read, with the place; nothing if the value is JSON, or not to be found."""
    option = asked.as_typed(match["names"].split("/"))
    value = vllm_arguments.value(asked.words, [option])
    if value is None:
        return None
    try:
        json.loads(value)
    except json.JSONDecodeError as error:
        line = value.split("\n")[error.lineno - 1]
        place = f"character {error.colno}" + (f" of line {error.lineno}" if "\n" in value else "")
        hint = fill(
            "correct it, in single quotes, so that the shell keeps the double quotes, or leave it out: `{start}`",
            start=asked.without(option),
        )
        problem = f"does not accept the value of `{option}`: invalid JSON at {place}: {_lower(error.msg)}"
        return Rejection(problem, hint, excerpt(line, error.colno - 1, error.colno))
    return None


def _field(match: re.Match[str], asked: Asked) -> Rejection:
    """Explain the first error of pydantic about a part of a value."""
    field, reason = (match["field"] or "").strip(), _lower(match["reason"])
    return _value(match, asked, f"`{field}`: {reason}" if field else reason)


def _reader(match: re.Match[str], asked: Asked) -> Rejection:
    kind = VALUES.get(match["reader"], f"of the type {match['reader']}")
    return _value(match, asked, f"`{match['value']}` is not {kind}")


def _other_value(match: re.Match[str], asked: Asked) -> Rejection:
    return _value(match, asked, _line(match["what"]))


def _value(match: re.Match[str], asked: Asked, why: str) -> Rejection:
    option = asked.as_typed(match["names"].split("/"))
    return Rejection(f"does not accept the value of `{option}`: {why}", _correct(option, asked))


def _correct(option: str, asked: Asked) -> str:
    return fill("correct `{option}`, or leave it out: `{start}`", option=option, start=asked.without(option))


def _tools(_: re.Match[str], asked: Asked) -> Rejection:
    template = "add the model's `--tool-call-parser`, or start it without tools: `{start}`"
    hint = fill(template, start=asked.without("--enable-auto-tool-choice"))
    return Rejection("does not accept `--enable-auto-tool-choice` without `--tool-call-parser`", hint)


def _template(match: re.Match[str], asked: Asked) -> Rejection:
    template = "give a path that exists on the pod, or use the model's own: `{start}`"
    hint = fill(template, start=asked.without("--chat-template"))
    return Rejection(f"finds no chat template `{match['path']}`", hint)


def _no_file(match: re.Match[str], asked: Asked) -> Rejection:
    hint = fill("give a path that exists there: see what is there with `pi ssh {pod} ls`", pod=asked.pod)
    return Rejection(f"finds no file `{match['path']}`", hint)


ARGUMENT = r"argument (?P<names>\S+): "
KINDS: tuple[tuple[str, Callable[[re.Match[str], Asked], Rejection | None]], ...] = (
    (r"unrecognized arguments: (?P<words>.*)", _unrecognised),
    (r"ambiguous option: (?P<name>\S+) could match (?P<listed>.*)", _ambiguous),
    (ARGUMENT + r"expected (?:one|at least one|\d+) argument", _no_value),
    (ARGUMENT + r"invalid choice: '?(?P<value>.*?)'? \(choose from (?P<listed>.*)\)", _choice),
    (ARGUMENT + r"ignored explicit argument '(?P<value>.*)'", _switch),
    (ARGUMENT + r"(?:Value .* cannot be converted to <function loads|.*Invalid JSON|invalid loads value)", _json),
    (ARGUMENT + r"\d+ validation errors? for \w+\n(?P<field>[\w.]+\n)?\s*(?P<reason>.*?)(?: \[type=|\n|$)", _field),
    (ARGUMENT + r"invalid (?P<reader>\w+) value: '(?P<value>.*)'", _reader),
    (ARGUMENT + r"(?P<what>.*)", _other_value),
    (r"invalid (?P<kind>tool call|reasoning) parser: (?P<value>\S+) \(chose from \{(?P<listed>.*)\}", _parser),
    (r"--enable-auto-tool-choice requires --tool-call-parser", _tools),
    (r"The supplied chat template string \((?P<path>.*?)\) appears path-like, but doesn't exist", _template),
    (r"\[Errno 2\] No such file or directory: '(?P<path>.*)'", _no_file),
)


def _normal(word: str) -> str:
    """Return a word as the parser sees it, which reads `--max_model_len` as `--max-model-len`."""
    return vllm_arguments.name_of(word) + word[len(word.partition("=")[0]) :]


def _listed(names: Sequence[str], first: Sequence[str] = ()) -> str:
    """Return some of a list for an error, with those that matter most at its beginning."""
    ordered = list(dict.fromkeys([*first, *names]))
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return ", ".join(f"`{name}`" for name in ordered[:SHOWN]) + more


def _list_options(pod: str) -> str:
    return fill("list the arguments that it knows with `pi ssh {pod} '~/venv/bin/vllm serve --help=all'`", pod=pod)


def _line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _lower(text: str) -> str:
    """Return a text with a small first letter, as pi's messages have it."""
    return text[:1].lower() + text[1:]
