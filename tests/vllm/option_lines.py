"""Lines of arguments for `vllm serve`, and what they mean: for comparing pi's reading with that of a parser."""

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from pi_cli.vllm.abilities import Option
from pi_cli.vllm.vllm_options import Reading

Meaning = dict[str, object] | str
"""The values by the first name of an option, or `refused`."""

VALUES = ("8192", "x", "-1", "", '{"a": 1}', "a b", "a=b", "c=d e", "./t.jinja", "2", "ü")
ODD = ("--bogus", "--bogus=1", "-Z", "-O3", "-O=2", "-O", "-Odecode", "-n4", "-r0", "-qawq", "-tp2", "-p", "-d", "-n=2")
QUOTED = ("--max-model-len 8192", "--max-model-len=8192 --enforce-eager", "-tp 2", "--no x", "-x y")


def lines(options: Sequence[Option]) -> SearchStrategy[list[str]]:
    """Return lists of arguments: options in all spellings that vLLM takes, values, and words that it refuses."""
    # Without `--help`, which ends vLLM, `--config`, for which it reads a file, and `--model`, which it moves.
    usual = [option for option in options if not {"--help", "--config", "--model"} & set(option.names)]
    named = [(name, option) for option in usual for name in option.names]
    name = st.integers(0, len(named) - 1).map(lambda index: named[index][0])
    long = name.filter(lambda text: text.startswith("--"))
    beginning = st.builds(lambda text, size: text[: max(3, size)], long, st.integers(3, 40))
    underscored = beginning.map(lambda text: f"--{text[2:].replace('-', '_')}")
    spelled = st.one_of(name, beginning, underscored)
    value = st.sampled_from(VALUES)
    joined = st.builds("{}={}".format, spelled, value)
    dotted = st.builds("{}.{}={}".format, st.one_of(long, underscored), st.just("key_x.y"), value)
    word = st.one_of(spelled, joined, dotted, value, st.sampled_from(ODD), st.sampled_from(QUOTED))
    indices, cuts = st.integers(0, len(named) - 1), st.sampled_from((0, 0, 0, 1, 3))
    valid = st.builds(lambda index, cut, *values: _valid(named[index], cut, values), indices, cuts, value, value)
    group = st.one_of(*[valid] * 9, word.map(lambda text: [text]))
    return st.lists(group, max_size=5).map(lambda groups: [word for group in groups for word in group])


def _valid(named: tuple[str, Option], cut: int, values: tuple[str, ...]) -> list[str]:
    """Return an option with as many values as it takes, its name whole or without some letters at its end."""
    name, option = named
    name = name[: len(name) - cut] if len(name) > 12 else name  # mostly still the beginning of one name only
    return [name, *values[: {"no": 0, "maybe": cut and 1, "yes": 1, "many": 1 + (cut and 1)}[option.value]]]


def meaning(readings: Sequence[Reading]) -> Meaning:
    """Return what pi understands, as `vllm serve` would store it."""
    stored: dict[str, object] = {}
    for reading in sorted(readings, key=lambda reading: bool(reading.key)):  # vLLM puts parts of JSON at the end
        option = reading.option
        if option is None or reading.lacks_value or reading.refuses_value:
            return "refused"
        if option.names[0] == "-h" or (reading.key and option.value == "no"):
            return "refused"  # `--help` ends vLLM
        stored[option.names[0]] = "JSON" if reading.key else _stored(reading, option)
    return stored


def _stored(reading: Reading, option: Option) -> object:
    if option.value == "no":
        return not reading.name.startswith("--no-")
    if option.value == "maybe" and not reading.values:
        return True
    return list(reading.values) if option.value == "many" else reading.values[0]
