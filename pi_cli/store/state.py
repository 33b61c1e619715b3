"""`pods.json`: the list of pods and models. It may be out of date: what runs on a pod is known only to the pod."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi_cli.errors import BadUsage, StateUnreadable
from pi_cli.store import files, paths, strict_json
from pi_cli.store.records import NAME_RULE, Malformed, Model, Pod, is_name, read_pod, safe_keys, write_pod


@dataclass(slots=True)
class State:
    """The content of `pods.json`."""

    pods: dict[str, Pod] = field(default_factory=dict)
    active: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def pod(self, name: str) -> Pod:
        if name not in self.pods:
            raise BadUsage(f"there is no pod `{name}`", hint=_known(self.pods))
        return self.pods[name]

    def select(self, names: Iterable[str] = (), *, every: bool = False) -> dict[str, Pod]:
        """Return the pods a command acts on: the named ones, every one, or the active one."""
        if every:
            names = list(self.pods)
        elif not (names := list(dict.fromkeys(names))):
            names = [self._active_name()]
        return {name: self.pod(name) for name in names}

    def models(self) -> Iterator[tuple[str, str, Model]]:
        """Yield (pod, name, model) of every model on the list."""
        for pod_name, pod in self.pods.items():
            for name, model in pod.models.items():
                yield pod_name, name, model

    def _active_name(self) -> str:
        if self.active in self.pods:
            return self.active
        if not self.pods:
            raise BadUsage("there are no pods yet", hint='set one up with `pi pods setup NAME "ssh root@HOST"`')
        raise BadUsage("no pod is active", hint=f"choose one with `pi pods active NAME`; {_known(self.pods)}")


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


def _known(pods: Iterable[str]) -> str:
    names = ", ".join(f"`{name}`" for name in pods)
    return f"the pods are {names}" if names else 'set one up with `pi pods setup NAME "ssh root@HOST"`'
