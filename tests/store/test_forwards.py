"""The ports that lead to models are known to other commands for as long as they are open, and no longer."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from pi_cli.store import forwards
from pi_cli.store.forwards import Forward

HOLDING = """\
import time
from pi_cli.store import forwards
with forwards.published(forwards.Forward("dc1", "q", 8001, 1)):
    print("open", flush=True)
    time.sleep(600)
"""


def folder() -> Path:
    return Path(os.environ["PI_CONFIG_DIR"], "forwards")


def test_an_open_port_is_known_until_it_is_closed() -> None:
    first, second = Forward("dc1", "q", 8002, os.getpid()), Forward("dc1", "q", 8001, os.getpid())
    with forwards.published(first), forwards.published(second), forwards.published(Forward("dc2", "q", 8003, 1)):
        assert forwards.open_to("dc1", "q") == [second, first]
        assert forwards.open_to("dc1", "other") == []
        assert folder().stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in folder().iterdir()} == {0o600}
    assert forwards.open_to("dc1", "q") == []
    assert list(folder().iterdir()) == []


def test_what_a_killed_process_left_behind_is_not_believed_and_can_be_used_again() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDING], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "open\n"
        assert [each.port for each in forwards.open_to("dc1", "q")] == [8001]
        holder.send_signal(signal.SIGKILL)
    assert forwards.open_to("dc1", "q") == []
    assert len(list(folder().iterdir())) == 1
    with forwards.published(Forward("dc1", "r", 8001, os.getpid())):
        assert [each.port for each in forwards.open_to("dc1", "r")] == [8001]


def test_a_foreign_file_is_left_out() -> None:
    folder().mkdir(parents=True)
    (folder() / "8001.json").write_text("{")
    assert forwards.open_to("dc1", "q") == []


def test_a_port_is_open_also_where_nothing_can_be_written() -> None:
    folder().parent.mkdir(parents=True, exist_ok=True)
    folder().write_text("in the way")
    with forwards.published(Forward("dc1", "q", 8001, os.getpid())):
        assert forwards.open_to("dc1", "q") == []
