"""The environment in which other programs reach a model: through OpenAI's clients, and Anthropic's."""

from collections.abc import Mapping
from urllib.parse import urlsplit

ACCOUNTS = ("OPENAI_", "ANTHROPIC_")  # how the variables begin that such clients read


def openai_settings(url: str, name: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": url, "OPENAI_MODEL": name}


def environment(url: str, name: str, key: str, around: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a program that is to use a model, made of the one that it would have otherwise.

    What belongs to the user's accounts elsewhere is left out, lest it be sent to a pod: their clients would.
    """
    ours = {setting: value for setting, value in around.items() if not setting.startswith(ACCOUNTS)}
    ours |= openai_settings(url, name) | {"OPENAI_API_KEY": key}
    ours |= {"ANTHROPIC_BASE_URL": url.removesuffix("/v1"), "ANTHROPIC_MODEL": name, "ANTHROPIC_API_KEY": key}
    return ours | past_proxies(url, around)


def past_proxies(url: str, around: Mapping[str, str]) -> dict[str, str]:
    """Return what lets clients reach a URL directly where they are told to go through a proxy.

    >>> past_proxies("http://127.0.0.1:8001/v1", {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "example.org"})
    {'NO_PROXY': 'example.org,127.0.0.1', 'no_proxy': 'example.org,127.0.0.1'}
    """
    if not any(around.get(name) or around.get(name.lower()) for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")):
        return {}
    host = urlsplit(url).hostname or ""
    excepted = [each.strip() for each in (around.get("no_proxy") or around.get("NO_PROXY") or "").split(",")]
    if host in excepted or "*" in excepted:
        return {}
    hosts = ",".join([*filter(None, excepted), host])
    return {"NO_PROXY": hosts, "no_proxy": hosts}
