"""The OpenAI client, so set up that it talks to one pod and takes nothing from the user's OpenAI account."""

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi_cli.errors import PiError

if TYPE_CHECKING:  # it takes more than half a second to import
    import httpx2
    import openai

    Client = openai.AsyncOpenAI

# Never looked up: the transport knows where the pod is.
BASE_URL = "http://pod/v1"
CONNECT_SECONDS = 10.0
# A long prompt on a busy machine takes minutes before its first token.
READ_SECONDS = 600.0
RETRIES = 2

# All that leaves this machine beside the conversation. The SDK would add who we are on, and, from OPENAI_ORG_ID,
# OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS, what belongs to the user's account elsewhere.
HEADERS = frozenset({
    "accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "host",
    "transfer-encoding", "user-agent",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Served:
    """A model by the name it is served under, and what its user has to be told about it.

    `pod` is set where it has to be said, since another one is active; `key_variable` is where the key comes from.
    """

    name: str
    pod: str | None = None
    key_variable: str = "PI_API_KEY"

    @property
    def logs(self) -> str:
        """Return the command that shows its log."""
        return f"`pi logs {self.name}{f' --pod {self.pod}' if self.pod else ''}`"


class ToolsNotServed(PiError):
    """The model was started without a tool parser, so it answers only requests without tools."""

    def __init__(self, model: str) -> None:
        super().__init__(f"`{model}` was started without tools", hint="go on without them: `--no-tools`")


class TooLong(PiError):
    """What is to be said does not fit the model's context."""

    def __init__(self, model: str, message: str) -> None:
        super().__init__(
            f"the conversation is too long for `{model}`: {message}",
            hint="ask about less, begin a new conversation, or start the model with a larger `--context`",
        )


def warm_up() -> None:
    """Import what an answer needs; a third of a second that another thread can spend while SSH connects.

    Nobody looks for garbage meanwhile: there is none among half a million new objects, and it takes 361 ms, not 388.
    """
    gc.disable()
    try:
        import openai  # noqa: F401
    finally:
        gc.enable()


def open_client(transport: "httpx2.AsyncBaseTransport", *, api_key: str) -> "openai.AsyncOpenAI":
    """Return a client, to be used with `async with`, which closes `transport` in the end."""
    import openai

    async def keep_only_ours(request: "httpx2.Request") -> None:
        for name in set(request.headers) - HEADERS:
            del request.headers[name]
        request.headers["authorization"] = f"Bearer {api_key}"

    http = openai.DefaultAsyncHttpxClient(
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        event_hooks={"request": [keep_only_ours]},
    )
    return openai.AsyncOpenAI(
        api_key=api_key,
        base_url=BASE_URL,
        http_client=http,
        timeout=openai.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
        max_retries=RETRIES,
    )


@contextmanager
def refusals(model: Served) -> Iterator[None]:
    """Turn every way a request can fail before the answer begins into what the user must know."""
    import openai

    try:
        yield
    except openai.AuthenticationError as error:
        raise PiError(
            f"`{model.name}` refused the API key (401)",
            hint=f"set {model.key_variable} to the key that the model was started with",
        ) from error
    except openai.NotFoundError as error:
        raise not_found(model, error) from error
    except openai.APITimeoutError as error:
        raise PiError(f"`{model.name}` did not answer in time", hint=f"see what it does with {model.logs}") from error
    except openai.APIConnectionError as error:
        raise PiError(
            f"`{model.name}` cannot be reached: {reason(error)}", hint="see what runs with `pi list`"
        ) from error
    except openai.APIError as error:
        raise refused(model, error) from error


def not_found(model: Served, error: "openai.NotFoundError") -> PiError:
    """Tell a route that is not there from a model that is not."""
    if isinstance(error.body, dict) and "detail" in error.body:
        path = error.request.url.path
        hint = "try it without `--api`" if path.endswith("/responses") else f"see what it is with {model.logs}"
        return PiError(f"`{model.name}` does not serve {path}", hint=hint)
    return PiError(f"there is no model `{model.name}` there: {said(error)}", hint="see what runs with `pi list`")


def reason(error: "openai.APIConnectionError") -> str:
    """Say why there was no connection. What leads to the port is always there: when nothing is behind it, it closes."""
    import httpx2

    cause = error.__cause__
    if isinstance(cause, httpx2.RemoteProtocolError | httpx2.ReadError):
        return "nothing answers on its port"
    return str(cause or error)


def refused(model: Served, error: "openai.APIError") -> PiError:
    message = said(error)
    if re.search(r"--enable-auto-tool-choice|--tool-call-parser", message):
        return ToolsNotServed(model.name)
    if re.search(r"context length|max_model_len|(exceed|longer).*model length", message, re.IGNORECASE):
        return TooLong(model.name, message)
    return PiError(f"`{model.name}` did not answer: {message}", hint=f"see why with {model.logs}")


@contextmanager
def interruptions(model: Served) -> Iterator[None]:
    """Turn every way an answer can break off into what the user must know."""
    import httpx2  # openai 3.0 lets its errors through; later ones wrap them
    import openai

    try:
        yield
    except (openai.APITimeoutError, httpx2.TimeoutException) as error:
        raise stopped(model, f"nothing came for {READ_SECONDS:.0f} s") from error
    except (openai.APIConnectionError, httpx2.RequestError) as error:
        raise stopped(model, "the connection was lost") from error
    except openai.APIError as error:
        raise stopped(model, said(error)) from error
    except ValueError as error:  # not JSON, not UTF-8
        raise stopped(model, f"it sent what is no answer ({error})") from error


def stopped(model: Served, reason: str) -> PiError:
    return PiError(f"`{model.name}` stopped answering: {reason}", hint=f"see why with {model.logs}")


def said(error: "openai.APIError") -> str:
    """Return the server's own words, as one line."""
    body = error.body
    message = body.get("message") if isinstance(body, dict) else body
    text = " ".join(str(message or error.message).split()).removesuffix(".")
    return text if len(text) <= 300 else f"{text[:300]}…"
