"""The progress of a start, from the agent's events."""

import asyncio

from pi_cli.events import Event, Note
from pi_cli.models.start_progress import StartProgress
from pi_cli.pods.reports import Downloaded, Launched, PhaseEntered, StartEvent


def test_when_nothing_changes_for_long_that_is_reported_and_the_start_continues() -> None:
    events: list[Event] = []

    async def wait() -> None:
        progress = StartProgress("dc1", events.append, unchanged_after=0.05)
        progress.see(Downloaded(5, 9, ""))
        with progress.monitored():
            async with asyncio.timeout(10):
                while len([event for event in events if isinstance(event, Note)]) < 2:
                    progress.see(Downloaded(5, 9, ""))  # not a change
                    await asyncio.sleep(0.01)

    asyncio.run(wait())
    assert [event.text for event in events if isinstance(event, Note)][:2] == [
        "nothing has changed for 0.1 s; still waiting (Ctrl+C stops the start)",
        "nothing has changed for 0.1 s; still waiting (Ctrl+C stops the start)",
    ]


def test_the_times_of_phases_add_up_to_the_whole() -> None:
    async def see() -> dict[str, float]:
        progress = StartProgress("dc1", lambda _: None)
        events: list[StartEvent] = [
            Launched(7),
            PhaseEntered("loading weights", 10.0),
            PhaseEntered("loading weights 1/2", 12.0),
            PhaseEntered("warming up", 30.5),
        ]
        for event in events:
            progress.see(event)
        return progress.phases(40.0)

    assert asyncio.run(see()) == {"starting vLLM": 10.0, "loading weights": 20.5, "warming up": 9.5}


def test_a_start_that_was_not_followed_from_its_beginning_has_no_times() -> None:
    async def see() -> dict[str, float]:
        progress = StartProgress("dc1", lambda _: None)
        progress.see(Launched(7))
        progress.see(PhaseEntered("loading weights", None))
        progress.see(PhaseEntered("warming up", 30.5))
        return progress.phases(40.0)

    assert asyncio.run(see()) == {}
