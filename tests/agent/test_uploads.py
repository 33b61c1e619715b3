"""The agent's half of an upload: complete or absent, whatever happens while it runs."""

import hashlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pi_cli.models import local_files
from pi_cli.models.local_files import LocalFile
from tests.agent.machine import Machine, messages
from tests.until import until

if TYPE_CHECKING:
    from agent import protocol

CONTENT = {"a.json": b"{}", "b.safetensors": bytes(1000)}


@pytest.fixture
def digest(tmp_path: Path) -> str:
    """The digest as pi computes it."""
    for name, content in CONTENT.items():
        (tmp_path / name).write_bytes(content)
    files = [LocalFile(name, tmp_path / name, len(content)) for name, content in CONTENT.items()]
    return local_files.digest(files)


def request(digest: str, *, sends: bool) -> "protocol.StoreRequest":
    files: list[protocol.UploadedFile] = [{"name": name, "size": len(data)} for name, data in CONTENT.items()]
    return {"digest": digest, "files": files, "sends": sends}


def answer(process: "subprocess.Popen[bytes]", content: bytes = b"") -> dict[str, Any]:
    with process:
        output, _ = process.communicate(content)
    return messages(output)[-1]


def uploads(machine: Machine) -> set[str]:
    folder = machine.home / ".pi" / "uploads"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_files_are_stored_and_then_known(machine: Machine, digest: str) -> None:
    folder = str(machine.home / ".pi" / "uploads" / digest)
    assert machine.ask("store", **request(digest, sends=False)) == {"result": {"folder": folder, "is_stored": False}}
    assert uploads(machine) == set()
    stored = answer(machine.open("store", **request(digest, sends=True)), b"".join(CONTENT.values()))
    assert stored == {"result": {"folder": folder, "is_stored": True}}
    assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == CONTENT
    assert machine.ask("store", **request(digest, sends=False))["result"]["is_stored"]


def test_an_incomplete_upload_leaves_nothing(machine: Machine, digest: str) -> None:
    refused = answer(machine.open("store", **request(digest, sends=True)), b"{}" + bytes(999))
    assert refused["refusal"]["code"] == "os"
    assert uploads(machine) == set()


def test_other_content_than_announced_is_not_stored(machine: Machine) -> None:
    wrong = hashlib.sha256(b"other").hexdigest()[: local_files.DIGEST_LENGTH]
    refused = answer(machine.open("store", **request(wrong, sends=True)), b"".join(CONTENT.values()))
    assert "changed while they were uploaded" in refused["refusal"]["reason"]
    assert uploads(machine) == set()


def test_what_a_killed_agent_left_is_deleted_by_the_next_upload(machine: Machine, digest: str) -> None:
    with machine.open("store", **request(digest, sends=True)) as process:
        assert process.stdin
        process.stdin.write(b"{}")
        process.stdin.flush()
        until(lambda: any(name.startswith(".new.") for name in uploads(machine)))
        other = answer(machine.open("store", **request(digest, sends=True)), b"".join(CONTENT.values()))
        assert other["result"]["is_stored"]
        assert len(uploads(machine)) == 2  # the first upload still runs: its files stay
        process.kill()
    (machine.home / ".pi" / "uploads" / digest / "a.json").unlink()
    assert answer(machine.open("store", **request(digest, sends=True)), b"".join(CONTENT.values()))["result"]
    assert uploads(machine) == {digest}


def test_a_damaged_copy_is_replaced(machine: Machine, digest: str) -> None:
    content = b"".join(CONTENT.values())
    answer(machine.open("store", **request(digest, sends=True)), content)
    os.truncate(machine.home / ".pi" / "uploads" / digest / "b.safetensors", 10)
    assert not machine.ask("store", **request(digest, sends=False))["result"]["is_stored"]
    assert answer(machine.open("store", **request(digest, sends=True)), content)["result"]["is_stored"]


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".ssh", "-rf"])
def test_a_name_that_leaves_the_folder_is_refused(machine: Machine, digest: str, name: str) -> None:
    wrong = request(digest, sends=True)
    wrong["files"][0]["name"] = name
    assert answer(machine.open("store", **wrong), b"x")["refusal"]["code"] == "bug"
    assert uploads(machine) == set()
