"""The holder: one process for all links of a user, which ends by itself some minutes after the last use."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pi_cli.errors import PiError
from pi_cli.hold import client, link, messages, place
from pi_cli.hold.link import Agent, Link
from pi_cli.hold.place import Place
from pi_cli.hold.quiet import Quiet
from pi_cli.hold.relay import Relay
from pi_cli.store import paths, settings, state

LOOK = 1.0  # seconds between two looks at what ends links: files, and the time
LOGINS_AT_ONCE = 8  # as in `pods.fleet`: sshd drops logins while ten are in progress. Nobody waits for these
WATCHED = (paths.pods_file, paths.known_hosts_file, settings.file)


def serve(pods: Mapping[str, Any], announced: Path, agent: Agent, protocol: int) -> None:
    """Hold links to these pods, and to those that commands hand over, until none is left.

    Once `pi pods unlink` has deleted the file by which the command has `announced` this process, it holds none.
    """
    there = place.make()
    address = there.address() if there else None
    if there is None or address is None or not announced.exists():
        return
    if not client.hand_over(pods):
        with suppress(OSError, PiError):
            asyncio.run(_Holder(there, agent, protocol).run(address, pods, announced))
    elif not _is_wanted(announced):
        client.unlink(pods)


def _is_wanted(announced: Path) -> bool:
    """Return whether the links that were announced are still wanted; from now on, they are ended as all are."""
    try:
        announced.unlink()
    except OSError:
        return False
    return True


class _Holder:
    def __init__(self, there: Place, agent: Agent, protocol: int) -> None:
        self._place, self._agent, self._protocol = there, agent, protocol
        self._links: dict[str, Link] = {}
        self._tasks: dict[Link, asyncio.Task[None]] = {}
        self._ending = asyncio.Event()
        self._inode = 0
        self._quiet = Quiet(self._renew)
        self._slots = asyncio.Semaphore(LOGINS_AT_ONCE)
        self._files = _versions()

    async def run(self, address: str, pods: Mapping[str, Any], announced: Path) -> None:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._ending.set)
        server = await self._listen(address)
        try:
            self._add(pods)
            if not _is_wanted(announced):
                return
            while not self._ending.is_set() and await self._is_used():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), LOOK)
        finally:
            server.close()
            if self._is_ours():
                self._place.socket.unlink()
            await self._end(list(self._links))

    async def _listen(self, address: str) -> asyncio.Server:
        """Listen on the socket, in place of one of a holder that is dead or does not answer."""
        new = Path(f"{address}.{os.getpid()}")
        if len(os.fsencode(str(new))) > place.LONGEST_PATH:
            new = Path(address).with_name(str(os.getpid()))
        before = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._serve, new, limit=messages.MAX_LINE)
        finally:
            os.umask(before)
        new.replace(address)
        self._inode = self._place.socket.stat().st_ino
        return server

    def _is_ours(self) -> bool:
        try:
            return self._place.socket.lstat().st_ino == self._inode
        except OSError:
            return False

    async def _is_used(self) -> bool:
        """End the links that are lost or not used any more; return whether any is left, and this is the holder."""
        for each, task in list(self._tasks.items()):
            is_current = self._links.get(each.pod) is each
            if task.done() and not (each.was_refused and is_current):
                del self._tasks[each]
                if is_current:
                    del self._links[each.pod]
        with suppress(PiError):
            is_current = place.find(as_installed=True) == self._place  # else pi was updated
            held = settings.seconds_held() if is_current else 0.0
            idle = [pod for pod, each in self._links.items() if not each.clients and link.clock() - each.used_at > held]
            await self._end(idle)
        files = _versions()
        if files != self._files:
            self._files = files
            await self._end_wrong()
        self._quiet.look()
        return bool(self._links) and self._is_ours()

    def _renew(self) -> None:
        for each in self._links.values():
            each.renew()

    async def _end_wrong(self) -> None:
        """End the links to pods that are no longer on pi's list, or have another ssh command or host key there."""
        try:
            pods = state.load().pods
            wrong = [
                name
                for name, each in self._links.items()
                if name not in pods or pods[name].ssh != each.ssh or not each.has_pins()
            ]
        except PiError:  # a broken file: commands say so
            wrong = list(self._links)
        await self._end(wrong)

    def _add(self, pods: Mapping[str, Any]) -> None:
        on_list = state.load().pods
        for pod, given in pods.items():
            if not isinstance(given, dict) or pod not in on_list or on_list[pod].ssh != given.get("ssh"):
                continue  # it was removed in the meantime
            present = self._links.get(pod)
            is_kept = present and present.ssh == given["ssh"] and (present.is_ready or present.was_refused)
            if is_kept and not given.get("anew"):
                continue
            if present:
                present.end()
            timeout = given.get("connect_timeout")
            each = Link(pod, given["ssh"], timeout if isinstance(timeout, int | float) else None, self._agent)
            self._links[pod] = each
            self._tasks[each] = asyncio.create_task(each.run(self._slots))

    def _end(self, pods: list[str]) -> Awaitable[None]:
        """End links; from now on no command gets one of them. The result can be awaited until they are closed."""
        ending = [self._links.pop(pod) for pod in pods if pod in self._links]
        for each in ending:
            each.end()
        return self._ended([self._tasks.pop(each) for each in ending if each in self._tasks])

    async def _ended(self, tasks: list[asyncio.Task[None]]) -> None:
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LOOK)
            for task in late:  # it logs in, or its pod does not answer
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a command."""
        try:
            if place.is_ours(writer.get_extra_info("socket")):
                with suppress(OSError, ValueError, PiError):  # a ValueError: a line that is too long
                    await self._answer(messages.read(await reader.readline()), reader, writer)
        finally:
            writer.close()

    async def _answer(
        self, question: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        match question.get("ask"):
            case "status":
                writer.write(messages.line({"linked": self._linked()}))
            case "link":
                pods = question.get("pods")
                if self._is_ours() and isinstance(pods, dict):
                    self._add(pods)
                    writer.write(messages.line({"takes": True}))
            case "unlink":
                named = question.get("pods")
                pods = [pod for pod in self._links if named is None or (isinstance(named, list) and pod in named)]
                linked = [pod for pod in self._linked() if pod in pods]
                ending = self._end(pods)
                writer.write(messages.line({"unlinked": linked}))
                await ending
            case None:
                await self._greet(question, reader, writer)

    def _linked(self) -> list[str]:
        """Return the pods whose agent waits: it has answered once."""
        return [pod for pod, each in self._links.items() if each.is_ready and each.round_trip]

    async def _greet(
        self, greeting: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Say whether a pod is linked; if it is, serve what the command wishes of it."""
        each = self._links.get(str(greeting.get("pod")))
        if each and each.ssh != greeting.get("ssh"):
            await self._end([each.pod])
            each = None
        if each is None or not each.is_ready or not await each.is_right():
            writer.write(messages.line({"linked": False}))
            return
        session = each.session
        if session is None:
            return
        answer = {"linked": True, "host": session.host, "silence": session.silence, "rtt": each.round_trip}
        writer.write(messages.line(answer))
        each.clients += 1
        each.used_at = link.clock()
        try:
            if wish := messages.read(await reader.readline()):
                await Relay(each, reader, writer, self._protocol, self._quiet).serve(wish)
        finally:
            each.clients -= 1
            each.used_at = link.clock()


def _versions() -> list[tuple[int, int, int] | None]:
    """Return what differs after a change of a file that ends links."""
    versions: list[tuple[int, int, int] | None] = []
    for file in WATCHED:
        try:
            status = file().stat()
            versions.append((status.st_ino, status.st_mtime_ns, status.st_size))
        except OSError:
            versions.append(None)
    return versions
