"""pi reads the arguments of `vllm serve` as argparse does, which vLLM's parser is made of."""

import argparse
from collections.abc import Sequence

import pytest
from hypothesis import given

from pi_cli.vllm import abilities, vllm_options
from pi_cli.vllm.abilities import Option
from tests.properties import PROPERTY
from tests.vllm.option_lines import Meaning, lines, meaning

KNOWN = abilities.shipped().options


class Parser(argparse.ArgumentParser):
    """Raises instead of leaving."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise ValueError(message)


def parser(options: Sequence[Option]) -> Parser:
    """Make an argparse of the options that vLLM has."""
    made = Parser(add_help=False)
    made.add_argument("model", nargs="?")
    for option in options:
        if option.value == "no" and len(option.names) > 1 and option.names[1] == f"--no-{option.names[0][2:]}":
            short = [name for name in option.names if not name.startswith("--")]
            made.add_argument(option.names[0], *short, dest=option.names[0], action=argparse.BooleanOptionalAction)
        elif option.value == "no":
            made.add_argument(*option.names, dest=option.names[0], action="store_true")
        else:
            nargs = {"yes": None, "maybe": "?", "many": "+"}[option.value]
            made.add_argument(*option.names, dest=option.names[0], nargs=nargs, const=True if nargs == "?" else None)
    for action in made._actions:
        action.default = argparse.SUPPRESS
    return made


PARSER = parser(KNOWN)


def of_argparse(arguments: Sequence[str]) -> Meaning:
    try:
        stored = vars(PARSER.parse_args(["m", *arguments]))
    except ValueError:
        return "refused"
    stored.pop("model")
    return "refused" if "-h" in stored else stored


def is_of_argparse(arguments: Sequence[str]) -> bool:
    """Return whether a line has none of vLLM's additions to argparse."""
    return not any("_" in word or word.startswith("-O") or "." in word.partition("=")[0] for word in arguments)


@PROPERTY
@given(lines(KNOWN).filter(is_of_argparse))
def test_argparse_reads_a_line_the_same_way(arguments: list[str]) -> None:
    assert meaning(vllm_options.read(arguments, KNOWN)) == of_argparse(arguments)


@PROPERTY
@given(lines(KNOWN))
def test_no_word_is_lost_and_written_out_names_mean_the_same(arguments: list[str]) -> None:
    readings = vllm_options.read(arguments, KNOWN)
    assert sorted(word for reading in readings for word in reading.words) == sorted(arguments)
    full = vllm_options.spelled_out(arguments, KNOWN)
    again = vllm_options.read(full, KNOWN)
    assert not any(reading.is_abbreviated for reading in again)
    if not any(reading.candidates or reading.option is None for reading in readings):
        assert meaning(again) == meaning(readings)


@pytest.mark.parametrize(
    ("typed", "names", "values"),
    [
        ("--tensor-parallel 4", ["--tensor-parallel-size"], [("4",)]),
        ("--max_model=4096 -tp=2", ["--max-model-len", "-tp"], [("4096",), ("2",)]),
        ("-O3", ["--optimization-level"], [("3",)]),
        ("-O 3 -Odecode", ["--optimization-level", "--optimization-level"], [("3",), ("decode",)]),
        ("--speculative.method ngram", ["--speculative-config"], [("ngram",)]),
        ("-sc.num_x --enforce-eager", ["-sc"], [("--enforce-eager",)]),
        ("--no-enable-prefix", ["--no-enable-prefix-caching"], [()]),
        ("-n4 -qawq", ["-n", "-q"], [("4",), ("awq",)]),
        ("--lora-m a=b c=d --seed -1", ["--lora-modules", "--seed"], [("a=b", "c=d"), ("-1",)]),
    ],
)
def test_short_forms_are_read_as_vllm_reads_them(typed: str, names: list[str], values: list[tuple[str, ...]]) -> None:
    readings = vllm_options.read(typed.split(), KNOWN)
    assert [reading.name for reading in readings] == names
    assert [reading.values for reading in readings] == values
    assert all(reading.option for reading in readings)
