"""`pi logs` when the link is lost: not a byte is missing, and none comes twice."""

import asyncio
import os
import random
import signal
from collections.abc import Callable
from contextlib import ExitStack

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.errors import PiError, PodUnreachable
from pi_cli.events import Event, Note
from pi_cli.models import logs
from pi_cli.models.logs import LogQuery, Source
from pi_cli.store import state
from tests.commands.log_watching import readers, speaking, watching, way_to
from tests.conftest import Pi
from tests.until import until

LOST, BACK = "note: the connection to `dc1` was lost; reconnecting\n", "note: reconnected to `dc1`\n"


def test_pi_reconnects_after_a_lost_link_and_nothing_is_missing(pod: EmbeddedPod) -> None:
    with way_to(pod, "dc1") as way, speaking(pod, said=b"one\nhalf a li") as model, watching("q") as watched:
        watched.until_out(b"one\nhalf a li")
        way.cut()
        watched.until_err(LOST)
        model.say(b"ne\ntwo\n")
        watched.until_out(b"one\nhalf a line\ntwo\n")
        model.say(b"three\n")
        watched.until_out(b"one\nhalf a line\ntwo\nthree\n")
        assert watched.err == LOST + BACK
        until(lambda: len(readers(pod)) == 1)


def test_a_link_that_breaks_again_and_again_carries_every_byte_once(pod: EmbeddedPod) -> None:
    said = random.Random(3).randbytes(2_000_000)
    words = ("q", "-n", "all", "--no-follow")
    with way_to(pod, "dc1", reset_after=600_000) as way, speaking(pod, said=said), watching(*words) as watched:
        watched.until_out(said, seconds=60)
        assert watched.process.wait(10) == 0
        assert watched.err == (LOST + BACK) * (way.met - 1)
        assert way.met > 3


def test_lines_that_match_come_once_each_over_links_that_break(pod: EmbeddedPod) -> None:
    said = b"".join(b"%s line %d\n" % (b"yes" if number % 2 else b"no", number) for number in range(60_000))
    matching = b"".join(line for line in said.splitlines(keepends=True) if line.startswith(b"yes"))
    with way_to(pod, "dc1", reset_after=200_000) as way, speaking(pod, said=said), watching("q", "--grep", "yes") as it:
        it.until_out(matching, seconds=60)
        assert way.met > 2


def test_rotation_and_restart_while_the_link_is_lost_are_caught_up_with(pod: EmbeddedPod) -> None:
    with way_to(pod, "dc1") as way, speaking(pod, said=b"old 1\n") as model, watching("q") as watched:
        watched.until_out(b"old 1\n")
        way.cut()
        watched.until_err(LOST)
        model.say(b"old 2\n")
        model.die()
        model.log.rename(model.log.with_suffix(".log.1"))
        with speaking(pod, said=b"new\n"):
            watched.until_out(b"old 1\nold 2\nnew\n")
            assert "`q` was restarted; its new log follows" in watched.err


def test_a_model_that_died_while_the_link_was_lost_ends_it(pod: EmbeddedPod) -> None:
    with way_to(pod, "dc1") as way, speaking(pod, said=b"one\n") as model, watching("q") as watched:
        watched.until_out(b"one\n")
        way.cut()
        model.say(b"last words\n")
        model.die()
        assert watched.process.wait(20) == 0
        assert watched.out == b"one\nlast words\n"
        assert watched.err.endswith("note: `q` has exited: its log does not show why\n")


def test_a_reader_killed_on_the_pod_is_replaced(pod: EmbeddedPod) -> None:
    with speaking(pod, said=b"one\n") as model, watching("q") as watched:
        watched.until_out(b"one\n")
        for reader in readers(pod):
            os.kill(reader, signal.SIGKILL)
        model.say(b"two\n")
        watched.until_out(b"one\ntwo\n")
        assert watched.err == LOST + BACK


def test_one_lost_link_does_not_disturb_the_others(embed: Callable[..., EmbeddedPod]) -> None:
    one, two = embed("dc1"), embed("dc2")
    with (
        way_to(one, "dc1") as way,
        speaking(one, "a", on="dc1", said=b"a\n"),
        speaking(two, "b", on="dc2", said=b"b\n") as b,
        watching("a", "b", "--pod", "dc1", "--pod", "dc2") as watched,
    ):
        until(lambda: len(watched.out.splitlines()) == 2)
        way.fall_silent()
        shown = watched.out
        b.say(b"goes on\n")
        watched.until_out(shown + "dc2/b │ goes on\n".encode(), seconds=5)


def test_a_link_that_never_stood_is_an_error_at_once(pod: EmbeddedPod, pi: Pi) -> None:
    with way_to(pod, "dc1") as way:
        pass
    result = pi("logs", "q", timeout=10)
    assert result.code == 3
    assert f"error: cannot reach pod `dc1`: `127.0.0.1` port {way.port} refused" in result.err
    assert LOST not in result.err


def test_another_machine_that_answers_instead_gets_nothing(pod: EmbeddedPod) -> None:
    """Fault 8."""
    with way_to(pod, "dc1") as way, speaking(pod, said=b"one\n"), watching("q") as watched:
        watched.until_out(b"one\n")
        asked = len(pod.commands)
        pod.new_host_key()
        way.cut()
        assert watched.process.wait(20) == 3
        assert "its host key changed" in watched.err
        assert len(pod.commands) == asked


def test_it_gives_up_in_the_end(pod: EmbeddedPod) -> None:
    seen, notes = bytearray(), list[Event]()
    with ExitStack() as stack, speaking(pod, said=b"one\n"):
        stack.enter_context(way_to(pod, "dc1"))
        source, pods = Source("dc1", "q"), {"dc1": state.load().pod("dc1")}

        def see(_: Source, data: bytes) -> None:
            seen.extend(data)
            stack.close()

        async def follow() -> dict[str, PiError]:
            return await logs.follow(pods, [source], LogQuery(), sink=see, report=notes.append, give_up=0.5)

        failures = asyncio.run(follow())
    assert seen == b"one\n"
    assert type(failures["dc1"]) is PodUnreachable
    assert [event.text for event in notes if isinstance(event, Note)] == [LOST.removeprefix("note: ").strip()]
