"""What pi remembers of the programs that pods have kept."""

from pathlib import Path

import pytest

from pi_cli.store import kept_programs

NAMES = [f"{number:032x}" for number in range(40)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path / "pi"))
    return tmp_path / "pi"


def test_each_pod_has_its_own_and_the_newest_of_them_stay() -> None:
    kept_programs.remember("dc2", "program", NAMES[0])
    for name in NAMES:
        kept_programs.remember("dc1", f"program {name}", name)
    found = [name for name in NAMES if kept_programs.read("dc1", f"program {name}") == name]
    assert found == NAMES[-kept_programs.MOST :]
    assert kept_programs.read("dc2", "program") == NAMES[0]


def test_one_that_a_pod_no_longer_has_is_forgotten_and_so_is_a_pod() -> None:
    for program in "ab":
        kept_programs.remember("dc1", program, NAMES[1])
    kept_programs.remember("dc1", "a", None)
    assert (kept_programs.read("dc1", "a"), kept_programs.read("dc1", "b")) == (None, NAMES[1])
    kept_programs.forget("dc1")
    assert kept_programs.read("dc1", "b") is None


def test_a_folder_that_cannot_be_written_only_costs_time(folder: Path) -> None:
    folder.write_text("")
    kept_programs.remember("dc1", "a", NAMES[0])
    kept_programs.forget("dc1")
    assert kept_programs.read("dc1", "a") is None
