"""Shares, numbers of tokens and spans of time, as people type them."""

import re

from pi_cli.errors import BadUsage
from pi_cli.hints import fill

UNITS = {"": 1, "k": 1024, "m": 1024**2}
SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def share(text: str) -> float:
    """Read a share of a GPU's memory: `50%` or `0.5`.

    >>> share("50%"), share("0.9")
    (0.5, 0.9)
    """
    read = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
    value = float(read[1]) / (100 if read[2] else 1) if read else 0.0
    if not 0.01 <= value <= 1:
        raise BadUsage(f"`{text}` is no share of a GPU's memory", hint="give such as `--memory 50%`, or 0.5")
    return round(value, 4)


def tokens(text: str) -> int:
    """Read a context length: `32k` is 32,768 tokens, as models' contexts are named.

    >>> tokens("32k"), tokens("40000"), tokens("1M")
    (32768, 40000, 1048576)
    """
    read = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([km]?)", text.strip().lower())
    value = int(float(read[1]) * UNITS[read[2]]) if read else 0
    if value < 1:
        raise BadUsage(f"`{text}` is no number of tokens", hint="give such as `--context 32k`, or 40000")
    return value


def seconds(text: str, option: str) -> float:
    """Read a span of time: `90`, `90s`, `20m`, `1h30m`.

    >>> seconds("20m", "--timeout"), seconds("90", "--timeout"), seconds("1.5 h", "--timeout")
    (1200.0, 90.0, 5400.0)
    """
    value = float(text) if re.fullmatch(r"\d+(\.\d+)?", text.strip()) else span(text) or 0.0
    if value <= 0:
        raise BadUsage(f"`{text}` is no span of time", hint=fill("for example: `{option} 20m`, or 90s", option=option))
    return value


def span(text: str) -> float | None:
    """Return the seconds of a span with its units, None if the text is none.

    >>> span("1h30m"), span("13:30")
    (5400.0, None)
    """
    text = text.strip().lower()
    if not re.fullmatch(r"(\d+(\.\d+)?\s*[smhd]\s*)+", text):
        return None
    return sum(float(number) * SPANS[unit] for number, unit in re.findall(r"([\d.]+)\s*([smhd])", text))
