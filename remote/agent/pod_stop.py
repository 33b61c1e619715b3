"""Stop the pod from inside: by the provider's API, with the key that the provider itself put into this machine.

The id of the pod and a key for this pod only are in the environment of PID 1 on RunPod and Vast. An ssh session does
not have them. The key is sent in a header, never in a command line, and is neither written nor reported. Other
providers give a machine no such key, and pi asks for no account's.
"""

import json
from typing import TYPE_CHECKING, Any, Dict, NamedTuple, Optional

from agent import home
from agent.machine import ROOT

if TYPE_CHECKING:
    from agent import protocol

TIMEOUT = 6.0  # seconds for each answer of the provider: other requests to the pod wait in the meantime
MAX_ANSWER = 65536  # bytes
SIMULATED = "/provider"  # a file of an embedded pod's machine: where the simulated API of its provider is


class Pod(NamedTuple):
    """This pod, as its provider knows it."""

    provider: "protocol.StoppingProvider"
    id: str
    key: str

    def __repr__(self) -> str:
        return "Pod(%s)" % self.provider


def find() -> Optional[Pod]:
    """Return this pod; None if the provider gave it neither id nor key, or only root may see them."""
    try:
        entries = home.read_bytes(ROOT + "/proc/1/environ").decode("utf-8", "surrogateescape").split("\0")
    except OSError:
        return None
    values: Dict[str, str] = {name: value for name, _, value in (entry.partition("=") for entry in entries)}
    runpod, vast = values.get("RUNPOD_POD_ID", ""), values.get("CONTAINER_ID", "")
    if runpod.isalnum() and values.get("RUNPOD_API_KEY"):
        return Pod("runpod", runpod, values["RUNPOD_API_KEY"])
    if vast.isdigit() and values.get("CONTAINER_API_KEY"):
        return Pod("vast", vast, values["CONTAINER_API_KEY"])
    return None


def check(pod: Pod) -> str:
    """Read this pod at its provider, with the key that would stop it; return why that failed, or nothing."""
    if pod.provider == "runpod":
        return graphql(pod, 'query { pod(input: {podId: "%s"}) { id desiredStatus } }' % pod.id, "pod")
    return ask(pod, "GET", vast_path(pod), None)[0]


def stop(pod: Pod) -> str:
    """Ask the provider to stop this pod; return why that failed, or nothing."""
    if pod.provider == "runpod":
        return graphql(pod, 'mutation { podStop(input: {podId: "%s"}) { id desiredStatus } }' % pod.id, "podStop")
    trouble, answer = ask(pod, "PUT", vast_path(pod), {"state": "stopped"})
    if not trouble and isinstance(answer, dict) and answer.get("success") is False:
        return "%s: %s" % (host(pod), said(answer.get("msg") or answer.get("error") or "refused"))
    return trouble


def vast_path(pod: Pod) -> str:
    return "/api/v0/instances/%s/" % pod.id


def graphql(pod: Pod, query: str, field: str) -> str:
    """RunPod answers a refused query with status 200 and `errors`."""
    trouble, answer = ask(pod, "POST", "/graphql", {"query": query})
    if trouble:
        return trouble
    data = answer.get("data") if isinstance(answer, dict) else None
    found = data.get(field) if isinstance(data, dict) else None
    if isinstance(found, dict) and found.get("id") == pod.id:
        return ""
    errors = answer.get("errors") if isinstance(answer, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else {}
    return "%s: %s" % (host(pod), said(first.get("message") if isinstance(first, dict) else "") or "it has no such pod")


def base(pod: Pod) -> str:
    return home.read_bytes(ROOT + SIMULATED).decode("ascii") if ROOT else "https://" + host(pod)


def host(pod: Pod) -> str:
    return "api.runpod.io" if pod.provider == "runpod" else "console.vast.ai"


def said(text: Any) -> str:
    return str(text or "")[:200]


def ask(pod: Pod, method: str, path: str, content: Any) -> "tuple[str, Any]":
    """Send a request; return why it failed, or nothing, and the answer."""
    import http.client
    import urllib.error
    import urllib.request  # not loaded before a pod is stopped, or that is tried

    request = urllib.request.Request(
        base(pod) + path,
        data=None if content is None else json.dumps(content).encode("ascii"),
        headers={"Authorization": "Bearer " + pod.key, "Content-Type": "application/json", "User-Agent": "pi"},
        method=method,
    )

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        """Follow no redirect: the key would go along."""

        def redirect_request(self, *_: Any) -> None:
            return None

    opener = urllib.request.build_opener(NoRedirect())
    try:
        with opener.open(request, timeout=TIMEOUT) as answer:
            return "", json.loads(answer.read(MAX_ANSWER) or b"null")
    except urllib.error.HTTPError as error:
        return "%s answered with status %d" % (host(pod), error.code), None
    except urllib.error.URLError as error:
        return "%s cannot be reached: %s" % (host(pod), said(error.reason)), None
    except (OSError, http.client.HTTPException, ValueError) as error:
        return "%s: %s" % (host(pod), type(error).__name__), None
