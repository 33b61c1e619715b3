"""Whether the Hugging Face Hub answers."""

import re
import threading
from typing import Dict, List

from agent import home

HUB = "https://huggingface.co"
TIMEOUT = 5.0  # seconds
# What hf says when it could not reach the Hub, or the Hub failed or limited our rate.
NO_ANSWER = re.compile(
    r"couldn't connect to|Failed to resolve|Name or service not known|Temporary failure in name resolution|"
    r"Network is unreachable|Connection refused|timed out|(?:Connect|Read)Timeout|Connect(?:ion)?Error|MaxRetryError|"
    r"LocalEntryNotFoundError|Local entry not found|\b(?:429|5\d\d) (?:Client|Server) Error|Too Many Requests"
)


def answers(settings: Dict[str, str], model: str) -> bool:
    """Tell whether the Hub says anything about a model, be it no, within a few seconds."""
    answers: List[bool] = []
    asking = threading.Thread(target=lambda: answers.append(ask(settings, model)), daemon=True)
    asking.start()
    return home.join(asking, TIMEOUT) and answers == [True]


def ask(settings: Dict[str, str], model: str) -> bool:
    import ssl  # these take a tenth of a second, and are seldom needed
    import urllib.error
    import urllib.parse
    import urllib.request

    endpoint = (settings.get("HF_ENDPOINT") or HUB).rstrip("/")
    url = "%s/%s/resolve/main/config.json" % (endpoint, urllib.parse.quote(model))
    proxies = {name[:-6].lower(): value for name, value in settings.items() if name.lower().endswith("_proxy")}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    try:
        with opener.open(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT):
            return True
    except urllib.error.HTTPError as refusal:
        return refusal.code != 429 and refusal.code < 500
    except OSError as error:
        # vLLM may well trust a certificate that we do not.
        return isinstance(getattr(error, "reason", error), ssl.SSLError)
    except ValueError:
        return True  # no URL: vLLM will say so in its own words
