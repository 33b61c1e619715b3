"""Read what users type: shares of memory, token counts, durations and prices."""

import re
import unicodedata

from pi_cli.errors import BadUsage
from pi_cli.hints import fill
from pi_cli.store.records import MAX_PRICE, Price

TOKEN_UNITS = {"": 1, "k": 1024, "m": 1024**2}
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
PER_HOUR = re.compile(r"\s*(?:/|per|an|a|p\.?|je|pro)\s*(?:1\s*)?(?:h|hr|hrs|hours?|std\.?|stunde)\s*$", re.IGNORECASE)
NUMBER = r"\d[\d.,'\u2019\u00a0\u202f ]*\d|\d|[.,]\d+"
MAX_LEASE = 30 * 86400  # seconds
DEFAULT_CURRENCY = "$"


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


def lease(text: str | None, then: str | None) -> float | None:
    """Read the values of `--lease` and `--then`: the seconds without work after which a model ends.

    >>> lease("45m", "stop-pod"), lease(None, None)
    (2700.0, None)
    """
    if text is None:
        if then is not None:
            raise BadUsage("`--then` needs a lease", hint="add one: `--lease 45m`")
        return None
    value = seconds(text, "--lease")
    if not 1 <= value <= MAX_LEASE:
        raise BadUsage(f"`{text}` cannot be a lease", hint="give one from 1s to 30d, for example `--lease 45m`")
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


def price(text: str) -> Price | None:
    """Read a price per hour with an optional currency, `$` by default; None for `none`.

    >>> [str(price(text)) for text in ("2.49", "$2.49/h", "2,49 €", "£1.10 per hour", "2.49 EUR", "US$1,234.50")]
    ['$2.49', '$2.49', '€2.49', '£1.10', '2.49 EUR', 'US$1,234.50']
    """
    if text.strip().lower() == "none":
        return None
    match = re.fullmatch(rf"(\D*?)\s*({NUMBER})\s*(\D*)", PER_HOUR.sub("", text.strip()))
    before, number, after = match.groups() if match else ("", "", "")
    currency = (before or after).strip()
    if not match or (before.strip() and after.strip()) or not (not currency or _is_currency(currency)):
        raise BadUsage(f"`{text}` is not a price per hour", hint="for example: `--price 2.49`, `2,49€` or `'1.10 GBP'`")
    amount = _decimal(text, number)
    if not 0 < amount <= MAX_PRICE:
        raise BadUsage(
            f"`{text}` cannot be the price of an hour", hint="give one above 0, or `--price none` to forget it"
        )
    return Price(amount, (currency.upper() if currency.isascii() else currency) or DEFAULT_CURRENCY)


def _is_currency(text: str) -> bool:
    """Return whether a text is a code, or a sign with letters before it: `EUR`, `kr`, `€`, `US$`."""
    if text.isalpha():
        return 2 <= len(text) <= 3 and text.lower() not in ("hr", "hrs", "std", "min", "day", "ct")
    return unicodedata.category(text[-1]) == "Sc" and (len(text) == 1 or (text[:-1].isalpha() and len(text) <= 4))


def _decimal(text: str, number: str) -> float:
    """Read a number with a point or a comma before its decimals; raise `BadUsage` if it may be either of two."""
    digits = re.sub(r"['\u2019\u00a0\u202f ]", "", number)
    last = max(digits.rfind("."), digits.rfind(","))
    whole, decimals = (digits[:last], digits[last + 1 :]) if last >= 0 else (digits, "")
    separator = digits[last] if last >= 0 else ""
    is_split = bool(re.search(r"[.,]", whole))
    if separator == "," and len(decimals) == 3 and not is_split and whole.strip("0"):
        thousands, unit = f"{whole}{decimals}", f"{whole}.{decimals}"
        raise BadUsage(f"`{text}` may be {thousands} or {unit}", hint=f"write `{unit}` or `{thousands}`")
    groups = re.split(r"[.,]", whole)
    if is_split and (separator in whole or any(len(group) != 3 for group in groups[1:])):
        raise BadUsage(f"`{text}` is not a price per hour", hint="for example: `--price 1234.50`")
    return float(f"{''.join(groups) or 0}.{decimals or 0}")
