"""Read what users type: shares of memory, token counts and durations."""

import re

from pi_cli.errors import BadUsage
from pi_cli.hints import fill

TOKEN_UNITS = {"": 1, "k": 1024, "m": 1024**2}
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def share(text: str) -> float:
    """Read a share of a GPU's memory: `50%` or `0.5`.

    >>> share("50%"), share("0.9")
    (0.5, 0.9)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
    value = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if not 0.01 <= value <= 1:
        raise BadUsage(f"`{text}` is not a share of a GPU's memory", hint="for example: `--memory 50%`, or 0.5")
    return round(value, 4)


def tokens(text: str) -> int:
    """Read a context length: `32k` is 32,768 tokens, as model vendors count them.

    >>> tokens("32k"), tokens("40000"), tokens("1M")
    (32768, 40000, 1048576)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([km]?)", text.strip().lower())
    value = int(float(match[1]) * TOKEN_UNITS[match[2]]) if match else 0
    if value < 1:
        raise BadUsage(f"`{text}` is not a token count", hint="for example: `--context 32k`, or 40000")
    return value


def seconds(text: str, option: str) -> float:
    """Read a duration in seconds, or with units: `90`, `90s`, `20m`, `1h30m`.

    >>> seconds("20m", "--timeout"), seconds("90", "--timeout"), seconds("1.5 h", "--timeout")
    (1200.0, 90.0, 5400.0)
    """
    value = float(text) if re.fullmatch(r"\d+(\.\d+)?", text.strip()) else duration(text) or 0.0
    if value <= 0:
        raise BadUsage(f"`{text}` is not a duration", hint=fill("for example: `{option} 20m`, or 90s", option=option))
    return value


def duration(text: str) -> float | None:
    """Return the seconds of a duration with units, None if the text is not one.

    >>> duration("1h30m"), duration("13:30")
    (5400.0, None)
    """
    text = text.strip().lower()
    if not re.fullmatch(r"(\d+(\.\d+)?\s*[smhd]\s*)+", text):
        return None
    return sum(float(number) * UNIT_SECONDS[unit] for number, unit in re.findall(r"([\d.]+)\s*([smhd])", text))
