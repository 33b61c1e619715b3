"""A question to the Hugging Face Hub: about which model, at which address, with which token, and until when."""

import json
import re
import time
from dataclasses import dataclass, field, replace
from typing import Any

RESERVED_TIME = 0.5  # seconds of the time for all requests that optional requests may not use


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about a model, where, and until when by the monotonic clock."""

    model: str
    endpoint: str
    deadline: float
    token: str | None = field(repr=False)

    @property
    def site(self) -> str:
        """Return the endpoint without any password in it."""
        return re.sub("//[^/]*@", "//", self.endpoint)

    @property
    def page(self) -> str:
        """Return the address of the model's page."""
        return f"{self.site}/{self.model}"

    @property
    def time_left(self) -> float:
        """Return the seconds until the deadline, at least 0.01."""
        return max(0.01, self.deadline - time.monotonic())

    @property
    def hurried(self) -> "Question":
        """Return the same question with less time, for optional requests."""
        return replace(self, deadline=self.deadline - RESERVED_TIME)

    def request(self, path: str, **options: Any) -> dict[str, Any]:
        """Return the arguments of a request for an HTTP client; the token is not sent on to another host."""
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # exported on first use

        headers = build_hf_headers(token=self.token or False, library_name="pi") | options.pop("headers", {})
        return {"url": self.endpoint + path, "headers": headers, "timeout": self.time_left} | options

    def json(self, path: str) -> Any:
        """Return the JSON at a path. Raises the errors of huggingface_hub and of its HTTP client, or `ValueError`."""
        from huggingface_hub import get_session, hf_raise_for_status

        response = get_session().get(**self.request(path))
        hf_raise_for_status(response)
        return json.loads(response.content)
