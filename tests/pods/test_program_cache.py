"""Programs for pods are made once for each state of the files that they are made of."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from pi_cli.pods import program_cache
from pi_cli.store import paths


class Maker:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.make = program_cache.kept(self._make)

    def _make(self, operation: str, *more: object) -> bytes:
        self.asked.append(operation)
        return f"program for {operation}{''.join(map(str, more))}\n".encode()


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the agent, and a folder for what is kept."""
    copied, kept = tmp_path / "agent", tmp_path / "kept"
    shutil.copytree(paths.asset("remote/agent"), copied)
    kept.mkdir()
    monkeypatch.setattr(paths, "asset", lambda _: copied)
    monkeypatch.setattr(program_cache, "folder", lambda: str(kept))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return copied


def test_a_program_is_made_once(agent: Path) -> None:
    maker = Maker()
    for _ in range(2):
        assert maker.make("survey") == b"program for survey\n"
        assert maker.make("stop") == b"program for stop\n"
    assert maker.asked == ["survey", "stop"]
    assert agent.exists()


def test_one_that_depends_on_more_is_made_each_time(agent: Path) -> None:
    maker = Maker()
    for more in ("1", "2", ""):
        assert maker.make("survey", more) == f"program for survey{more}\n".encode()
    assert maker.make("survey") == b"program for survey\n"
    assert maker.asked == ["survey"] * 3
    assert agent.exists()


@pytest.mark.parametrize("change", ["edit", "touch", "add", "remove"])
def test_a_change_of_the_agent_makes_another(agent: Path, change: str) -> None:
    maker = Maker()
    maker.make("survey")
    file = agent / "download" / "fetch.py"
    match change:
        case "edit":
            file.write_text(file.read_text() + "\n")
        case "touch":
            os.utime(file, ns=(1, 1))
        case "add":
            (agent / "more.py").touch()
        case _:
            file.unlink()
    maker.make("survey")
    maker.make("survey")
    assert maker.asked == ["survey", "survey"]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "folder"])
def test_a_damaged_one_is_replaced(agent: Path, damage: str) -> None:
    maker = Maker()
    maker.make("survey")
    [path] = (agent.parent / "kept").iterdir()
    data = path.read_bytes()
    path.unlink()
    match damage:
        case "cut":
            path.write_bytes(data[:-3])
        case "flip":
            path.write_bytes(data[:-1] + b"x")
        case "empty":
            path.touch()
        case _:
            path.mkdir()
    assert maker.make("survey") == b"program for survey\n"
    assert maker.asked == ["survey", "survey"]


def test_nothing_is_kept_where_python_writes_no_bytecode(agent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert Maker().make("survey") == b"program for survey\n"
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(program_cache, "folder", lambda: str(agent / "no such folder"))
    assert Maker().make("survey") == b"program for survey\n"
    assert not [*(agent.parent / "kept").iterdir()]
