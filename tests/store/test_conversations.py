"""The last conversation of each directory."""

import os
import stat
from pathlib import Path

import pytest

from pi_cli.errors import BadUsage
from pi_cli.store import conversations, paths
from pi_cli.store.conversations import SavedConversation


def kept(directory: Path, text: str = "Hello") -> SavedConversation:
    return SavedConversation(str(directory), "q", None, [{"role": "user", "content": text}])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_kept_is_found_again_in_its_directory_only(tmp_path: Path) -> None:
    conversations.save(kept(tmp_path / "a", "caf\udce9"))
    conversations.save(kept(tmp_path / "b"))

    assert conversations.load(tmp_path / "a") == kept(tmp_path / "a", "caf\udce9")
    with pytest.raises(BadUsage, match="there is no conversation to continue in"):
        conversations.load(tmp_path / "c")


def test_a_directory_has_one_conversation_its_last() -> None:
    here = Path.cwd()
    conversations.save(kept(here, "One"))
    conversations.save(kept(here, "Two"))

    assert conversations.load(here) == kept(here, "Two")


def test_other_users_cannot_read_them(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        conversations.save(kept(tmp_path))
        history = conversations.history_file()
    finally:
        os.umask(before)
    folder = paths.config_dir() / "conversations"
    assert (mode(folder), mode(paths.config_dir())) == (0o700, 0o700)
    assert {mode(path) for path in [history, *folder.iterdir()]} == {0o600}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"messages": 1}', '{"directory": "/elsewhere"}'])
def test_a_broken_file_is_reported_and_left_alone(tmp_path: Path, text: str) -> None:
    conversations.save(kept(tmp_path))
    [path] = (paths.config_dir() / "conversations").iterdir()
    path.write_text(text)

    with pytest.raises(BadUsage, match="cannot be read"):
        conversations.load(tmp_path)
    assert path.read_text() == text


def test_only_so_many_directories_are_remembered(tmp_path: Path) -> None:
    conversations.save(kept(tmp_path / "oldest"))
    folder = paths.config_dir() / "conversations"
    [oldest] = folder.iterdir()
    os.utime(oldest, (0, 0))
    for number in range(conversations.MAX_CONVERSATIONS):
        (folder / f"{number}.json").write_text("{}")
    conversations.save(kept(tmp_path / "newest"))

    assert not oldest.exists()
    assert len(list(folder.iterdir())) == conversations.MAX_CONVERSATIONS
    assert conversations.load(tmp_path / "newest")


def test_a_long_history_loses_its_first_half() -> None:
    path = conversations.history_file()
    entries = [f"\n# 2026-01-01\n+prompt {number}\n" for number in range(60_000)]
    path.write_text("".join(entries))
    conversations.history_file()

    left = path.read_text()
    assert left.startswith("\n# ")
    assert left.endswith(entries[-1])
    assert len(left) <= conversations.MAX_HISTORY // 2
