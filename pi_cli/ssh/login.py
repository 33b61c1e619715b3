"""Log in to a pod through its jump hosts, with the user's keys, and verify every host key."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext

from pi_cli import waits
from pi_cli.errors import BadUsage, PodUnreachable
from pi_cli.ssh import host_keys, session_settings, ssh_command, ssh_config
from pi_cli.ssh.one_login import Login, NotEarly
from pi_cli.ssh.quick_asyncssh import asyncssh
from pi_cli.ssh.session import SHOWN_COMMAND, SILENCE, PodSession
from pi_cli.ssh.speaker import speaker
from pi_cli.ssh.ssh_command import SshCommand
from pi_cli.ssh.ssh_config import Destination
from pi_cli.ssh.trust import Trust
from pi_cli.store import debug

CONNECT_TIMEOUT = 15.0  # seconds for the TCP connection and the SSH banner


@asynccontextmanager
async def connect(
    pod: str,
    ssh: str,
    *,
    learn: bool = False,
    accept_new: bool = False,
    connect_timeout: float | None = None,
    keepalive: float | None = None,
    at_once: bool = False,
    early_only: bool = False,
    slot: AbstractAsyncContextManager[object] | None = None,
) -> AsyncIterator[PodSession]:
    """Log in to a pod and verify its host key.

    With `at_once` the block begins before the login is complete, so that what it asks for first can travel with it; an
    error of the login is raised in the block, by what it does with the session. `slot` is entered for the login only.

    With `early_only` there is no login but an early one, straight to the pod: all else raises `NotEarly` in the block.

    `learn` (setup) accepts and pins the keys of a pod that has no pinned key, and of its jump hosts; `accept_new` also
    accepts changed ones. `connect_timeout` is the pod's own, in seconds. `keepalive` is in seconds, if not as usual: a
    connection with three unanswered keepalives is dead.
    """
    command = ssh_command.parse(ssh)
    _refuse_runpod_proxy(pod, command)
    if learn:
        for file in command.missing_keys:
            speaker.get().note(f"{pod}: identity file `{file}` is not accessible: continuing without it, as ssh does")

    async def log_in(session: PodSession, stack: AsyncExitStack) -> None:
        with waits.on("connecting to", pod):
            async with slot or nullcontext():
                await _log_in(
                    session, stack, ssh, command,
                    learn=learn, accept_new=accept_new, connect_timeout=connect_timeout, keepalive=keepalive,
                    early_only=early_only,
                )  # fmt: skip

    session = PodSession(pod, command.host)
    session.ssh = ssh
    async with AsyncExitStack() as stack:
        if not at_once:
            await log_in(session, stack)
            yield session
            return
        session.login = login = asyncio.create_task(log_in(session, stack))
        try:
            yield session
            await login
        finally:
            login.cancel()
            await asyncio.wait([login])
            login.cancelled() or login.exception()  # asyncio prints an error that is taken by nobody


async def _log_in(
    session: PodSession,
    stack: AsyncExitStack,
    ssh: str,
    command: SshCommand,
    *,
    learn: bool,
    accept_new: bool,
    connect_timeout: float | None,
    keepalive: float | None,
    early_only: bool,
) -> None:
    """Log in to each machine of the route, and open the session on the last one."""
    pod = session.pod
    route = await ssh_config.route(command)
    if early_only:
        _require_a_plain_session(route)
        session.environment = session_settings.sent_environment(route[-1])
    timeout = CONNECT_TIMEOUT
    via: asyncssh.SSHClientConnection | None = None
    learned: dict[str, str] = {}
    asked = False
    for destination in route:
        is_pod = destination is route[-1]
        timeout = _connect_timeout(command, connect_timeout, destination)
        trust = _trust(pod, ssh, destination, is_pod=is_pod, learn=learn, accept_new=accept_new)
        hint = "check the ssh command, and that the machine is running" if learn else None
        missing = command.missing_keys if is_pod else []
        login = Login(pod, ssh, destination, trust, via, timeout, is_pod, hint, missing)
        login.keepalive = keepalive or login.keepalive
        login.early_only = early_only
        if is_pod:
            login.first = session.first_of_all
        debug.note(f"{pod}: logging in to {login.machine}, time-out {timeout:g} s")
        via = await login.connect(stack)
        server = via.get_extra_info("server_version")
        debug.note(f"{pod}: logged in to {server} with {login.tried[-1] if login.tried else 'no key'}")
        asked = asked or login.asked_a_person
        key = via.get_server_host_key()
        if key and (fingerprint := trust.remember(key)):
            learned[str(destination)] = fingerprint
        if login.begun:
            debug.note(f"{pod}: {login.begun[0].command[:SHOWN_COMMAND]} was sent with the login")
            session.began_with(*login.begun)
    assert via
    session.host = route[-1].host
    session.silence = _silence(timeout)
    session.learned = learned.pop(str(route[-1]), None)
    session.learned_on_the_way = learned
    session.asked_a_person = asked
    session.opened(via)


def _require_a_plain_session(route: Sequence[Destination]) -> None:
    """Raise `NotEarly` if the user's own ssh would do more on this route than run a command."""
    asked = "jump hosts" if len(route) > 1 else session_settings.asks_for_more(route[-1])
    if asked:
        debug.note(f"{route[-1]}: {asked} are left to ssh")
        raise NotEarly


def _silence(connect_timeout: float) -> float:
    """Return how long a program on a pod may be silent: in the ratio in which connections may take longer, or less."""
    scale = connect_timeout / CONNECT_TIMEOUT
    return SILENCE * (scale if "PI_CONNECT_TIMEOUT" in os.environ else max(1.0, scale))


def _refuse_runpod_proxy(pod: str, command: SshCommand) -> None:
    """Refuse RunPod's proxy: it offers a terminal only, no commands and no files."""
    if command.host.endswith("ssh.runpod.io"):
        raise PodUnreachable(
            pod,
            "this is RunPod's basic proxy, which runs no commands",
            hint='use the line under "SSH over exposed TCP" in the pod\'s Connect dialog: `ssh root@IP -p PORT -i KEY`',
        )


def _trust(pod: str, ssh: str, destination: Destination, *, is_pod: bool, learn: bool, accept_new: bool) -> Trust:
    name = pod if is_pod else host_keys.jump_host_name(pod, destination.known_name)
    key_label = "its host key" if is_pod else f"the host key of jump host {destination}"
    return Trust(pod, name, key_label, ssh, destination, learn or accept_new, accept_new)


def _connect_timeout(command: SshCommand, pods_own: float | None, destination: Destination) -> float:
    """Return the first that is set: in the environment, the ssh command, the pod's entry, the user's configuration."""
    if value := os.environ.get("PI_CONNECT_TIMEOUT"):
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0
        if not 0 < seconds < float("inf"):
            raise BadUsage(f"PI_CONNECT_TIMEOUT is `{value}`, which is not a number of seconds")
        return seconds
    configured = destination.option("connecttimeout")
    return command.connect_timeout or pods_own or float(configured or 0) or CONNECT_TIMEOUT
