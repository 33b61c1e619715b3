"""The pods of a running gateway, as pi's list has them: replaced, renamed, added, removed, set up again."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pi_cli.errors import PiError, StateUnreadable
from pi_cli.gateway import balancer
from pi_cli.gateway.events import Change, PodChanged, Report
from pi_cli.gateway.links import Changed, PodLinks
from pi_cli.gateway.replicas import Members, Wanted
from pi_cli.ssh import host_keys
from pi_cli.store import debug, gateways, paths, state
from pi_cli.store.keys import ApiKey
from pi_cli.store.records import Pod

LOOK = 0.5  # seconds between two looks at the files, which are read only if they have changed
DRAIN = 30.0  # seconds for the answers in progress on a link that is not used any more
DRAIN_PAUSE = 0.25  # seconds between two looks whether they are complete
SURE = 2  # looks in a row without a request in progress: one that was just accepted is counted at the next
UNKNOWN_PODS: Mapping[str, Pod] = {}


@dataclass(slots=True)
class _Followed:
    """The links to a pod as it was on the list; `error` is why they are given up, `keys` are its host keys then."""

    links: PodLinks
    entry: Pod
    task: asyncio.Task[None] = field(init=False)
    keys: Mapping[str, str] | None = None
    error: PiError | None = None


class FollowedPods:
    """The links of a gateway. pi's list is looked at while they run."""

    def __init__(
        self,
        wanted: Wanted,
        key: ApiKey,
        members: Members,
        metrics_port: int,
        report: Report,
        changed: Changed,
        *,
        pauses: Sequence[float],
    ) -> None:
        self._wanted, self._key, self._members, self._metrics_port = wanted, key, members, metrics_port
        self._report, self._changed, self._pauses = report, changed, pauses
        self._pods: dict[str, _Followed] = {}
        self._failed = asyncio.Event()
        self._version: object = None
        self._listed = UNKNOWN_PODS

    async def run(self) -> dict[str, PiError]:
        """Keep the links until all pods have failed, and return why."""
        async with asyncio.TaskGroup() as group:
            self._version, self._listed = _version(), self._wanted.pods
            with suppress(StateUnreadable):
                self._listed = state.load().pods
            for pod, entry in self._wanted.pods.items():
                self._open(pod, entry, group)
            while not self._have_all_failed:
                self._failed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK):
                        await self._failed.wait()
                self._note_leaving()
                if (version := _version()) != self._version and self._follow(group):
                    self._version = version
            return {pod: each.error for pod, each in self._pods.items() if each.error}

    @property
    def _have_all_failed(self) -> bool:
        return bool(self._pods) and all(each.error for each in self._pods.values())

    def _open(self, pod: str, entry: Pod, group: asyncio.TaskGroup) -> None:
        links = PodLinks(
            pod, entry, self._wanted, self._key, self._members, self._report, self._changed, pauses=self._pauses
        )
        self._pods[pod] = followed = _Followed(links, entry)
        followed.task = group.create_task(self._keep(pod, followed))

    async def _keep(self, pod: str, followed: _Followed) -> None:
        try:
            with debug.bugs_as_errors(f"forwarding to `{pod}`"):
                await followed.links.run()
        except PiError as error:
            followed.error, followed.keys = error, _keys(pod)
            if not self._have_all_failed:  # the last one's failure ends the command
                followed.links.give_up(error)
            self._failed.set()

    def _follow(self, group: asyncio.TaskGroup) -> bool:
        """Take in what has changed on pi's list; return whether it could be read."""
        try:
            pods = state.load().pods
        except StateUnreadable:
            return False
        renamed = _renamed(self._listed, pods, self._pods)
        self._wanted, before, self._listed = self._wanted.after(pods, renamed), self._listed, pods
        for pod in [name for name in self._pods if name not in self._wanted.pods]:
            self._leave(pod, renamed.get(pod), group)
        for pod, entry in self._wanted.pods.items():
            was = next((old for old, new in renamed.items() if new == pod), None)
            if (followed := self._pods.get(pod)) is None:
                self._report(PodChanged(pod, "renamed" if was else "added", was))
                self._open(pod, entry, group)
            elif change := _change(pod, entry, followed):
                self._replace(pod, entry, change, group)
            elif pod not in before or entry.models != before[pod].models:
                followed.links.want(self._wanted)
        return True

    def _replace(self, pod: str, entry: Pod, change: Change, group: asyncio.TaskGroup) -> None:
        followed = self._pods.pop(pod)
        self._report(PodChanged(pod, change))
        group.create_task(self._end(followed))
        self._open(pod, entry, group)

    def _leave(self, pod: str, new: str | None, group: asyncio.TaskGroup) -> None:
        """Close the links of a pod; those of a renamed one once its models are reached under the new name."""
        followed = self._pods.pop(pod)
        if new is None:
            self._report(PodChanged(pod, "removed"))
        group.create_task(self._end(followed, new))

    async def _has_joined(self, followed: _Followed, new: str) -> bool:
        """Return whether the balancer uses as many models of a pod under its new name as under the former one."""
        there = self._pods.get(new)
        if there is None or there.error:
            return True
        counts = await balancer.read_metrics(self._metrics_port)
        workers = counts.workers if counts else {}
        used = [url for url in there.links.urls if url in workers and workers[url].is_healthy]
        return len(used) >= len(followed.links.urls)

    async def _end(self, followed: _Followed, new: str | None = None) -> None:
        """Take the models of a pod from the balancer, and close the links once no answer is in progress on them."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN):
                while new is not None and not await self._has_joined(followed, new):  # noqa: ASYNC110 - others change it
                    await asyncio.sleep(DRAIN_PAUSE)
        urls = followed.links.urls
        followed.links.retire()
        await drained(self._metrics_port, urls)
        followed.task.cancel()

    def _note_leaving(self) -> None:
        """Send nothing more to models that are about to be stopped (`store.gateways.leaving`)."""
        leaving = gateways.leaving()
        changed = [
            member for place, member in self._members.by_place.items() if member.is_leaving != (place in leaving)
        ]
        for member in changed:
            member.is_leaving = not member.is_leaving
        if changed:
            self._changed()


async def drained(metrics_port: int, urls: Sequence[str], *, seconds: float = DRAIN) -> bool:
    """Wait until the balancer has no request in progress at these workers; return whether it has none left."""
    quiet = 0 if urls else SURE
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while quiet < SURE:
                await asyncio.sleep(DRAIN_PAUSE)
                counts = await balancer.read_metrics(metrics_port)
                is_busy = counts is not None and any(
                    counts.workers[url].active for url in urls if url in counts.workers
                )
                quiet = 0 if is_busy else quiet + 1
    return quiet >= SURE


def _change(pod: str, entry: Pod, followed: _Followed) -> Change | None:
    """Return why a pod is connected to anew; one that has failed also if its host keys have changed."""
    before = followed.entry
    if followed.error:
        is_same = (before.ssh, before.connect_timeout, followed.keys) == (entry.ssh, entry.connect_timeout, _keys(pod))
        return None if is_same else "retried"
    return "replaced" if before.ssh != entry.ssh else None


def _renamed(before: Mapping[str, Pod], pods: Mapping[str, Pod], followed: Mapping[str, object]) -> dict[str, str]:
    """Return the new names of pods that are on the list under another one than before."""
    new = {name: pod.ssh for name, pod in pods.items() if name not in before}
    found: dict[str, str] = {}
    for old in followed:
        same = [name for name, ssh in new.items() if old in before and ssh == before[old].ssh]
        if old not in pods and same and same[0] not in found.values():
            found[old] = same[0]
    return found


def _keys(pod: str) -> Mapping[str, str]:
    with suppress(StateUnreadable):
        return host_keys.of(pod)
    return {}


def _version() -> object:
    """Return what differs if pi's list or the pinned host keys have changed."""
    return [_stat(paths.pods_file()), _stat(paths.known_hosts_file())]


def _stat(path: Path) -> tuple[int, ...] | None:
    with suppress(OSError):
        found = path.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size
    return None
