"""`pods.json`: the list of pods and models. It may be out of date: what runs on a pod is known only to the pod."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi_cli.errors import BadUsage, StateUnreadable
from pi_cli.store import files, paths, strict_json
from pi_cli.store.records import NAME_RULE, Malformed, Model, Pod, is_name, read_pod, safe_keys, write_pod

POD_VARIABLE = "PI_POD"  # the pod to use instead of the active one, as with DOCKER_CONTEXT


@dataclass(slots=True)
class State:
    """The content of `pods.json`."""

    pods: dict[str, Pod] = field(default_factory=dict)
    active: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def pod(self, name: str) -> Pod:
        if name not in self.pods:
            from pi_cli.store import unknown

            raise unknown.pod(self, name)
        return self.pods[name]

    @property
    def default(self) -> str | None:
        """Return the pod that commands use if none is named, None if there is none: that in PI_POD, or the active one.

        Raises `BadUsage` if there is no pod of the name in PI_POD.
        """
        if not (chosen := os.environ.get(POD_VARIABLE)):
            return self.active if self.active in self.pods else None
        if chosen not in self.pods:
            from pi_cli.store import unknown

            raise unknown.pod_in_variable(self, POD_VARIABLE, chosen)
        return chosen

    def select(self, names: Iterable[str] = (), *, every: bool = False) -> dict[str, Pod]:
        """Return the pods a command acts on: the named ones, every one, or that in PI_POD or the active one."""
        if every:
            names = list(self.pods)
        elif not (names := list(dict.fromkeys(names))):
            names = [self._default_name()]
        return {name: self.pod(name) for name in names}

    def spelled(self, pod: str, name: str) -> str:
        """Return what to type for a model: NAME on the pod that is active, else POD/NAME.

        A pod that is only chosen by PI_POD is named: the text may be typed where the variable is not set.
        """
        return name if pod == self.active and os.environ.get(POD_VARIABLE) in (None, "", pod) else f"{pod}/{name}"

    def models(self) -> Iterator[tuple[str, str, Model]]:
        """Yield (pod, name, model) of every model on the list."""
        for pod_name, pod in self.pods.items():
            for name, model in pod.models.items():
                yield pod_name, name, model

    def _default_name(self) -> str:
        if (default := self.default) is not None:
            return default
        from pi_cli.store import unknown

        if not self.pods:
            raise BadUsage("there are no pods yet", hint='set one up with `pi pods setup NAME "ssh root@HOST"`')
        raise BadUsage("no pod is active", hint=f"choose one with `pi pods active NAME`; {unknown.pods(self)}")


def load() -> State:
    """Read `pods.json`; a missing file is an empty state. Raises `StateUnreadable` for a broken file."""
    path = paths.pods_file()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return State()
    except (OSError, UnicodeError) as error:
        raise _unreadable(path, error) from error
    try:
        return _parse(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error


@contextmanager
def edit() -> Iterator[State]:
    """Lock and read the state, let the block change it, and save it; if the block fails, nothing is saved."""
    path = paths.pods_file()
    with files.locked(path):
        state = load()
        before = _render(state)
        yield state
        after = _render(state)
        if after != before or not path.exists():
            _require_readable(path, after)
            files.replace(path, after)


def require_writable() -> None:
    """Check that `pods.json` can be changed, before a pod is. Raises `StateUnreadable` if not, or if it is broken."""
    files.require_writable(paths.pods_file())
    load()


def _require_readable(path: Path, text: str) -> None:
    """Raise `StateUnreadable` if the next command could not read this text."""
    try:
        _parse(text)
    except (ValueError, RecursionError) as error:
        raise StateUnreadable(
            f"what pi was about to write to `{path}` could not be read again: {error}",
            hint="nothing was changed; this is a bug in pi: please report it",
        ) from error


def check_name(kind: str, name: str) -> str:
    """Return `name`. Raises `BadUsage` if it is not allowed as the name of a pod or model."""
    if not is_name(name):
        raise BadUsage(f"`{name}` cannot be the name of a {kind}", hint=f"use {NAME_RULE}")
    return name


def _parse(text: str) -> State:
    data = strict_json.loads(text)
    if not isinstance(data, dict):
        raise Malformed("the file should hold an object")
    pods = data.pop("pods", {})
    if not isinstance(pods, dict):
        raise Malformed("`pods` should be an object")
    active = data.pop("active", None)
    if active is not None and not isinstance(active, str):
        raise Malformed("`active` should be the name of a pod")
    return State({name: read_pod(pod, f"pods.{name}") for name, pod in safe_keys(pods).items()}, active, data)


def _render(state: State) -> str:
    pods = {name: write_pod(pod) for name, pod in state.pods.items()}
    data = {"pods": pods, "active": state.active} | state.extra
    try:
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    except RecursionError as error:  # Python may parse deeper nesting than it can render
        raise _unreadable(paths.pods_file(), error) from error


def _unreadable(path: Path, error: Exception) -> StateUnreadable:
    return StateUnreadable(
        f"cannot read `{path}`: {error}", hint="nothing was changed; repair the file, or move it away to start afresh"
    )
