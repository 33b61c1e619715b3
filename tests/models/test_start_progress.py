"""What is made of the agent's words while a model starts."""

import asyncio

from pi_cli.events import Event, Note
from pi_cli.models.start_progress import Watching
from pi_cli.pods.reports import Downloaded, Launched, PhaseEntered, StartEvent


def test_when_nothing_changes_for_long_it_is_said_and_gone_on() -> None:
    said: list[Event] = []

    async def wait() -> None:
        watching = Watching("dc1", said.append, quiet=0.05)
        watching.see(Downloaded(5, 9, ""))
        with watching.noticing_silence():
            async with asyncio.timeout(10):
                while len([event for event in said if isinstance(event, Note)]) < 2:
                    watching.see(Downloaded(5, 9, ""))  # no change either
                    await asyncio.sleep(0.01)

    asyncio.run(wait())
    assert [event.text for event in said if isinstance(event, Note)][:2] == [
        "nothing has changed for 0.1 s; still waiting (Ctrl+C stops the start)",
        "nothing has changed for 0.1 s; still waiting (Ctrl+C stops the start)",
    ]


def test_the_times_of_phases_add_up_to_the_whole() -> None:
    async def see() -> dict[str, float]:
        watching = Watching("dc1", lambda _: None)
        events: list[StartEvent] = [
            Launched(7),
            PhaseEntered("loading weights", 10.0),
            PhaseEntered("loading weights 1/2", 12.0),
            PhaseEntered("warming up", 30.5),
        ]
        for event in events:
            watching.see(event)
        return watching.phases(40.0)

    assert asyncio.run(see()) == {"starting vLLM": 10.0, "loading weights": 20.5, "warming up": 9.5}


def test_times_that_were_not_seen_from_the_beginning_are_not_made_up() -> None:
    async def see() -> dict[str, float]:
        watching = Watching("dc1", lambda _: None)
        watching.see(Launched(7))
        watching.see(PhaseEntered("loading weights", None))
        watching.see(PhaseEntered("warming up", 30.5))
        return watching.phases(40.0)

    assert asyncio.run(see()) == {}
