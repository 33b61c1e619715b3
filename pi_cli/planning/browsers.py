"""Which pages may use a model from a browser. Pure.

A browser sends a request of a page only if the server allows it for the page's origin, which it asks for without a key.
vLLM answers that (`--allowed-origins`), and the guard lets the question through (`remote/require_key.py`).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace

from pi_cli.errors import BadUsage
from pi_cli.hints import fill
from pi_cli.planning.plan import Plan
from pi_cli.vllm import vllm_arguments

OPTION = "--allowed-origins"
VARIABLE = "PI_ALLOWED_ORIGINS"  # separated by blanks, for the guard
ANY = "*"
# RFC 6454, section 6.2: scheme, host and port. Pages in a file have the origin `null`.
ORIGIN = re.compile(
    r"\*|null|[a-zA-Z][a-zA-Z0-9+.-]{0,30}://(?:\[[0-9a-fA-F:.]{2,45}\]|[a-zA-Z0-9._-]{1,253})(?::\d{1,5})?"
)
LONGER = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]{0,30}://[^/?#\s]{1,300})[/?#]\S*")


def read(given: Sequence[str], own_arguments: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the origins of `--cors` as browsers write them. Raises `BadUsage` if one is none."""
    if given and vllm_arguments.value(own_arguments or (), (OPTION,)) is not None:
        raise BadUsage("`--cors` and `--allowed-origins` are given", hint="give all origins with `--cors`")
    return tuple(dict.fromkeys(map(_origin, given)))


def let_in(plan: Plan, origins: Sequence[str]) -> Plan:
    """Return a plan whose model answers pages of these origins, or of those in the user's own arguments."""
    arguments = (*plan.arguments, OPTION, json.dumps(list(origins))) if origins else plan.arguments
    if not (allowed := allowed_by(arguments)):
        return plan
    return replace(plan, arguments=arguments, environment=plan.environment | {VARIABLE: " ".join(allowed)})


def allowed_by(arguments: Sequence[str]) -> list[str]:
    """Return the origins that vLLM's arguments allow.

    >>> allowed_by(["--allowed_origins=[\\"http://localhost:3000\\"]"]), allowed_by(["--allowed-origins", "[]"])
    (['http://localhost:3000'], [])
    """
    try:
        origins = json.loads(vllm_arguments.value(arguments, (OPTION,)) or "[]")
    except (ValueError, RecursionError):  # vLLM refuses it, and says why
        return []
    texts = origins if isinstance(origins, list) else []
    return [text for text in texts if isinstance(text, str) and text and text.isprintable() and " " not in text]


def _origin(text: str) -> str:
    """Return an origin as browsers write it: in small letters, without the port that its scheme has anyway.

    >>> _origin("HTTPS://Chat.example:443")
    'https://chat.example'
    """
    if ORIGIN.fullmatch(text):
        text = text.lower()
        for scheme, port in (("http", ":80"), ("https", ":443")):
            text = text.removesuffix(port) if text.startswith(f"{scheme}://") else text
        return text
    hint = "give scheme, host and port, for example `--cors http://localhost:3000`; `--cors '*'` allows every page"
    if (longer := LONGER.fullmatch(text)) and ORIGIN.fullmatch(longer[1]):
        hint = fill("give it without a path: `--cors {origin}`", origin=longer[1])
    elif ORIGIN.fullmatch(f"https://{text}") and "." in text:
        hint = fill("give its scheme too: `--cors {origin}`", origin=f"https://{text}")
    raise BadUsage(f"`{text}` is not the origin of a page", hint=hint)
