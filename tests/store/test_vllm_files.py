"""What vLLMs said about themselves: few files, private, and never trusted beyond their digest."""

import os
from pathlib import Path

import pytest

from pi_cli.store import vllm_files


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))
    return tmp_path / "abilities"


def test_a_text_is_kept_under_its_digest_for_the_user_alone(folder: Path) -> None:
    vllm_files.write("{}")
    digest = vllm_files.digest_of("{}")
    assert vllm_files.read(digest) == "{}"
    assert vllm_files.digests() == [digest]
    assert (folder / f"{digest}.json").stat().st_mode & 0o777 == 0o600


def test_the_oldest_make_room_for_new_ones(folder: Path) -> None:
    texts = [str(number) for number in range(vllm_files.MAX_FILES + 3)]
    for age, text in enumerate(texts):
        vllm_files.write(text)
        os.utime(folder / f"{vllm_files.digest_of(text)}.json", (age, age))
    kept = [text for text in texts if vllm_files.read(vllm_files.digest_of(text)) is not None]
    assert kept == texts[-vllm_files.MAX_FILES :]


@pytest.mark.parametrize("digest", ["", "../pods", "0" * 64, "/etc/passwd"])
def test_what_is_not_there_is_none(digest: str) -> None:
    assert vllm_files.read(digest) is None
    assert vllm_files.digests() == []


def test_a_large_file_is_not_read(folder: Path) -> None:
    text = "x" * (vllm_files.MAX_SIZE + 1)
    folder.mkdir()
    (folder / f"{vllm_files.digest_of(text)}.json").write_text(text)
    assert vllm_files.read(vllm_files.digest_of(text)) is None


def test_a_folder_that_cannot_be_written_is_not_an_error(folder: Path) -> None:
    folder.write_text("a file in its place")
    vllm_files.write("{}")
    assert vllm_files.digests() == []
