"""Live views on low and narrow terminals: what is left on the screen and above it, when they end."""

import io
import textwrap
from collections import Counter

import pytest
from rich.console import Console
from rich.text import Text

from pi_cli.view import late, live, waiting
from tests.until import until
from tests.view.screen import Screen, running

SIZES = [(80, 24), (120, 5), (40, 20)]
PODS = [f"pod{number}" for number in range(30)]
MODELS = """
    import sys, time
    sys.stdout = sys.stderr
    from pi_cli.events import Note, Output, Phase
    from pi_cli.models.model_status import Listed
    from pi_cli.store.records import Model
    from pi_cli.view import listing, progress

    pods = [f"pod{number}" for number in range(30)]
    def models(pod):
        number = int(pod[3:])
        names = [f"model-{number}", *([f"other-{number}"] if number < 10 else [])]
        qwen = Model("Qwen/Qwen2.5-72B-Instruct", port=8001, gpu="0", pid=7)
        return [Listed(pod, name, qwen, "ready", f"http://203.0.113.{number}:8001/v1", age=7500) for name in names]
"""
ASKED = f"""{MODELS}
    with listing.live_board(pods, stays=False) as board:
        for pod in pods:
            board.see(pod, models(pod))
            time.sleep(0.02)
        board.report(Note("pod3", "a remark"))
        time.sleep(0.3)
    listing.show([model for pod in pods for model in models(pod)])
"""
WATCHED = f"""{MODELS}
    with listing.live_board(pods, stays=True) as board:
        for pod in pods:
            board.see(pod, models(pod))
        sys.stdin.readline()
"""
FOLLOWED = f"""{MODELS}
    with progress.following(pods) as report:
        for pod in pods:
            report(Output(pod, "a line of vLLM's log, longer than the terminal is wide " * 5))
            time.sleep(0.02)
    print("the end")
"""


def end(program: str, width: int, height: int) -> Screen:
    """Return what is left of a program that has ended by itself."""
    with running(textwrap.dedent(program), width=width, height=height) as (screen, process):
        assert process.wait(30) == 0
    return screen


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_list_for_which_pods_were_asked_has_each_model_once(width: int, height: int) -> None:
    rows = [row for row in end(ASKED, width, height).rows if not row.startswith(("note:", "e URLs;"))]
    names = Counter(row.split()[1] for row in rows)
    expected = [f"model-{number}" for number in range(30)] + [f"other-{number}" for number in range(10)]
    assert names == Counter(["NAME", *expected])


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_watched_list_never_leaves_the_screen_and_remains_as_a_whole_at_the_end(width: int, height: int) -> None:
    with running(textwrap.dedent(WATCHED), width=width, height=height) as (screen, process):
        until(lambda: f"… {40 - height + 3} more models" in screen.rows)
        assert len(screen.rows) == height - 1
        assert max(map(len, screen.rows)) < width - len("^C")  # which terminals echo behind the last row
        process.communicate("\n", timeout=20)
    assert len(screen.rows) == 1 + 40
    assert [row.split()[0] for row in screen.rows].count("POD") == 1


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_rows_of_many_starts_leave_nothing_behind(width: int, height: int) -> None:
    assert end(FOLLOWED, width, height).rows == ["the end"]


def test_what_does_not_fit_is_counted() -> None:
    lines = live.fitting([Text("NAME")], [[Text(pod)] for pod in PODS], 5, "pods", "…")
    assert [line.plain for line in lines] == ["NAME", "pod0", "pod1", "pod2", "… 27 more pods"]
    whole = live.fitting([Text("NAME")], [[Text(pod)] for pod in PODS], None, "pods", "…")
    assert len(whole) == 31


@pytest.mark.parametrize(("terminal", "erased"), [("xterm-256color", 2 * 3 - 1), ("linux", 3 - 1)])
def test_rows_that_a_narrower_window_has_split_are_removed_where_terminals_split_them(
    monkeypatch: pytest.MonkeyPatch, terminal: str, erased: int
) -> None:
    monkeypatch.setenv("TERM", terminal)
    for name in ("TMUX", "XTERM_VERSION"):
        monkeypatch.delenv(name, raising=False)
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=120, height=24)
    view = live.view(console, lambda _: Text("\n".join(["x" * 100] * 3)), refresh_per_second=0.001)
    view.start(refresh=True)
    before = len(written.getvalue())
    console.width = 60
    view.refresh()
    moved = written.getvalue()[before:].count("\x1b[1A")
    view.stop()
    assert moved == erased


class Drawn:
    """A view that notes when it is drawn."""

    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    def start(self, refresh: bool = False) -> None:
        assert refresh
        self._seen.append("start")

    def stop(self) -> None:
        self._seen.append("stop")


def test_a_late_view_is_drawn_only_if_the_wait_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    short = late.LateView(lambda: Drawn(seen))
    short.start()
    short.stop()
    short.stop()
    monkeypatch.setattr(waiting, "DELAY", 0.0)
    long = late.LateView(lambda: Drawn(seen))
    long.start()
    until(lambda: seen == ["start"], "it is drawn")
    long.stop()
    assert seen == ["start", "stop"]
