"""The model that `pi prompt` asks, and the way to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pi_cli.commands import options
from pi_cli.commands.prompt_options import Api
from pi_cli.errors import PiError
from pi_cli.store.records import Model, Pod

if TYPE_CHECKING:
    from pi_cli.chat.access import Access
    from pi_cli.chat.agent import Conversation
    from pi_cli.chat.client import Client, ServedModel
    from pi_cli.ssh.session import PodSession
    from pi_cli.store.keys import ApiKey
    from pi_cli.view.chat import Screen

LOOKUP_SECONDS = 5.0  # for the tool-call parser of a model that was started without one


@dataclass(frozen=True, slots=True)
class Target:
    """The model to ask, and how to connect to it."""

    pod_name: str
    pod: Pod
    name: str
    model: Model
    key: "ApiKey"
    spelled: str
    sessions: "list[PodSession]" = field(default_factory=list)
    """The connection to the pod, while there is one."""

    async def is_stalled(self) -> bool:
        """Ask the pod whether the model takes requests and answers none."""
        from pi_cli.models import listing

        with suppress(PiError):
            for session in self.sessions:
                model = (await listing.alive(session)).get(self.name)
                return model is not None and model.status == "stalled"
        return False

    def served(self) -> "ServedModel":
        """Return the model as requests and hints name it."""
        from pi_cli.chat.client import ServedModel

        pod = None if self.spelled == self.name else self.pod_name
        return ServedModel(self.name, pod, self.model.key_variable, self.is_stalled)

    def conversation(
        self, access: "Access", screen: "Screen", *, api: Api, use_tools: bool, continues: bool, system: str | None
    ) -> "Conversation":
        from pi_cli.chat import completions, responses
        from pi_cli.chat.agent import Conversation
        from pi_cli.chat.tools import toolbox
        from pi_cli.store import conversations

        cwd = access.cwd
        kept = conversations.load(cwd) if continues else None
        return Conversation(
            self.served(),
            cwd,
            screen.draw,
            toolbox(cwd, access) if use_tools else {},
            responses.take_turn if api is Api.responses else completions.take_turn,
            messages=list(kept.messages) if kept else [],
            system=kept.system if kept and system is None else system,
            reach=access.description(),
            tool_parser=lambda: _tool_parser(self.model.model),
        )

    @asynccontextmanager
    async def connected(self) -> AsyncIterator["Client"]:
        """Connect to the pod and give a client whose requests go through that connection."""
        import asyncio

        from pi_cli.chat import client
        from pi_cli.hold import connecting
        from pi_cli.models.door import Door

        # importing httpx2 takes a tenth of a second
        importing = asyncio.create_task(asyncio.to_thread(client.warm_up))
        connection = connecting.connect(self.pod_name, self.pod.ssh, connect_timeout=self.pod.connect_timeout)
        async with connection as session:
            door = Door(session, self.name, key=self.key)
            door.expect(self.model)
            async with door.socket() as socket:
                await importing
                from pi_cli.models import plain_http  # not earlier: it imports what was just loaded in the thread

                self.sessions[:] = [session]
                async with client.open_client(plain_http.over(socket), api_key=self.key.value) as http:
                    yield http


async def _tool_parser(model: str) -> str | None:
    """Return the tool-call parser for a model; None if it is unknown or the lookup failed."""
    import asyncio

    from pi_cli.planning import lookup
    from pi_cli.planning.profile import KnownModel

    with suppress(PiError, TimeoutError):
        async with asyncio.timeout(LOOKUP_SECONDS):
            token, endpoint = await asyncio.to_thread(options.hub_settings)  # the Hub may have to refresh a token
            profile = await lookup.find(model, token=token, endpoint=endpoint)
            return profile.tool_call_parser if isinstance(profile, KnownModel) else None
    return None
