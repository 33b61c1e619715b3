"""Read `pi.toml`, strictly: what pi would not honour is refused, with its place in the file."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pi_cli import hints
from pi_cli.errors import BadUsage
from pi_cli.fleet import description, positions
from pi_cli.fleet.description import GATEWAY, MODEL, POD, TOP, Key
from pi_cli.fleet.values import OFF, Refused, called
from pi_cli.safe import safe_line
from pi_cli.store import mount_commands
from pi_cli.store.records import NAME_RULE, is_name

NAME = "pi.toml"
MAX_SIZE = 1_000_000  # bytes
SYNTAX = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
Then = Literal["stop-pod"]

DEFAULT_PORT = 8000
DEFAULT_POLICY = "cache_aware"
CHOOSES = ("gpus", "context", "memory")  # what pi plans, unless `vllm` has all arguments


@dataclass(frozen=True, slots=True)
class FleetPod:
    """A pod as it should be set up; the words are those that `pi pods setup` takes."""

    name: str
    ssh: str
    mount: str | None = None
    models_path: str | None = None
    home: str | None = None
    vllm: str | None = None
    cpu: bool = False
    price: str | None = None
    connect_timeout: float | None = None  # seconds


@dataclass(frozen=True, slots=True)
class FleetModel:
    """A model as it should run; the words are those that `pi start` takes.

    Either a replica runs on each of `pods`, or one model `across` several. `vllm` has all arguments for vLLM, None if
    pi chooses them. `env` are words of `--env`: NAME=VALUE, or NAME for a value of pi's own environment. `lease` is
    that of the model or of the file; None and `off` mean that it has none, as a model over several pods.
    `api_key_env` names variables.
    """

    name: str
    model: str
    pods: tuple[str, ...] = ()
    across: tuple[str, ...] = ()
    gpus: int | None = None
    context: str | None = None
    memory: str | None = None
    lease: str | None = None
    then: Then | None = None
    vllm: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    private: bool = False
    api_key_env: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetGateway:
    """The gateway that the file asks for."""

    port: int = DEFAULT_PORT
    policy: str = DEFAULT_POLICY


@dataclass(frozen=True, slots=True)
class FleetFile:
    """The content of a fleet file. `path` is as the user gave it."""

    path: Path
    pods: Mapping[str, FleetPod] = field(default_factory=dict)
    models: Mapping[str, FleetModel] = field(default_factory=dict)
    lease: str | None = None
    gateway: FleetGateway | None = None


def load(path: Path) -> FleetFile:
    """Read a fleet file. Raises `BadUsage`: `pi.toml:3:1: …`, or that there is no such file."""
    return parse(read_text(path), path)


def read_text(path: Path) -> str:
    """Return the text of a fleet file. Raises `BadUsage`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
        if len(data) > MAX_SIZE:
            raise BadUsage(f"`{path}` is larger than 1 MB", hint="check that it is the file you mean")
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise BadUsage(
            f"there is no file `{path}`",
            hint="write one from what runs with `pi export`, or name another with `--file`",
        ) from None
    except OSError as error:
        raise BadUsage(f"cannot read `{path}`: {error.strerror}", hint="check the file") from error
    except UnicodeError as error:
        raise BadUsage(f"`{path}` is not a UTF-8 text", hint="check the file") from error


def parse(text: str, path: Path) -> FleetFile:
    """Read the text of a fleet file."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(text, path, str(error)) from error
    except RecursionError as error:
        raise BadUsage(f"`{path}` is nested too deeply", hint="correct the file") from error
    return _Reader(path, text, data).read()


def _not_toml(text: str, path: Path, message: str) -> BadUsage:
    place = SYNTAX.search(message)
    lines = text.splitlines() or [""]
    line, column = place.groups() if place and place[1] else (len(lines), len(lines[-1]) + 1)
    reason = safe_line(SYNTAX.sub("", message))
    return BadUsage(f"{path}:{line}:{column}: not TOML: {reason}", hint="correct the file; strings need quotes")


class _Reader:
    """Turns the tables of a file into dataclasses; knows where a part of them stands in the file."""

    def __init__(self, path: Path, text: str, data: Mapping[str, Any]) -> None:
        self._path, self._text, self._data = path, text, data

    def read(self) -> FleetFile:
        tables = dict(self._data)
        named = {kind: self._table(tables.pop(kind, {}), (kind,)) for kind in description.TABLES}
        gateway = tables.pop("gateway", None)
        top = self._keys(tables, TOP, (), others=[*description.TABLES, "gateway"])
        pods = {name: self._pod(name, table) for name, table in named["pods"].items()}
        models = {name: self._model(name, table, top.get("lease")) for name, table in named["models"].items()}
        for model in models.values():
            self._require_pods(model, pods)
        return FleetFile(self._path, pods, models, top.get("lease"), self._gateway(gateway))

    def _pod(self, name: str, data: object) -> FleetPod:
        path = ("pods", name)
        self._require_name("pod", path)
        pod = FleetPod(name, **self._keys(self._table(data, path), POD, path))
        if pod.mount is not None:
            try:
                mount_commands.read(pod.mount, pod.models_path)
            except mount_commands.Unclear as unclear:
                hint = 'name the folder as well, for example `models-path = "/mnt/models"`'
                raise self._refused((*path, "mount"), f"it is unclear where it mounts: {unclear}", hint) from None
            except ValueError as error:
                raise self._refused((*path, "mount"), f"`mount` is not a valid command: {error}") from error
        return pod

    def _model(self, name: str, data: object, lease: str | None) -> FleetModel:
        path = ("models", name)
        self._require_name("model", path)
        table = self._table(data, path)
        keys = self._keys(table, MODEL, path)
        if "pods" in keys and "across" in keys:
            hint = "`pods` runs a replica on each pod, `across` one model over all of them: leave one out"
            raise self._refused((*path, "across"), "`across` and `pods` exclude each other", hint)
        if not ("pods" in keys or "across" in keys):
            hint = 'add `pods`, for example `pods = ["dc1"]`'
            raise self._refused(path, f"the model `{name}` has neither `pods` nor `across`", hint)
        chosen = [key for key in CHOOSES if key in keys]
        if "vllm" in keys and chosen:
            hint = "use vLLM's own: `--tensor-parallel-size`, `--max-model-len`, `--gpu-memory-utilization`"
            raise self._refused(
                (*path, chosen[0]),
                f"`{chosen[0]}` cannot be combined with `vllm`, whose arguments pi does not change",
                hint,
            )
        if "across" in keys and "lease" in keys:
            hint = "leave it out, and stop the model with `pi down`"
            raise self._refused((*path, "lease"), "`lease` is for models on one pod, and `across` names several", hint)
        keys.setdefault("lease", None if "across" in keys else lease)
        if "then" in keys and keys["lease"] in (None, OFF):
            hint = 'add `lease`, for example `lease = "45m"`'
            raise self._refused((*path, "then"), "`then` needs a `lease`, after which it is done", hint)
        return FleetModel(name, **keys)

    def _require_pods(self, model: FleetModel, pods: Mapping[str, FleetPod]) -> None:
        key = "across" if model.across else "pods"
        for index, name in enumerate(model.across or model.pods):
            if name not in pods:
                near = hints.did_you_mean(hints.nearest(name, pods))
                hint = near or f"add it, with its ssh command: `[pods.{name}]`"
                raise self._refused(("models", model.name, key, index), f"there is no pod `{name}` in this file", hint)

    def _gateway(self, data: object) -> FleetGateway | None:
        if data is None:
            return None
        return FleetGateway(**self._keys(self._table(data, ("gateway",)), GATEWAY, ("gateway",)))

    def _keys(
        self,
        table: Mapping[str, object],
        known: Mapping[str, Key],
        path: positions.Path,
        others: tuple[str, ...] | list[str] = (),
    ) -> dict[str, Any]:
        """Return the values of a table by the names of fields, each read by its kind."""
        found: dict[str, Any] = {}
        for name, value in table.items():
            if name not in known:
                raise self._unknown(name, [*known, *others], path)
            try:
                found[name.replace("-", "_")] = known[name].kind.read(value)
            except Refused as refused:
                raise self._refused((*path, name, *refused.path), _about(name, refused), refused.advice) from None
        for name, key in known.items():
            if key.is_required and name not in table:
                raise self._refused(path, f"`{path[-1]}` has no `{name}`", f"add it: {key.about}")
        return found

    def _table(self, value: object, path: positions.Path) -> dict[str, object]:
        if not isinstance(value, dict):
            example = f"[{path[0]}.NAME]" if path[0] in description.TABLES else f"[{path[0]}]"
            raise self._refused(
                path, f"`{path[-1]}` should be a table, not {called(value)}", f"for example `{example}`"
            )
        return value

    def _require_name(self, kind: str, path: tuple[str, str]) -> None:
        if not is_name(path[1]):
            raise self._refused(path, f"`{safe_line(path[1])}` cannot be the name of a {kind}", f"use {NAME_RULE}")

    def _unknown(self, name: str, known: list[str], path: positions.Path) -> BadUsage:
        near = hints.did_you_mean(hints.nearest(name, known))
        hint = near or f"the keys here are {', '.join(f'`{key}`' for key in known)}"
        return self._refused((*path, name), f"unknown key `{safe_line(name)}`", hint)

    def _refused(self, path: positions.Path, reason: str, hint: str = "") -> BadUsage:
        """Return an error with the place of a part of the file, or of what is nearest above it."""
        found = positions.find(self._text)
        while path and path not in found:
            path = path[:-1]
        line, column = found.get(path, (1, 1))
        return BadUsage(f"{self._path}:{line}:{column}: {reason}", hint=hint or "correct the file")


def _about(name: str, refused: Refused) -> str:
    """Return a reason with what it is about: the key, or a part of its value."""
    if not refused.path:
        return f"`{name}` {refused.reason}"
    if refused.reason.startswith(("`", "the ")):
        return refused.reason
    part = refused.path[0]
    of = f"number {part + 1} of `{name}`" if isinstance(part, int) else f"`{safe_line(part)}` of `{name}`"
    return f"{of} {refused.reason}"
