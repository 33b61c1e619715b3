"""Downloads by the agent on this machine instead of a pod, with small scripts as `hf`."""

import fcntl
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from agent import home, memory

from pi_cli.pods import wording
from tests.agent.machine import Machine, environ, known, messages, start_request
from tests.until import until

if TYPE_CHECKING:
    from agent import protocol

COMMIT = "c0ffee"
NOTES = {
    "waits-for-download", "parts-deleted", "download-restarted", "download-stalled", "waits-for-lock", "hub-silent",
    "free-space-unknown", "lock-elsewhere", "driver-slow",
}  # fmt: skip
SHOWS_ENVIRONMENT = (
    '#!/bin/sh\nprintf "%s|" "$HF_HUB_OFFLINE" "$HF_HUB_DISABLE_XET" "$HF_TOKEN" > ~/seen\nexec sleep 300\n'
)
NEVER_RUNS = "#!/bin/sh\ntouch ~/hf-was-run\nexit 1\n"
STALLS = "#!/bin/sh\necho run >> ~/runs\nexec sleep 300\n"
STALLS_WITH_XET = '#!/bin/sh\necho "[$HF_HUB_DISABLE_XET]" >> ~/runs\n[ "$HF_HUB_DISABLE_XET" ] || exec sleep 300\n'
PART = f"{'5' * 64}.1a2b3c4d.incomplete"


class Repository:
    """A model in the cache of a machine, in the layout of hf; each blob has the name of its file."""

    def __init__(self, machine: Machine, model: str = "m/m") -> None:
        self.hub = machine.home / ".cache/huggingface/hub"
        self.folder = self.hub / f"models--{model.replace('/', '--')}"
        self.blobs = self.folder / "blobs"
        self.snapshot = self.folder / "snapshots" / COMMIT
        self.blobs.mkdir(parents=True)
        self.snapshot.mkdir(parents=True)

    def list(self, sizes: Mapping[str, int]) -> None:
        """Write the list of files, as hub 2 does."""
        (self.folder / "refs").mkdir(exist_ok=True)
        (self.folder / "trees").mkdir(exist_ok=True)
        (self.folder / "refs" / "main").write_text(COMMIT)
        files = {name: {"size": size, "blob_id": name} for name, size in sizes.items()}
        (self.folder / "trees" / f"{COMMIT}.json").write_text(json.dumps({"format_version": 1, "files": files}))

    def add(self, name: str, size: int) -> Path:
        blob = self.blobs / name
        blob.write_bytes(b"")
        os.truncate(blob, size)
        if not name.endswith(".incomplete"):
            (self.snapshot / name).symlink_to(Path("../../blobs", name))
        return blob


@pytest.fixture
def repository(machine: Machine) -> Repository:
    return Repository(machine)


def configure(machine: Machine, **settings: object) -> None:
    """Set variables of the pod, as setup does."""
    (machine.home / ".pi").mkdir(exist_ok=True)
    lines = "".join(f"export {name}='{value}'\n" for name, value in settings.items())
    (machine.home / ".pi" / "env").write_text(lines)


def download(machine: Machine, name: str = "q", **changes: Any) -> list[dict[str, Any]]:
    """Start a model that has to be downloaded, and return all messages of the agent."""
    with machine.open("start", **start_request(name) | {"download": True} | changes) as process:
        assert process.stdout is not None
        return messages(process.stdout.read())


def notes(sent: list[dict[str, Any]]) -> list[str]:
    """Return the texts of the notes in these messages."""
    return [wording.remark(cast("protocol.Note", message)) for message in sent if message.get("event") in NOTES]


def seen(machine: Machine) -> list[str]:
    """Return three variables of vLLM's environment: offline mode, Xet disabled, the token."""
    path = machine.home / "seen"
    until(lambda: path.exists() and path.read_text().count("|") == 3)
    return path.read_text().split("|")[:3]


def read_until(process: "subprocess.Popen[bytes]", matches: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        for message in messages(line):
            if matches(message):
                return message
    raise AssertionError("the agent exited without this message")


def is_note(text: str) -> Callable[[dict[str, Any]], bool]:
    return lambda message: any(text in note for note in notes([message]))


@pytest.mark.parametrize("own", ["", "0"])
def test_xet_uses_much_memory_only_where_there_is_much(machine: Machine, own: str) -> None:
    """A value of the user counts more."""
    machine.install("hf", '#!/bin/sh\necho "[$HF_XET_HIGH_PERFORMANCE]" > ~/given\nexit 1\n')
    configure(machine, **{"HF_XET_HIGH_PERFORMANCE": own} if own else {})
    download(machine)
    has_much = memory.whole_memory() >= 64 * 10**9
    assert (machine.home / "given").read_text().strip() == f"[{own or ('1' if has_much else '')}]"


# What is complete


def test_a_complete_model_needs_no_hub(machine: Machine, repository: Repository) -> None:
    machine.install("hf", NEVER_RUNS)
    machine.install("vllm", SHOWS_ENVIRONMENT)
    repository.list({"config.json": 3, "model.safetensors": 70})
    repository.add("config.json", 3)
    repository.add("model.safetensors", 70)
    sent = download(machine, download_environment={"HF_TOKEN": "t"})
    assert "result" in sent[-1]
    assert seen(machine) == ["1", "", ""]
    assert not (machine.home / "hf-was-run").exists()


@pytest.mark.parametrize("lacking", ["model.safetensors", "config.json"])
def test_a_model_of_which_a_byte_is_missing_is_downloaded(
    machine: Machine, repository: Repository, lacking: str
) -> None:
    machine.install("hf", NEVER_RUNS)
    sizes = {"config.json": 3, "model.safetensors": 70}
    repository.list(sizes)
    for name, size in sizes.items():
        repository.add(name, size - (name == lacking))
    assert download(machine)[-1]["refusal"]["code"] == "download"
    assert (machine.home / "hf-was-run").exists()


def test_a_file_in_the_snapshot_without_a_blob_counts(machine: Machine, repository: Repository) -> None:
    """On file systems without links, hf stores files like this."""
    machine.install("hf", NEVER_RUNS)
    repository.list({"config.json": 3})
    (repository.snapshot / "config.json").write_text("{ }")
    assert "result" in download(machine)[-1]


class Answering(BaseHTTPRequestHandler):
    status = 200

    def do_HEAD(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(("status", "offline"), [(200, ""), (404, ""), (429, "1"), (503, "1"), (None, "1")])
def test_own_arguments_may_use_the_hub_if_it_answers(
    machine: Machine, repository: Repository, status: int | None, offline: str
) -> None:
    machine.install("hf", NEVER_RUNS)
    machine.install("vllm", SHOWS_ENVIRONMENT)
    repository.list({"config.json": 3})
    repository.add("config.json", 3)
    handler = type("Handler", (Answering,), {"status": status})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        port = server.server_port if status else 9  # no server listens on it
        endpoint = {"HF_ENDPOINT": f"http://127.0.0.1:{port}"}
        sent = download(machine, own=True, environment=endpoint, download_environment=endpoint)
        server.shutdown()
        thread.join()
    assert "result" in sent[-1]
    assert seen(machine) == [offline, "", ""]


def test_a_model_without_a_list_of_its_files_starts_without_the_hub(machine: Machine, repository: Repository) -> None:
    """Older versions of hf write no list, so whether all files are there is unknown."""
    machine.install("hf", "#!/bin/sh\necho 'ConnectError: [Errno -2] Name or service not known'; exit 1\n")
    machine.install("vllm", SHOWS_ENVIRONMENT)
    repository.list({})
    repository.add("config.json", 3)
    sent = download(machine, own=True)
    assert "result" in sent[-1]
    assert notes(sent) == ["the Hub does not answer: using the model in the cache, which seems to be complete"]
    assert seen(machine) == ["1", "", ""]


def test_a_model_with_unfinished_files_does_not_start_without_the_hub(machine: Machine, repository: Repository) -> None:
    machine.install("hf", "#!/bin/sh\necho 'ConnectError: [Errno -2] Name or service not known'; exit 1\n")
    repository.list({})
    repository.add("config.json", 3)
    repository.add(f"{'5' * 64}.incomplete", 3)
    assert download(machine)[-1]["refusal"]["code"] == "hub-unreachable"


# Progress


def test_the_record_contains_the_progress_of_the_download(machine: Machine, repository: Repository) -> None:
    repository.list({"model.safetensors": 1000})
    repository.add("model.safetensors", 300)
    machine.install("hf", "#!/bin/sh\nwhile [ ! -e ~/go ]; do sleep 0.05; done\n")
    with machine.open("start", **start_request("q") | {"download": True}) as process:
        until(lambda: machine.records()[0].get("progress") == [0, 1000])
        repository.add(PART, 400)
        until(lambda: machine.records()[0].get("progress") == [400, 1000])
        (machine.home / "go").touch()
        assert process.stdout is not None
        assert "result" in messages(process.stdout.read())[-1]
    assert "progress" not in machine.records()[0]


def test_the_size_from_the_hub_is_the_total_until_hf_lists_the_files(machine: Machine) -> None:
    machine.install("hf", "#!/bin/sh\nexit 0\n")
    events = [event for event in download(machine, size=5000) if event.get("event") == "progress"]
    assert {(event["done"], event["total"]) for event in events} == {(0, 5000)}


# Stalls and locks


def test_a_stall_is_reported_and_retried_without_xet(machine: Machine) -> None:
    configure(machine, PI_STALL_SECONDS=0.7)
    machine.install("hf", STALLS_WITH_XET)
    machine.install("vllm", SHOWS_ENVIRONMENT)
    sent = download(machine)
    assert "result" in sent[-1]
    assert notes(sent) == ["download stalled for 1 s; restarting hf, without Xet"]
    assert (machine.home / "runs").read_text().split() == ["[]", "[1]"]
    assert seen(machine) == ["1", "", ""]


def test_a_second_stall_is_reported_repeatedly_and_does_not_end_the_start(machine: Machine) -> None:
    configure(machine, PI_STALL_SECONDS=0.7)
    machine.install("hf", STALLS)
    with machine.open("start", **start_request("q") | {"download": True}) as process:
        read_until(process, is_note("restarting hf"))
        read_until(process, is_note("download stalled for 1 s; still waiting"))
        read_until(process, is_note("download stalled for 1 s; still waiting"))
        assert (machine.home / "runs").read_text().split() == ["run", "run"]
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=10) == 0
    assert machine.records() == []


def test_a_file_too_large_for_plain_http_is_retried_with_xet(machine: Machine, repository: Repository) -> None:
    configure(machine, PI_STALL_SECONDS=0.7, PI_FREE_DISK=10**12)
    repository.list({"model.safetensors": 60 * 10**9})
    machine.install("hf", '#!/bin/sh\necho "[$HF_HUB_DISABLE_XET]" >> ~/runs\nexec sleep 300\n')
    with machine.open("start", **start_request("q") | {"download": True}) as process:
        read_until(process, is_note("download stalled for 1 s; restarting hf"))
        read_until(process, is_note("still waiting"))
        assert process.stdin is not None
        process.stdin.close()
    assert (machine.home / "runs").read_text().split() == ["[]", "[]"]


RECEIVES = """#!/usr/bin/env python3
import socket, sys
with socket.create_connection(("127.0.0.1", PORT)) as line:
    while line.recv(65536):
        pass
"""


def test_a_download_that_receives_data_but_does_not_write_yet_has_not_stalled(machine: Machine) -> None:
    """Xet keeps gigabytes in memory before it writes them."""
    configure(machine, PI_STALL_SECONDS=1.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        machine.install("hf", RECEIVES.replace("PORT", str(server.getsockname()[1])))

        def send() -> None:
            line, _ = server.accept()
            with line:
                for _ in range(8):
                    line.sendall(bytes(2_000_000))
                    threading.Event().wait(0.5)

        sending = threading.Thread(target=send)
        sending.start()
        sent = download(machine)
        sending.join()
    assert "result" in sent[-1]
    assert notes(sent) == []


WAITS_FOR_LOCK = """#!/usr/bin/env python3
import fcntl, os, time
print("run", file=open(os.path.expanduser("~/runs"), "a"))
while True:
    with open("ITS-PATH", "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            pass
    time.sleep(0.05)
"""


def test_a_lock_that_another_process_holds_is_named_and_waited_for(machine: Machine, repository: Repository) -> None:
    """Fault 42: hf waits for it without a message and without a limit."""
    configure(machine, PI_STALL_SECONDS=0.7)
    repository.list({"model.safetensors": 70})
    lock = repository.hub / ".locks" / "models--m--m" / "model.safetensors.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    machine.install("hf", WAITS_FOR_LOCK.replace("ITS-PATH", str(lock)))
    with lock.open("r+b") as held, ExitStack() as stack:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = stack.enter_context(machine.open("start", **start_request("q") | {"download": True}))
        note = read_until(process, is_note("lock"))
        assert notes([note]) == [f"waiting for the lock {lock}, which process {os.getpid()} holds"]
        until(lambda: machine.records()[0].get("progress"))
        fcntl.flock(held, fcntl.LOCK_UN)
        assert process.stdout is not None
        sent = messages(process.stdout.read())
    assert "result" in sent[-1]
    assert notes(sent) == []
    assert (machine.home / "runs").read_text().split() == ["run"]


# Disk space


def test_a_model_that_does_not_fit_is_refused_before_the_download(machine: Machine, repository: Repository) -> None:
    """Fault 39."""
    configure(machine, PI_FREE_DISK=5_000_000_000)
    machine.install("hf", NEVER_RUNS)
    repository.list({"config.json": 3})
    repository.add("config.json", 3)
    repository.list({"config.json": 3, "model.safetensors": 20_000_000_000})
    Repository(machine, "small/one").add("weights", 1_000_000_000)
    Repository(machine, "large/one").add("weights", 9_000_000_000)
    Repository(machine, "a running/one").add("weights", 30_000_000_000)
    assert "result" in machine.start("r", model="a running/one", gpus=[1])
    refusal = download(machine)[-1]["refusal"]
    hub = str(repository.hub)
    assert refusal == {
        "code": "no-room-on-disk",
        "path": hub,
        "paths": [f"{hub}/models--large--one", f"{hub}/models--small--one"],
        "frees": 10_000_000_000,
        "free": 5_000_000_000,
        "lacking": 20_000_000_000,
        "total": 20_000_000_003,
    }
    assert not (machine.home / "hf-was-run").exists()
    assert [record["name"] for record in machine.records()] == ["r"]


def test_a_model_that_is_too_large_according_to_the_hub_is_refused_too(machine: Machine) -> None:
    configure(machine, PI_FREE_DISK=5_000_000_000)
    machine.install("hf", NEVER_RUNS)
    refusal = download(machine, size=5_000_000_001)[-1]["refusal"]
    assert (refusal["free"], refusal["lacking"], refusal["total"]) == (5_000_000_000, 5_000_000_001, 5_000_000_001)
    assert refusal["paths"] == []
    assert not (machine.home / "hf-was-run").exists()


def test_a_download_is_stopped_once_hf_has_listed_more_than_fits(machine: Machine, repository: Repository) -> None:
    configure(machine, PI_FREE_DISK=5_000_000_000)
    repository.list({"model.safetensors": 6_000_000_000})
    trees = repository.folder / "trees"
    hidden = repository.folder / "hidden"
    trees.rename(hidden)
    machine.install("hf", f"#!/bin/sh\ntruncate -s 9 {repository.blobs}/{PART}\nmv {hidden} {trees}\nexec sleep 300\n")
    sent = download(machine)
    assert sent[-1]["refusal"]["code"] == "no-room-on-disk"
    assert not (repository.blobs / PART).exists()
    assert f"HOME={machine.home}".encode() not in b"".join(map(environ, Path("/proc").glob("[0-9]*")))


@pytest.mark.parametrize(
    "message",
    [
        "OSError: [Errno 28] No space left on device: '/x'",
        "RuntimeError: Data processing error: I/O error: No space left on device (os error 28)",
    ],
)
def test_a_disk_that_becomes_full_is_named_and_only_complete_files_stay(
    machine: Machine, repository: Repository, message: str
) -> None:
    """Fault 39."""
    configure(machine, PI_FREE_DISK=5_000_000_000)
    Repository(machine, "large/one").add("weights", 9_000_000_000)
    repository.list({"config.json": 3, "model.safetensors": 4_000_000_000})
    script = f"cd {repository.blobs}; printf '{{ }}' > config.json; truncate -s 9 {PART}; echo \"{message}\"; exit 1"
    machine.install("hf", f"#!/bin/sh\n{script}\n")
    refusal = download(machine)[-1]["refusal"]
    assert refusal["code"] == "no-room-on-disk"
    assert (refusal["path"], refusal["before"], refusal["free"]) == (str(repository.hub), 5_000_000_000, 5_000_000_000)
    assert refusal["paths"] == [f"{repository.hub}/models--large--one"]
    assert refusal["reason"] == message
    looked = refusal["disks"][0]
    assert (looked["place"], looked["path"], looked["trouble"]) == ("models", str(repository.hub), None)
    assert not list(machine.home.rglob(".pi-trial.*"))
    assert [blob.name for blob in repository.blobs.iterdir()] == ["config.json"]


def test_a_quota_that_is_used_up_is_reported_as_one(machine: Machine, repository: Repository) -> None:
    configure(machine, PI_FREE_DISK=5_000_000_000)
    machine.install("hf", "#!/bin/sh\necho 'OSError: [Errno 122] Disk quota exceeded'; exit 1\n")
    refusal = download(machine)[-1]["refusal"]
    assert (refusal["path"], "free" in refusal) == (str(repository.hub), False)


def test_abandoned_parts_are_deleted_and_never_counted(machine: Machine, repository: Repository) -> None:
    """Fault 40, fact 14."""
    repository.list({"model.safetensors": 1000})
    repository.add(PART, 5_000_000)
    held = repository.add(f"{'6' * 64}.1a2b3c4d.incomplete", 300)
    resumable = repository.add(f"{'7' * 64}.incomplete", 200)
    machine.install("hf", "#!/bin/sh\nexit 0\n")
    with held.open("r+b"):
        sent = download(machine)
    assert notes(sent) == ["deleted partial files of broken downloads of the model, 1 file: 5.0 MB"]
    assert not (repository.blobs / PART).exists()
    assert held.exists()
    assert resumable.exists()
    assert {message["done"] for message in sent if message.get("event") == "progress"} == {0}


def test_on_a_small_disk_parts_of_broken_downloads_are_the_first_to_delete(machine: Machine) -> None:
    """Fault 40."""
    configure(machine, PI_FREE_DISK=1000)
    other = Repository(machine, "large/one")
    other.add("weights", 9_000_000)
    part = other.add(PART, 5_000_000)
    refusal = download(machine, size=2_000_000)[-1]["refusal"]
    assert (refusal["paths"], refusal["frees"]) == ([str(part)], 5_000_000)


# Several starts


def test_two_starts_of_a_model_download_it_once(machine: Machine, repository: Repository) -> None:
    repository.list({"model.safetensors": 1000})
    script = f"""#!/bin/sh
echo run >> ~/runs
while [ ! -e ~/go ]; do sleep 0.05; done
truncate -s 1000 {repository.blobs}/model.safetensors
ln -s ../../blobs/model.safetensors {repository.snapshot}/
"""
    machine.install("hf", script)
    first, second = start_request("a"), start_request("b") | {"gpus": [1]}
    with machine.open("start", **first | {"download": True}) as one:
        until((machine.home / "runs").exists)
        repository.add(PART, 400)
        with machine.open("start", **second | {"download": True}) as other:
            note = read_until(other, is_note("waiting for it"))
            assert notes([note]) == ["another start is already downloading the model to the same cache: waiting for it"]
            repository.add(f"{'6' * 64}.1a2b3c4d.incomplete", 500)
            read_until(other, lambda message: message.get("done") == 500 and message.get("by", {}).get("is_here"))
            models = machine.survey()["result"]["models"]
            assert sorted(model["name"] for model in models) == ["a", "b"]
            (machine.home / "go").touch()
            for process in (one, other):
                assert process.stdout is not None
                assert "result" in messages(process.stdout.read())[-1]
    assert (machine.home / "runs").read_text().split() == ["run"]
    assert not list((repository.hub / ".locks").glob("*.pi-lease*"))


@pytest.fixture
def waiting(machine: Machine, repository: Repository) -> Iterator["subprocess.Popen[bytes]"]:
    """A start of `b` that waits for the download of `a`."""
    repository.list({"model.safetensors": 1000})
    machine.install("hf", STALLS)
    first, second = start_request("a"), start_request("b") | {"gpus": [1]}
    with machine.open("start", **first | {"download": True}) as one:
        until((machine.home / "runs").exists)
        with machine.open("start", **second | {"download": True}) as other:
            read_until(other, is_note("waiting for it"))
            yield other
        assert one.stdin is not None
        one.stdin.close()
        one.wait(timeout=10)


def test_a_waiting_start_ends_with_pi(machine: Machine, waiting: "subprocess.Popen[bytes]") -> None:
    assert waiting.stdin is not None
    waiting.stdin.close()
    assert waiting.wait(timeout=5) == 0
    assert [record["name"] for record in machine.records()] == ["a"]


def test_a_waiting_start_can_be_stopped(machine: Machine, waiting: "subprocess.Popen[bytes]") -> None:
    [uid] = [record["uid"] for record in machine.records() if record["name"] == "b"]
    stopped = machine.ask("stop", models=[known("b", uid)], exact=False)["result"]
    assert stopped["outcomes"] == ["stopped"]
    assert waiting.stdout is not None
    error = messages(waiting.stdout.read())[-1]["refusal"]
    assert error == {"code": "stopped", "name": "b"}
    assert [record["name"] for record in machine.records()] == ["a"]


def test_a_downloading_start_can_be_stopped(machine: Machine) -> None:
    machine.install("hf", STALLS)
    request = start_request("a")
    with machine.open("start", **request | {"download": True}) as process:
        until((machine.home / "runs").exists)
        assert machine.ask("stop", models=[known("a", request["uid"])], exact=False)["result"]
        assert process.stdout is not None
        assert messages(process.stdout.read())[-1]["refusal"]["code"] == "stopped"


def test_when_a_downloading_start_is_killed_the_next_one_continues_immediately(
    machine: Machine, repository: Repository
) -> None:
    repository.list({"model.safetensors": 1000})
    machine.install("hf", STALLS)
    request = start_request("a")
    with machine.open("start", **request | {"download": True}) as process:
        until((machine.home / "runs").exists)
        process.kill()
    machine.ask("stop", models=[known("a", request["uid"])], exact=False)
    machine.install("hf", "#!/bin/sh\nexit 0\n")
    assert list((repository.hub / ".locks").glob("*.pi-lease"))
    sent = download(machine, "b")
    assert "result" in sent[-1]
    assert notes(sent) == []


# The volume


def test_a_cache_whose_volume_is_gone_is_not_created_again(machine: Machine) -> None:
    """Fault 43."""
    machine.install("hf", NEVER_RUNS)
    (machine.home / ".cache").mkdir()
    (machine.home / ".cache/huggingface").symlink_to(machine.home / "volume/huggingface")
    for settings in ({}, {"HF_HOME": machine.home / "volume/huggingface"}):
        configure(machine, **settings)
        refusal = download(machine)[-1]["refusal"]
        assert refusal["code"] == "not-mounted"
        assert (refusal["path"], refusal["reason"]) == (f"{machine.home}/volume", "no such file or directory")
    assert not (machine.home / "volume").exists()
    assert not (machine.home / "hf-was-run").exists()
    assert machine.records() == []


def test_a_cache_that_does_not_exist_yet_is_created(machine: Machine) -> None:
    configure(machine, HF_HOME=machine.home / "elsewhere")
    machine.install("hf", "#!/bin/sh\nexit 0\n")
    assert "result" in download(machine)[-1]


def test_a_volume_that_answers_with_errors_is_named(machine: Machine) -> None:
    """Fault 43."""
    (machine.home / "a-file").touch()
    configure(machine, HF_HOME=machine.home / "a-file/huggingface")
    refusal = download(machine)[-1]["refusal"]
    assert (refusal["code"], refusal["reason"]) == ("not-mounted", "not a directory")
    assert refusal["path"].endswith("/a-file")


def test_a_download_between_two_runs_of_hf_is_not_forgotten(machine: Machine) -> None:
    """It has no process then, and may have been reserved when the pod was booted."""
    now = home.uptime()
    for name, touched in (("lives", now), ("died", now - 60)):
        record = {"uid": name, "name": name, "model": "m/m", "port": 8001, "gpu": "0", "pid": 0, "start": 0}
        record |= {"boot": home.boot_id(), "since": 0.0, "touched": touched, "log": ""}
        (machine.home / ".pi/models").mkdir(parents=True, exist_ok=True)
        (machine.home / f".pi/models/{name}.json").write_text(json.dumps(record))
    assert [model["name"] for model in machine.survey()["result"]["models"]] == ["lives"]
