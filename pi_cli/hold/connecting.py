"""Connect to a pod: over a held link if there is one, else by a login, after which a link is held for the next time."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, cast

from pi_cli.hold import conversation, shadow
from pi_cli.hold.session import HeldSession
from pi_cli.store import debug

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from pi_cli.hold.session import LogIn
    from pi_cli.ssh.session import PodSession


@asynccontextmanager
async def connect(
    pod: str, ssh: str, *, connect_timeout: float | None = None, log_in: LogIn | None = None
) -> AsyncIterator[PodSession]:
    """Do what `login.connect` does for a pod that is set up; `log_in` is how to log in, if not simply by that.

    The block begins before the login is complete; its errors come when the connection is needed, and are the same.
    """

    def simply() -> AbstractAsyncContextManager[PodSession]:
        from pi_cli.ssh import login

        return login.connect(pod, ssh, connect_timeout=connect_timeout, at_once=True)

    log_in = log_in or simply
    async with AsyncExitStack() as stack:
        if talk := await conversation.begin(pod, ssh):
            debug.note(f"{pod}: there is a held link")
            stack.callback(talk.close)
            held = HeldSession(pod, ssh, talk, log_in, stack)
            yield cast("PodSession", held)  # it has all that one has; a test compares them
            session, is_doubtful = held.own_session, held.is_doubtful
        else:
            from pi_cli.ssh import head_start

            head_start.begin(pod)
            session, is_doubtful = await stack.enter_async_context(log_in()), False
            yield session
        if session and not session.asked_a_person:
            shadow.want(pod, ssh, connect_timeout, anew=is_doubtful)
