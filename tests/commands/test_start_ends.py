"""What `pi start` leaves on the screen and on stdout."""

from collections.abc import Callable

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi
from tests.terminal import at_a_terminal
from tests.until import until
from tests.view.screen import Screen

START = ("start", "Qwen/Qwen3-8B", "--name", "q")


def shown(*words: str) -> tuple[list[str], str]:
    """Return the rows that a command leaves on a terminal, and the bytes."""
    with at_a_terminal(*words) as terminal:
        terminal.wait()
        until(lambda: "try it" in terminal.text or "error:" in terminal.text)
        screen = Screen(80)
        screen.raw = terminal.raw
        return [row for row in screen.rows if row], terminal.raw


@pytest.mark.usefixtures("pod")
def test_one_start_leaves_its_url_bold_and_what_to_type(pi: Pi) -> None:
    rows, raw = shown(*START)
    [url] = pi("list", "--json").json
    ready, took, hint = rows[-3:]
    assert ready == f"ready `q` on `dc1`: http://127.0.0.1:{url['port']}/v1"
    assert took.startswith("took ")
    assert hint == 'try it with `pi prompt q "What is 2+2?"`'
    assert len(rows) <= 7, rows  # and two reasons, in up to two rows each
    assert f"\x1b[1mhttp://127.0.0.1:{url['port']}/v1" in raw
    assert "\x1b[2mtook" in raw


def test_several_pods_have_a_line_each_and_each_failure_is_there_once(embed: Callable[..., EmbeddedPod]) -> None:
    embed("dc1")
    embed("prod-eu-1")
    embed("dead").close()
    rows, _ = shown(*START, "--pod", "dc1", "--pod", "prod-eu-1", "--pod", "dead")
    text = "\n".join(rows)
    begin = rows.index("ready `q` on 2 pods:")
    assert rows[begin + 1].startswith("  dc1        http://127.0.0.1:")
    assert rows[begin + 2].startswith("  prod-eu-1  http://127.0.0.1:")
    assert rows[begin + 3] == 'try it with `pi prompt q "What is 2+2?"`'
    assert text.count("cannot reach pod `dead`") == 1


@pytest.mark.usefixtures("pod")
def test_quietly_it_prints_the_url_alone(pi: Pi) -> None:
    started = pi(*START, "-q")
    assert (started.code, started.err) == (0, "")
    [model] = pi("list", "--json").json
    assert started.out == f"http://127.0.0.1:{model['port']}/v1\n"
    attached = pi("start", "--attach", "q", "--quiet")
    assert (attached.out, attached.err) == (started.out, "")
    private = pi("start", "Qwen/Qwen3-8B", "--name", "r", "-q", "--private")
    assert (private.code, private.out, private.err) == (0, "", "")
    failed = pi(*START, "-q")
    assert (failed.code, failed.out) == (1, "")
    assert failed.err.startswith("error: `q` already runs here")
