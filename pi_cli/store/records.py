"""Pods, GPUs and models as stored in `pods.json`; keys that pi does not know are kept."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pi_cli.lazy_dataclasses import dataclass, field
from pi_cli.safe import safe_line

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_RULE = "letters, digits, `.`, `_` and `-`, at most 64, starting with a letter or a digit"

TIMES = ("since", "quiet_since", "asked")  # of a pod, in ISO 8601 with a zone
MAX_PRICE = 1e6  # per hour
MAX_SECONDS = 1e9  # of a time-out: larger numbers, infinity and NaN cannot be a deadline


class Malformed(ValueError):
    """A value in `pods.json` is missing or has the wrong type; the text says where, and what was expected."""


@dataclass(slots=True)
class Gpu:
    """A GPU, or a MIG slice of one, which has a `uuid` in `extra`: CUDA has no number for it."""

    id: int
    name: str
    memory: str
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def is_slice(self) -> bool:
        return str(self.extra.get("uuid", "")).startswith("MIG-")


@dataclass(slots=True)
class Model:
    """A model that pi started. `gpu` is a comma-separated list of ids; `uid` identifies its record on the pod.

    `extra` has its share of the memory of the GPUs (`memory`), whether it listens on the pod's loopback only
    (`private`), and where its key was at the start if not in PI_API_KEY: the name of another variable (`api_key_env`)
    or the path of a file (`api_key_file`). A model over several pods is on the list of each of them, with the same uid,
    the pod's `role` and all its `peers`.
    """

    model: str
    port: int
    gpu: str
    pid: int
    uid: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def gpus(self) -> list[int]:
        return [int(id) for id in self.gpu.split(",") if id.strip()]

    @property
    def is_private(self) -> bool:
        return self.extra.get("private") is True

    @property
    def kind(self) -> str:
        """Return `model`, or what else runs like one, e.g. `gateway`."""
        return str(self.extra.get("kind") or "model")

    @property
    def role(self) -> str | None:
        """Return `head` or `node` for a part of a model over several pods."""
        role = self.extra.get("role")
        return role if role in ("head", "node") else None

    @property
    def peers(self) -> tuple[str, ...]:
        """Return the pods of a model over several, the head first, as the client that started it calls them."""
        peers = self.extra.get("peers")
        return (
            tuple(name for name in peers if isinstance(name, str) and is_name(name)) if isinstance(peers, list) else ()
        )

    @property
    def key_variable(self) -> str:
        return str(self.extra.get("api_key_env") or "PI_API_KEY")

    @property
    def key_file(self) -> str | None:
        """Return the file that had its key at the start; for messages only."""
        return safe_line(str(self.extra.get("api_key_file") or "")) or None


@dataclass(slots=True)
class Storage:
    """The volume for models, and its size in the usual form (`3.9TB`); None for volumes that do not report it.

    `mount` is the command that mounts it again after a reboot of the pod.
    """

    path: str
    size: str | None = None
    mount: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Price:
    """What a machine costs per hour, in a currency: a sign or a code.

    >>> str(Price(2.49, "$")), str(Price(0.389, "EUR")), Price(2.49, "£").sum(1234.5)
    ('$2.49', '0.389 EUR', '£1,234')
    """

    amount: float
    currency: str

    def __str__(self) -> str:
        digits = f"{self.amount:,.4f}".rstrip("0")
        return self._with_currency(digits + "0" * (2 - len(digits.partition(".")[2])))

    def sum(self, amount: float) -> str:
        """Format an amount of this currency that is an estimate."""
        return self._with_currency(f"{amount:,.0f}" if amount >= 10 else f"{amount:.2f}")

    def _with_currency(self, number: str) -> str:
        return f"{number} {self.currency}" if self.currency[-1:].isalpha() else f"{self.currency}{number}"


@dataclass(slots=True)
class Pod:
    """A machine and what runs on it.

    Setup records `vllm` (the default version), `abilities` (the digest of what that said about itself,
    `store.vllm_files`), `storage`, `home` (`--home`: the folder with vLLM, if that is not the home folder) and
    `provider` (`runpod`, …). `connect_timeout` (seconds) is for slow pods. `price` is what the user gave; `since`
    is the time of the first setup of this machine, `quiet_since` that of its last request as far as pi knew at `asked`.
    """

    ssh: str
    gpus: list[Gpu] = field(default_factory=list)
    models: dict[str, Model] = field(default_factory=dict)
    vllm: str | None = None
    abilities: str | None = None
    storage: Storage | None = None
    home: str | None = None
    provider: str | None = None
    connect_timeout: float | None = None
    price: Price | None = None
    since: str | None = None
    quiet_since: str | None = None
    asked: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def devices(self) -> dict[str, str]:
        """CUDA's names by GPU id, for GPUs that have one besides their number: all GPUs of a pod with MIG slices."""
        return {str(gpu.id): str(gpu.extra["uuid"]) for gpu in self.gpus if "uuid" in gpu.extra}

    @property
    def is_cpu(self) -> bool:
        """Return whether models run on its processors: setup has installed vLLM's CPU build."""
        return not self.gpus and (self.vllm or "").endswith("+cpu")


def is_name(text: str) -> bool:
    return NAME.fullmatch(text) is not None


def safe_keys(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with keys that are safe for a terminal; equal keys get a suffix, so that no value is lost."""
    safe: dict[str, Any] = {}
    for key, value in data.items():
        name = safe_line(key) or "unnamed"
        while name in safe:
            name += "-2"
        safe[name] = value
    return safe


def read_pod(data: Any, path: str) -> Pod:
    rest = _object(data, path)
    gpus = rest.pop("gpus", [])
    if not isinstance(gpus, list):
        raise Malformed(f"`{path}.gpus` should be a list")
    models = _object(rest.pop("models", {}), f"{path}.models")
    rest.pop("host", None)  # of older versions: the address of an alias, which may have moved since
    return Pod(
        ssh=_take(rest, "ssh", str, path),  # kept exactly as pasted; made safe where it is shown
        gpus=[_read_gpu(gpu, f"{path}.gpus[{index}]") for index, gpu in enumerate(gpus)],
        models={name: _read_model(model, f"{path}.models.{name}") for name, model in safe_keys(models).items()},
        vllm=_take_optional_line(rest, "vllm", path),
        abilities=_take_optional_line(rest, "abilities", path),
        storage=_read_storage(rest.pop("storage", None), f"{path}.storage"),
        home=_take_optional_line(rest, "home", path),
        provider=_take_optional_line(rest, "provider", path),
        connect_timeout=_take_seconds(rest, "connect_timeout", path),
        price=_take_price(rest, path),
        since=_take_time(rest, "since", path),
        quiet_since=_take_time(rest, "quiet_since", path),
        asked=_take_time(rest, "asked", path),
        extra=rest,
    )


def write_pod(pod: Pod) -> dict[str, Any]:
    return {
        "ssh": pod.ssh,
        "gpus": [{"id": gpu.id, "name": gpu.name, "memory": gpu.memory} | gpu.extra for gpu in pod.gpus],
        "models": {name: _write_model(model) for name, model in pod.models.items()},
        **({"vllm": pod.vllm} if pod.vllm is not None else {}),
        **({"abilities": pod.abilities} if pod.abilities is not None else {}),
        **({"storage": _write_storage(pod.storage)} if pod.storage else {}),
        **({"home": pod.home} if pod.home is not None else {}),
        **({"provider": pod.provider} if pod.provider is not None else {}),
        **({"connect_timeout": pod.connect_timeout} if pod.connect_timeout else {}),
        **({"price": pod.price.amount, "currency": pod.price.currency} if pod.price else {}),
        **{key: time for key in TIMES if (time := getattr(pod, key)) is not None},
        **pod.extra,
    }


def _read_gpu(data: Any, path: str) -> Gpu:
    rest = _object(data, path)
    return Gpu(_take(rest, "id", int, path), _take_line(rest, "name", path), _take_line(rest, "memory", path), rest)


def _read_storage(data: Any, path: str) -> Storage | None:
    if data is None:
        return None
    rest = _object(data, path)
    place = _take_line(rest, "path", path)
    return Storage(place, _take_optional_line(rest, "size", path), _take_optional(rest, "mount", path), rest)


def _write_storage(storage: Storage) -> dict[str, Any]:
    known = {"path": storage.path, "size": storage.size, "mount": storage.mount}
    return {key: value for key, value in known.items() if value is not None} | storage.extra


def _read_model(data: Any, path: str) -> Model:
    rest = _object(data, path)
    return Model(
        model=_take_line(rest, "model", path),
        port=_take(rest, "port", int, path),
        gpu=_read_gpu_ids(rest.pop("gpu", ""), f"{path}.gpu"),
        pid=_take(rest, "pid", int, path),
        uid=_take_optional_line(rest, "uid", path),
        extra=rest,
    )


def _write_model(model: Model) -> dict[str, Any]:
    known = {"model": model.model, "port": model.port, "gpu": model.gpu, "pid": model.pid}
    return known | ({"uid": model.uid} if model.uid is not None else {}) | model.extra


def _read_gpu_ids(value: Any, path: str) -> str:
    """Parse `"0,1"`; files written by hand may also have `0` and `[0, 1]`."""
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    if not re.fullmatch(r"(\d+(\s*,\s*\d+)*)?", text):
        raise Malformed(f'`{path}` should be GPU ids, e.g. "0,1"')
    return text.replace(" ", "")


def _object(data: Any, path: str) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise Malformed(f"`{path}` should be an object")
    return dict(data)


def _take(rest: dict[str, Any], key: str, kind: type, path: str) -> Any:
    value = rest.pop(key, None)
    if not isinstance(value, kind) or isinstance(value, bool):
        what = "a number" if kind is int else "a text"
        raise Malformed(f"`{path}.{key}` should be {what}")
    return value


def _take_optional(rest: dict[str, Any], key: str, path: str) -> str | None:
    return None if rest.get(key) is None else _take(rest, key, str, path)


def _take_line(rest: dict[str, Any], key: str, path: str) -> str:
    """Take a text that is shown, made safe for a terminal."""
    return safe_line(_take(rest, key, str, path))


def _take_optional_line(rest: dict[str, Any], key: str, path: str) -> str | None:
    return None if rest.get(key) is None else _take_line(rest, key, path)


def _take_seconds(rest: dict[str, Any], key: str, path: str) -> float | None:
    value = rest.pop(key, None)
    if value is not None and (
        not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= MAX_SECONDS
    ):
        raise Malformed(f"`{path}.{key}` should be a number of seconds")
    return value


def _take_price(rest: dict[str, Any], path: str) -> Price | None:
    amount, currency = rest.pop("price", None), _take_optional_line(rest, "currency", path)
    if amount is None:
        return None
    if not isinstance(amount, int | float) or isinstance(amount, bool) or not 0 < amount <= MAX_PRICE:
        raise Malformed(f"`{path}.price` should be a price per hour, e.g. 2.49")
    return Price(float(amount), currency or "$")


def _take_time(rest: dict[str, Any], key: str, path: str) -> str | None:
    text = _take_optional_line(rest, key, path)
    try:
        if text is not None and datetime.fromisoformat(text).tzinfo is None:
            raise ValueError
    except ValueError:
        raise Malformed(f"`{path}.{key}` should be a time, e.g. 2026-01-31T13:30:00+00:00") from None
    return text
