"""Reconnecting after a lost connection: the pauses, what is reported, when it ends."""

import asyncio

import pytest

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.errors import HostKeyChanged, PiError, PodUnreachable
from pi_cli.ssh import reconnect
from pi_cli.ssh.reconnect import STEADY_AFTER, Reconnection
from pi_cli.ssh.session import PodSession
from pi_cli.store.records import Pod
from tests.lab.relay import Relay

LOST = PodUnreachable("dc1", "the connection was lost")
REFUSED = PodUnreachable("dc1", "it refused the connection")


class Outages:
    """A reconnection whose clock is set by the test, and what it reports."""

    def __init__(self, *, each_reason: bool = False, give_up_after: float = 600.0) -> None:
        self.now = 1000.0
        self.reports: list[str] = []
        self.reconnection = Reconnection(
            on_lost=lambda error: self.reports.append(str(error)),
            on_back=lambda: self.reports.append("back"),
            each_reason=each_reason,
            give_up_after=give_up_after,
            give_up_hint="look at the log",
            clock=lambda: self.now,
        )
        self.reconnection.connected()

    def fail(self, error: PiError = LOST, *, after: float = 0.0) -> float:
        """Let time pass, let an attempt fail, and return the pause that follows."""
        self.now += after
        return self.reconnection.pause_after(error)


def test_pauses_grow_and_the_last_one_repeats() -> None:
    outages = Outages()
    assert [outages.fail() for _ in range(7)] == [1, 2, 4, 8, 15, 15, 15]


def test_a_loss_after_a_steady_connection_starts_with_the_first_pause() -> None:
    outages = Outages()
    assert [outages.fail(), outages.fail()] == [1, 2]
    outages.reconnection.connected()
    assert outages.fail(after=STEADY_AFTER) == 4
    outages.reconnection.connected()
    assert outages.fail(after=STEADY_AFTER + 1) == 1


def test_a_connection_is_as_old_as_its_first_answer() -> None:
    outages = Outages()
    outages.fail()
    for _ in range(4):
        outages.now += STEADY_AFTER / 2
        outages.reconnection.connected()
    assert outages.fail() == 1


def test_time_spent_without_a_connection_does_not_count_as_steady() -> None:
    outages = Outages()
    assert [outages.fail(after=STEADY_AFTER / 2) for _ in range(6)] == [1, 2, 4, 8, 15, 15]


def test_a_loss_after_progress_starts_with_the_first_pause() -> None:
    outages = Outages()
    assert [outages.fail(), outages.fail()] == [1, 2]
    outages.reconnection.connected()
    outages.reconnection.progressed()
    assert outages.fail() == 1


def test_loss_and_return_are_reported_once_per_outage() -> None:
    outages = Outages()
    assert outages.reports == []
    for _ in range(2):
        for error in (LOST, REFUSED, REFUSED):
            outages.fail(error)
        outages.reconnection.connected()
        outages.reconnection.connected()
    assert outages.reports == [str(LOST), "back"] * 2


def test_each_new_reason_is_reported_if_wanted() -> None:
    outages = Outages(each_reason=True)
    for _ in range(2):
        for error in (LOST, REFUSED, REFUSED):
            outages.fail(error)
        outages.reconnection.connected()
    assert outages.reports == [str(LOST), str(REFUSED), "back"] * 2


def test_an_outage_that_lasts_too_long_ends_with_the_last_error_and_the_hint() -> None:
    outages = Outages(give_up_after=600)
    outages.fail(LOST, after=10_000)
    assert outages.fail(LOST, after=600) == 2
    error = PodUnreachable("dc1", "it refused the connection")
    with pytest.raises(PodUnreachable) as raised:
        outages.fail(error, after=1)
    assert (raised.value, raised.value.hint) == (error, "look at the log")


def test_an_outage_that_ends_in_time_does_not_shorten_the_next() -> None:
    outages = Outages(give_up_after=600)
    outages.fail(after=500)
    outages.fail(after=500)
    outages.reconnection.connected()
    outages.fail(after=500)
    outages.fail(after=500)


def test_a_lost_connection_is_replaced_until_the_work_is_done(pod: EmbeddedPod) -> None:
    reports: list[str] = []
    reconnection = Reconnection(lambda error: reports.append(str(error)), lambda: reports.append("back"), pauses=(0.0,))
    with Relay(pod.address, pod.port) as relay:
        entry = Pod(f"ssh -p {relay.port} -i {pod.key} root@127.0.0.1")

        async def greet(session: PodSession) -> bytes:
            greeting = await session.run("echo hello")
            reconnection.connected()
            if relay.met < 3:
                relay.cut()
                await session.run("exec sleep 1000")
            return greeting.stdout

        assert asyncio.run(reconnect.keep_connected("dc1", entry, greet, reconnection)) == b"hello\n"
        assert relay.met == 3
    assert [report == "back" for report in reports] == [False, True] * 2, reports


def test_an_error_before_the_first_answer_is_raised(pod: EmbeddedPod) -> None:
    used: list[PodSession] = []

    async def use(session: PodSession) -> None:
        used.append(session)

    with Relay(pod.address, pod.port) as relay:
        gone = Pod(f"ssh -p {relay.port} -i {pod.key} root@127.0.0.1")
    with pytest.raises(PodUnreachable, match="refused the connection"):
        asyncio.run(reconnect.keep_connected("dc1", gone, use, Reconnection(lambda _: None, pauses=(0.0,))))
    assert used == []


def test_another_machine_at_the_address_is_not_connected_to_again(pod: EmbeddedPod) -> None:
    reports: list[PiError] = []
    reconnection = Reconnection(reports.append, pauses=(0.0,))

    async def lose(session: PodSession) -> None:
        reconnection.connected()
        pod.new_host_key()
        raise PodUnreachable(session.pod, "the connection was lost")

    with pytest.raises(HostKeyChanged):
        asyncio.run(reconnect.keep_connected("dc1", Pod(pod.ssh), lose, reconnection))
    assert [str(error) for error in reports] == ["cannot reach pod `dc1`: the connection was lost"]


def test_an_error_of_the_work_itself_is_raised(pod: EmbeddedPod) -> None:
    reconnection = Reconnection(lambda _: None, pauses=(0.0,))

    async def fail(session: PodSession) -> None:
        reconnection.connected()
        raise PiError(f"no model on {session.pod}")

    with pytest.raises(PiError, match="no model on dc1"):
        asyncio.run(reconnect.keep_connected("dc1", Pod(pod.ssh), fail, reconnection))
