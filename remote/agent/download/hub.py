"""Whether the Hugging Face Hub answers."""

import re
import threading
from typing import Dict, List

from agent import home

HUB = "https://huggingface.co"
TIMEOUT = 5.0  # seconds
# Errors of hf if it could not reach the Hub, or if the Hub failed or limited the rate.
NO_ANSWER = re.compile(
    r"couldn't connect to|Failed to resolve|Name or service not known|Temporary failure in name resolution|"
    r"Network is unreachable|Connection refused|timed out|(?:Connect|Read)Timeout|Connect(?:ion)?Error|MaxRetryError|"
    r"LocalEntryNotFoundError|Local entry not found|\b(?:429|5\d\d) (?:Client|Server) Error|Too Many Requests"
)


def answers(settings: Dict[str, str], model: str) -> bool:
    """Return whether the Hub responds to a request for a model within a few seconds, even with a refusal."""
    results: List[bool] = []
    thread = threading.Thread(target=lambda: results.append(ask(settings, model)), daemon=True)
    thread.start()
    return home.join(thread, TIMEOUT) and results == [True]


def ask(settings: Dict[str, str], model: str) -> bool:
    import ssl  # these modules take a tenth of a second to load, and are rarely needed
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
        # vLLM may trust a certificate that this Python does not.
        return isinstance(getattr(error, "reason", error), ssl.SSLError)
    except ValueError:
        return True  # not a URL: vLLM will report that
