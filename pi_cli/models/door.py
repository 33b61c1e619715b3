"""Connections to a model through SSH, each of which has proved to lead to the model before anything is sent on it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from pi_cli.errors import PiError, PodUnreachable
from pi_cli.hints import fill
from pi_cli.models import identity, listing, model_status
from pi_cli.models.identity import Identity
from pi_cli.pods.reports import RunningModel
from pi_cli.ssh import forwarding
from pi_cli.ssh.forwarding import Stream
from pi_cli.ssh.session import PodSession, PortClosed, connection_errors
from pi_cli.store import keys
from pi_cli.store.keys import ApiKey
from pi_cli.store.records import Model

FRESH = 2.0  # seconds for which a proven connection can wait for its first request; vLLM closes idle ones after 5


Launch = tuple[str | None, int, int]  # uid, PID, port


class Door:
    """The way to the model `name` on a pod.

    A connection is proven by a challenge to the model's guard. A model without a guard (one that was started by hand,
    or by an older pi) is known by its process: the pod says, after the connection was made, that it owns the port.
    """

    def __init__(self, session: PodSession, name: str, *, key: ApiKey | None = None) -> None:
        """`key` is the key that will be sent: a model that does not know it already is not given it."""
        self._session, self._name, self._key = session, name, key
        self._model: RunningModel | Model | None = None
        self._without_guard: set[Launch] = set()
        self._owner = _Owner(session, name)
        self._prepared: tuple[float, Stream] | None = None

    def expect(self, model: RunningModel | Model) -> None:
        """Expect this model, according to `pods.json` or to the pod."""
        self._model = model

    async def open(self) -> Stream:
        """Open a connection that leads to the model.

        Raises `PiError` if the model is not running, does not answer on its port or does not know the key, and
        `PodUnreachable`, also if sshd forbids forwarding.
        """
        if stream := self._take_prepared():
            return stream
        if self._model is None:
            self._model = await self._ask()
        for _ in range(2):  # the second time for the model that the pod has named the first time
            expected, keys = self._model, self._proof_keys()
            if keys and (stream := await self._challenged(expected.port, keys)):
                return stream
            stream = await self._connect(expected.port)
            try:
                self._model = await self._ask()
            except BaseException:
                _close(stream)
                raise
            if _launch(self._model) == _launch(expected) and stream:
                if keys == self._proof_keys():
                    self._without_guard.add(_launch(expected))
                return stream
            _close(stream)
            if stream is None:
                await self._session.require_forwarding()  # the model listens: does sshd refuse to connect to it?
        raise out_of_reach(self._session.pod, self._name, "another process answers on its port")

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[Path]:
        """Forward a unix socket while the block runs. Its first connection is made already; errors as of `open`."""
        self._prepared = asyncio.get_running_loop().time(), await self.open()
        try:
            async with forwarding.opened_socket(self._session, self.open) as path:
                yield path
        finally:
            self._take_prepared(max_age=0.0)

    def _take_prepared(self, max_age: float = FRESH) -> Stream | None:
        if self._prepared is None:
            return None
        (since, stream), self._prepared = self._prepared, None
        if asyncio.get_running_loop().time() - since < max_age:
            return stream
        _close(stream)
        return None

    def _proof_keys(self) -> set[bytes]:
        assert self._model
        if _launch(self._model) in self._without_guard:
            return set()
        if self._key:
            return {identity.proof_key(self._key.value, self._model.uid)} if self._model.uid else set()
        return set(self._model.proof_keys) if isinstance(self._model, RunningModel) else set()

    async def _challenged(self, port: int, keys: set[bytes]) -> Stream | None:
        """Return a connection to a server that has proved to be the model; None if there is none."""
        if not (stream := await self._connect(port)):
            return None
        is_proven = False
        try:
            with connection_errors(self._session.pod):
                is_proven = await identity.prove(*stream, Identity(port, keys))
        except PodUnreachable:
            if self._session.is_lost:
                raise  # otherwise, the server has reset this connection
        finally:
            if not is_proven:
                _close(stream)
        return stream if is_proven else None

    async def _connect(self, port: int) -> Stream | None:
        try:
            return await self._session.open_stream(port)
        except PortClosed:
            return None

    async def _ask(self) -> RunningModel:
        model = await self._owner.ask()
        if reason := why_not(model):
            raise out_of_reach(self._session.pod, self._name, reason)
        assert model
        if self._key:
            require_accepted(self._key, model)
        return model


class _Owner:
    """Asks a pod about a model; callers that wait at the same time share an answer."""

    def __init__(self, session: PodSession, name: str) -> None:
        self._session, self._name = session, name
        self._lock = asyncio.Lock()
        self._asked_at = float("-inf")
        self._answer: RunningModel | None = None

    async def ask(self) -> RunningModel | None:
        """Return what the pod says about the model, to a question that was not sent before this call."""
        called_at = asyncio.get_running_loop().time()
        async with self._lock:
            if self._asked_at < called_at:
                asked_at = asyncio.get_running_loop().time()
                self._answer = (await listing.alive(self._session)).get(self._name)
                self._asked_at = asked_at
            return self._answer


def why_not(model: RunningModel | None) -> str | None:
    """Return why a model cannot answer, or None if it can."""
    if model is None:
        return "it is not running"
    match model.status:
        case "starting":
            return f"it is still starting ({model_status.without_count(model_status.phase(model))})"
        case "orphaned":
            return "its server or its record on the pod is gone"
        case _:
            return None if model.listens else f"none of its processes listens on its port, {model.port}"


def require_accepted(key: ApiKey, model: RunningModel) -> None:
    """Raise `PiError` if a model was started with other API keys, or is a gateway, which has no name for requests."""
    if model.kind == "gateway":
        hint = fill("open a port to it with `pi forward {name}`, and name one of its models", name=model.name)
        raise PiError(f"`{model.name}` is a gateway, not a model", hint=hint)
    if not identity.accepts(model, key.value):
        raise PiError(f"`{model.name}` does not accept the key in {key.origin}", hint=_hint_to_other_key(key, model))


def _hint_to_other_key(key: ApiKey, model: RunningModel) -> str:
    """Return where the right key is: in the file, if that has proved to fit, or where the record says that it was."""
    if not key.file and key.variable == keys.VARIABLE:
        with suppress(PiError):
            other = keys.in_file()
            if other and identity.accepts(model, other.value):
                return f"it accepts the key in {other.origin}: `unset {key.variable}`"
    was = f", which was in `{key.started_in}`" if key.started_in else ""
    return f"set {key.variable} to the key that the model was started with{was}"


def out_of_reach(pod: str, name: str, reason: str) -> PiError:
    hint = fill("see its status with `pi list --pod {pod}`", pod=pod)
    return PiError(f"`{name}` on `{pod}` cannot be reached: {reason}", hint=hint)


def _launch(model: RunningModel | Model) -> Launch:
    return model.uid, model.pid, model.port


def _close(stream: Stream | None) -> None:
    if stream:
        stream[1].channel.abort()
