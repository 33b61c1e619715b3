"""The operations of the agent on a pod, one function each; results are checked types.

`pods.replies` parses the answers. One that it does not understand raises `NotUnderstood` for that pod.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from pi_cli.hold.session import HeldSession
from pi_cli.pods import agent_link, replies
from pi_cli.pods.agent_link import Frame, NotUnderstood
from pi_cli.pods.checks import InvalidValue
from pi_cli.pods.reports import (
    BenchReply,
    CleanedFolder,
    GatewayEnd,
    Holders,
    Inspection,
    Launches,
    Leases,
    LogChange,
    Network,
    Purge,
    StartEnd,
    StartEvent,
    StopResult,
    StoredFiles,
    Survey,
)
from pi_cli.pods.staying_agent import StayingAgent
from pi_cli.pods.wording import AgentRefused
from pi_cli.safe import Sanitizer

if TYPE_CHECKING:
    from agent import protocol

    from pi_cli.ssh.session import PodSession

OnEvent = Callable[[StartEvent], None]
OnLog = Callable[[int, int, bytes | LogChange], Awaitable[None] | None]
"""Takes the number of a source, the offset after this part, and the part: bytes of the log, or a change."""


async def survey(
    session: PodSession,
    known: Sequence[protocol.KnownModel],
    *,
    forget: bool,
    memory: bool = False,
    live: bool = False,
) -> Survey:
    """Ask which models run on a pod; with `forget`, the pod deletes the records of dead models.

    With `memory`, also ask for the memory of its GPUs; with `live`, for that and for the load of its GPUs and models,
    and then no ends of logs are sent.
    """
    request: protocol.SurveyRequest = {"known": list(known), "forget": forget, "memory": memory, "live": live}
    if forget and isinstance(session, HeldSession):
        # Over a held link, only what changes nothing takes a single round trip, and seldom is there anything to forget.
        result = await _result(session, "survey", {**request, "forget": False})
        is_done = not _has_to_forget(result)
    else:
        is_done = False
    if not is_done:
        result = await _result(session, "survey", request)
    with understood(session.pod):
        return replies.survey(result)


def _has_to_forget(reply: object) -> bool:
    """Return whether a survey that may forget does more than one that may not: delete records, revive watchers."""
    if not isinstance(reply, dict) or reply.get("dead") or reply.get("unreadable"):
        return True
    models = reply.get("models")
    leases = [model.get("lease") for model in models if isinstance(model, dict)] if isinstance(models, list) else [None]
    return any(lease and (not isinstance(lease, dict) or lease.get("watcher") != "lives") for lease in leases)


async def inspect(
    session: PodSession | StayingAgent,
    *,
    gpu_query: list[str],
    gpu_list: list[str],
    known: Sequence[protocol.KnownModel] | None,
    digests: Sequence[str] = (),
    cuda: str | None = None,
    on_event: OnEvent = lambda _: None,
) -> Inspection:
    """Ask for the GPUs, disks and vLLM versions of a machine; with `known`, also for the running models.

    An agent that stays can be asked to start a model next.

    What the default vLLM said about itself is sent along, unless its digest is among `digests`. `cuda` is the program
    that asks the driver whether CUDA works.
    """
    request: protocol.InspectRequest = {
        "gpu_query": gpu_query,
        "gpu_list": gpu_list,
        "known": None if known is None else list(known),
        "abilities": list(digests),
        "cuda": cuda,
    }
    result = await _result(session, "inspect", request, _events(session.pod, on_event))
    with understood(session.pod):
        return replies.inspection(result)


async def holders(session: PodSession, questions: list[list[str]]) -> Holders:
    """Ask which processes hold GPU memory."""
    request: protocol.HoldersRequest = {"questions": questions}
    result = await _result(session, "holders", request)
    with understood(session.pod):
        return replies.holders(result, len(questions))


async def stop(session: PodSession, models: Sequence[protocol.KnownModel], *, exact: bool = False) -> StopResult:
    """Stop models; the outcomes are in the same order. With `exact`, other launches of the same names keep running."""
    request: protocol.StopRequest = {"models": list(models), "exact": exact}
    result = await _result(session, "stop", request)
    with understood(session.pod):
        return replies.stop_result(result, len(models))


async def start(
    session: PodSession | StayingAgent,
    request: protocol.StartRequest,
    on_event: OnEvent,
    *,
    go: AsyncIterable[bytes] | None = None,
) -> StartEnd:
    """Start a model; if the request has `wait`, follow it until it is ready.

    A part of a model over several pods is launched when `go` yields; that must not end before the start does.
    """
    result = await _result(session, "start", request, _events(session.pod, on_event), go)
    with understood(session.pod):
        end = replies.start_end(result)
        if (end.model.name, end.model.uid) != (request["name"], request["uid"]):
            raise InvalidValue(end.model.name, "the model that was to be started")
        return end


async def store(
    session: PodSession, request: protocol.StoreRequest, on_event: OnEvent, content: Iterable[bytes] | None = None
) -> StoredFiles:
    """Ask whether files are stored on a pod; with `sends`, store them, with the bytes of all of them in `content`."""
    result = await _result(session, "store", request, _events(session.pod, on_event), content)
    with understood(session.pod):
        return replies.stored_files(result, request)


async def purge(session: PodSession, on_event: OnEvent, *, models: bool, delete: bool) -> Purge:
    """Ask what pi has put on a machine; with `delete`, delete it, with `models` the models too."""
    request: protocol.PurgeRequest = {"delete": delete, "models": models}
    result = await _result(session, "purge", request, _events(session.pod, on_event))
    with understood(session.pod):
        return replies.purge(result)


async def lease(session: PodSession, request: protocol.LeaseRequest) -> Leases:
    """Ask for the leases of a pod; before that, change one, or ask whether the provider would stop this pod."""
    result = await _result(session, "lease", request)
    with understood(session.pod):
        return replies.leases(result)


async def clean(session: PodSession, request: protocol.CleanRequest, on_event: OnEvent) -> list[CleanedFolder]:
    """Delete what was compiled for a model."""
    result = await _result(session, "clean", request, _events(session.pod, on_event))
    with understood(session.pod):
        return replies.cleaned_folders(result)


async def gateway(session: PodSession, request: protocol.GatewayRequest) -> GatewayEnd:
    """Start the balancer of a gateway on a pod, or change which engines it uses."""
    result = await _result(session, "gateway", request)
    with understood(session.pod):
        return replies.gateway_end(result, request)


async def launches(session: PodSession) -> Launches:
    """Ask how the models were started that run on a pod, and what its vLLMs were installed from."""
    request: protocol.LaunchesRequest = {}
    result = await _result(session, "launches", request)
    with understood(session.pod):
        return replies.launches(result)


async def bench(session: PodSession, request: protocol.BenchRequest) -> BenchReply:
    """Run one level of vLLM's benchmark against a model of a pod; it ends with the connection."""
    result = await _result(session, "bench", request)
    with understood(session.pod):
        return replies.bench_reply(result, request)


async def network(session: PodSession, request: protocol.NetworkRequest, on_event: OnEvent = lambda _: None) -> Network:
    """Ask a pod for its addresses, or let it take part in a test of the connection to another pod."""
    result = await _result(session, "network", request, _events(session.pod, on_event))
    with understood(session.pod):
        return replies.network(result)


async def attach(session: PodSession, name: str, on_event: OnEvent) -> StartEnd:
    """Follow a model that is already starting until it is ready."""
    request: protocol.AttachRequest = {"name": name}
    result = await _result(session, "attach", request, _events(session.pod, on_event))
    with understood(session.pod):
        end = replies.start_end(result)
        if end.model.name != name:
            raise InvalidValue(end.model.name, "the model that was to be watched")
        return end


async def logs(session: PodSession, request: protocol.LogsRequest, on_log: OnLog) -> None:
    """Read logs; pass their bytes and their changes to `on_log`."""
    pod = session.pod

    def on_answer(answer: protocol.Reply) -> None:
        _raise_refusal(pod, answer)

    def on_frame(frame: Frame) -> Awaitable[None] | None:
        if not frame.is_event:
            return on_log(frame.source, frame.offset, frame.payload)
        with understood(pod):
            change = replies.log_change(agent_link.read_json(pod, frame.payload), frame.offset)
        return on_log(frame.source, frame.offset, change)

    await agent_link.stream(session, "logs", request, on_answer, on_frame, sources=len(request["sources"]))


@contextmanager
def understood(pod: str) -> Iterator[None]:
    """Turn the exceptions of code that parses an answer of the wrong shape into `NotUnderstood`."""
    try:
        yield
    except InvalidValue as error:
        raise NotUnderstood(pod, error) from error
    except KeyError as error:
        raise NotUnderstood(pod, f"{error} is missing") from error
    except TypeError as error:
        raise NotUnderstood(pod, "a value is of the wrong type") from error


async def _result(
    session: PodSession | StayingAgent,
    operation: protocol.Operation,
    request: protocol.Request,
    on_event: agent_link.OnEvent = lambda _: None,
    more: Iterable[bytes] | AsyncIterable[bytes] | None = None,
) -> object:
    if isinstance(session, StayingAgent):
        answer = await session.ask(operation, request, on_event)
    else:
        answer = await agent_link.ask(session, operation, request, on_event, more=more)
    _raise_refusal(session.pod, answer)
    return cast("protocol.ResultReply", answer)["result"]


def _raise_refusal(pod: str, answer: protocol.Reply) -> None:
    """Raise `AgentRefused` if an answer is a refusal."""
    if "refusal" in answer:
        with understood(pod):
            refusal = replies.refusal(answer["refusal"])
        raise AgentRefused(pod, refusal)


def _events(pod: str, on_event: OnEvent) -> agent_link.OnEvent:
    """Return the parser for events of a start.

    It has one sanitizer for the whole log, since a control sequence may be cut between two parts.
    """
    log = Sanitizer(colour=False)

    def parse(message: protocol.Event) -> None:
        with understood(pod):
            event = replies.event(message, log)
        on_event(event)

    return parse
