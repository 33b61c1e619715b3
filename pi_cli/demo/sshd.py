"""An SSH server on a loopback port, in a thread with its own event loop."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any
from weakref import WeakSet

from pi_cli.demo.session import Channel
from pi_cli.ssh.quick_asyncssh import asyncssh

Serve = Callable[[Channel], Coroutine[None, None, None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Sshd:
    """Serves every channel with `serve`, from its creation until `stop`."""

    def __init__(self, serve: Serve, *, host_key: asyncssh.SSHKey, client_key: asyncssh.SSHKey) -> None:
        self._serve = serve
        self._client_key = client_key
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._forwarders: WeakSet[Any] = WeakSet()
        self._channels: set[asyncio.Task[None]] = set()
        self._listening: Future[asyncssh.SSHAcceptor] = Future()
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run_thread, args=(host_key,), name="embedded-pod", daemon=True)
        self._thread.start()
        self._acceptor = self._listening.result()
        self.port = self._acceptor.get_port()

    def use_host_key(self, key: asyncssh.SSHKey) -> None:
        """Use another host key for new connections."""
        self._loop.call_soon_threadsafe(lambda: self._acceptor.update(server_host_keys=[key]))

    def stop(self) -> None:
        """Close every connection. The thread ends after the last command has exited."""
        self._loop.call_soon_threadsafe(self._stopping.set)

    def has_ended(self, timeout: float) -> bool:
        """Wait for the thread to end, and raise its exception if it failed."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            return False
        self._ended.result()
        return True

    def _run_thread(self, host_key: asyncssh.SSHKey) -> None:
        try:
            asyncio.run(self._listen(host_key))
        except BaseException as error:  # noqa: BLE001 - passed to the thread that waits for this one
            outcome: Future[asyncssh.SSHAcceptor] | Future[None] = (
                self._ended if self._listening.done() else self._listening
            )
            outcome.set_exception(error)
        else:
            self._ended.set_result(None)

    async def _listen(self, host_key: asyncssh.SSHKey) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[host_key],
            server_factory=lambda: _Login(self._connections, self._forwarders),
            process_factory=self._open,
            authorized_client_keys=asyncssh.import_authorized_keys(self._client_key.export_public_key().decode()),
            encoding=None,
            line_editor=False,
            agent_forwarding=False,
            gss_host=None,
        )
        self._listening.set_result(acceptor)
        await self._stopping.wait()
        acceptor.close()
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        await asyncio.gather(*(connection.wait_closed() for connection in connections))
        for forwarder in list(self._forwarders):
            forwarder.close()  # asyncssh leaves some open whose connection is aborted
        await acceptor.wait_closed()
        await asyncio.gather(*self._channels)

    def _open(self, channel: Channel) -> None:
        """Serve a channel in a task of this server: asyncssh would cancel its own task with the connection."""
        task = asyncio.get_running_loop().create_task(self._serve(channel))
        self._channels.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        if task.exception() is None:  # a failed task is kept: `has_ended` raises its exception
            self._channels.discard(task)


class _Login(asyncssh.SSHServer):
    """Accepts one client key, and forwards to loopback ports and unix sockets."""

    def __init__(self, connections: set[asyncssh.SSHServerConnection], forwarders: "WeakSet[Any]") -> None:
        self._connections, self._forwarders = connections, forwarders

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._connections.discard(self._connection)

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> Any:  # noqa: ARG002
        return dest_host in LOOPBACK and self._forward(dest_host, dest_port)

    async def _forward(self, host: str, port: int) -> Any:
        forwarder = await self._connection.forward_connection(host, port)
        self._forwarders.add(forwarder)
        if self._connection not in self._connections:
            forwarder.close()  # the connection was lost in the meantime
        return forwarder

    def unix_connection_requested(self, dest_path: str) -> bool:  # noqa: ARG002
        return True
