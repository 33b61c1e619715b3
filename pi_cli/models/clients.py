"""The environment in which other programs reach a model through the clients of OpenAI and Anthropic."""

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

# Prefixes of the variables that these clients read; those of other accounts, which many clients prefer if they are
# there (opencode sends a prompt to Hugging Face's router because of HF_TOKEN), and pi's own key.
ACCOUNTS = (
    "OPENAI_", "ANTHROPIC_", "CLAUDE_CODE_OAUTH", "AZURE_OPENAI_", "AZURE_API_", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN",
    "HUGGINGFACE_API_", "HUGGINGFACEHUB_API_", "OPENROUTER_", "GEMINI_API_", "GOOGLE_API_KEY", "GOOGLE_GENERATIVE_AI_",
    "MISTRAL_API_", "GROQ_API_", "DEEPSEEK_API_", "XAI_API_", "TOGETHER_API_", "TOGETHERAI_API_", "FIREWORKS_API_",
    "COHERE_API_", "CO_API_KEY", "CEREBRAS_API_", "PERPLEXITY_API_", "PERPLEXITYAI_API_", "REPLICATE_API_",
    "DASHSCOPE_API_", "MOONSHOT_API_", "ZAI_API_", "ZHIPUAI_API_", "NVIDIA_API_", "AI_GATEWAY_API_", "VERTEXAI_",
    "AWS_BEARER_TOKEN_BEDROCK", "PI_API_KEY",
)  # fmt: skip

CONFLICTING = ("ANTHROPIC_API_KEY",)  # clients would send its value, beside the key, to the pod


def settings(url: str, name: str, key: str | None) -> dict[str, str | None]:
    """Return the variables that point clients to a model; `key` is None where the caller fills it in.

    The key is in ANTHROPIC_AUTH_TOKEN, not in ANTHROPIC_API_KEY: Claude Code sends the value of that to Anthropic, and
    asks whether to use it.
    """
    return {
        "OPENAI_BASE_URL": url,
        "OPENAI_MODEL": name,
        "OPENAI_API_KEY": key,
        "ANTHROPIC_BASE_URL": url.removesuffix("/v1"),
        "ANTHROPIC_MODEL": name,
        "ANTHROPIC_AUTH_TOKEN": key,
    }


def environment(
    url: str, name: str, key: str, inherited: Mapping[str, str], drop: Collection[str] = (), keep: Collection[str] = ()
) -> dict[str, str]:
    """Return the environment for a program that uses a model, based on the environment that it inherits.

    The variables of other accounts are removed, and those in `drop`: clients would send their values to the pod, or the
    conversation to those accounts. What is in `keep` stays.
    """
    kept = {
        variable: value
        for variable, value in inherited.items()
        if variable in keep or not (variable.startswith(ACCOUNTS) or variable in drop)
    }
    return kept | {each: value or "" for each, value in settings(url, name, key).items()} | past_proxies(url, inherited)


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
