"""The environment in which other programs reach a model through the clients of OpenAI and Anthropic."""

from collections.abc import Mapping
from urllib.parse import urlsplit

ACCOUNTS = ("OPENAI_", "ANTHROPIC_")  # prefixes of the variables that these clients read


def openai_settings(url: str, name: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": url, "OPENAI_MODEL": name}


def environment(url: str, name: str, key: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a program that uses a model, based on the environment that it inherits.

    The variables of the user's own accounts are removed: clients would send their values to the pod.
    """
    settings = {setting: value for setting, value in inherited.items() if not setting.startswith(ACCOUNTS)}
    settings |= openai_settings(url, name) | {"OPENAI_API_KEY": key}
    settings |= {"ANTHROPIC_BASE_URL": url.removesuffix("/v1"), "ANTHROPIC_MODEL": name, "ANTHROPIC_API_KEY": key}
    return settings | past_proxies(url, inherited)


def past_proxies(url: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which clients connect to a URL directly, if the environment configures a proxy.

    >>> past_proxies("http://127.0.0.1:8001/v1", {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "example.org"})
    {'NO_PROXY': 'example.org,127.0.0.1', 'no_proxy': 'example.org,127.0.0.1'}
    """
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    if not any(inherited.get(name) or inherited.get(name.lower()) for name in proxies):
        return {}
    host = urlsplit(url).hostname or ""
    excepted = [name.strip() for name in (inherited.get("no_proxy") or inherited.get("NO_PROXY") or "").split(",")]
    if host in excepted or "*" in excepted:
        return {}
    hosts = ",".join([*filter(None, excepted), host])
    return {"NO_PROXY": hosts, "no_proxy": hosts}
