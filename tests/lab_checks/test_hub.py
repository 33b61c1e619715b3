"""The Hub stand-in against the real `hf`, and what pi relies on when it runs `hf download` on a pod."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lab import weights
from tests.lab.hub import Hub, fingerprint
from tests.until import until

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests/lab/tiny-model"
MB = 1 << 20
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_COLOR": "1"}
Hf = subprocess.CompletedProcess[str]


class HfCommand:
    """The real `hf` of this environment, with a cache of its own and nothing of the user's settings."""

    def __init__(self, hub: Hub, home: Path) -> None:
        self.hub = hub
        self.home = home
        self.cache = home / "hf" / "hub"

    def __call__(self, *args: str, **env: str) -> Hf:
        process = self.start(*args, **env)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        own = {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.home / "hf"), "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
        return subprocess.Popen(
            [Path(sys.executable).with_name("hf"), *args],
            env={"HOME": str(self.home), "PATH": os.defpath, "LANG": "C.UTF-8"} | QUIET | own | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def snapshot(self, repo: str) -> Path:
        return self.cache / f"models--{repo.replace('/', '--')}" / "snapshots" / self.hub.commit(repo)

    def blobs(self, pattern: str = "*") -> list[Path]:
        return sorted(self.cache.glob(f"*/blobs/{pattern}"))


@pytest.fixture
def hub() -> Iterator[Hub]:
    weights.require()
    with Hub({"tiny/qwen3-chat": TINY, "tiny/gated": TINY}, gated={"tiny/gated": "hf_good"}) as hub:
        large = {"model-1.safetensors": 12 * MB, "model-2.safetensors": 12 * MB}
        hub.add_synthetic("big/model", {"config.json": b"{}", **large})
        yield hub


@pytest.fixture
def hf(hub: Hub, tmp_path: Path) -> HfCommand:
    return HfCommand(hub, tmp_path)


def fetch(url: str, headers: Mapping[str, str] | None = None, data: bytes | None = None) -> tuple[int, bytes]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, data, dict(headers or {})), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What hf does


def test_hf_download_gets_every_file_byte_for_byte(hf: HfCommand) -> None:
    result = hf("download", "tiny/qwen3-chat")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"✓ Downloaded\n  path: {hf.snapshot('tiny/qwen3-chat')}\n"
    assert contents(hf.snapshot("tiny/qwen3-chat")) == contents(TINY)


def test_a_second_download_asks_for_no_file(hf: HfCommand, hub: Hub) -> None:
    assert hf("download", "tiny/qwen3-chat").returncode == 0
    sent = hub.bytes_sent
    hub.requests.clear()
    assert hf("download", "tiny/qwen3-chat").returncode == 0
    assert hub.bytes_sent == sent
    assert hub.asked("GET", "/resolve/") == hub.asked("HEAD") == []


def test_a_dry_run_gives_the_size_of_what_is_missing_and_a_dash_for_what_is_cached(hf: HfCommand) -> None:
    assert hf("download", "big/model", "config.json").returncode == 0
    result = hf("download", "big/model", "--dry-run", "--format", "json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == [
        {"file": "config.json", "size": "-"},
        {"file": "model-1.safetensors", "size": "12.6M"},
        {"file": "model-2.safetensors", "size": "12.6M"},
    ]


def test_without_a_terminal_hf_shows_files_but_no_bytes(hf: HfCommand) -> None:
    result = hf("download", "big/model", HF_HUB_DISABLE_PROGRESS_BARS="0")
    assert "Fetching 3 files: 100%" in result.stderr
    assert "Downloading bytes" not in result.stderr


def test_progress_can_be_read_from_the_cache_folder(hf: HfCommand, hub: Hub) -> None:
    hub.rate = 40 * MB
    download = hf.start("download", "big/model")
    until(lambda: any(blob.stat().st_size > MB for blob in hf.blobs("*.incomplete")))  # weights: others are smaller
    hub.rate = 0
    listing = json.loads((hf.cache / f"models--big--model/trees/{hub.commit('big/model')}.json").read_text())
    weights = listing["files"]["model-1.safetensors"]
    assert weights["size"] == weights["lfs_size"] == 12 * MB
    unfinished = [blob.name for blob in hf.blobs("*.incomplete")]
    assert all(re.fullmatch(r"([0-9a-f]{64}|[0-9a-f]{40})\.[0-9a-f]{8}\.incomplete", name) for name in unfinished)
    assert {name.split(".")[0] for name in unfinished} & {
        file["lfs_sha256"] for file in listing["files"].values() if "lfs_sha256" in file
    }
    hub.rate = None
    assert download.wait(30) == 0
    assert {blob.name for blob in hf.blobs()} == {
        file.get("lfs_sha256", file["blob_id"]) for file in listing["files"].values()
    }
    download.communicate()


def test_a_transfer_that_is_hung_up_on_is_resumed_by_hf_itself(hf: HfCommand, hub: Hub) -> None:
    hub.cut_after = 11 * MB
    result = hf("download", "big/model")
    assert result.returncode == 0
    assert "peer closed connection without sending complete message body" in result.stderr
    resumed = [request.headers["range"] for request in hub.requests if "range" in request.headers]
    assert resumed == [f"bytes={10 * MB}-"]  # hf writes 10 MB at a time, and forgets what it had begun of the next
    for path in ("model-1.safetensors", "model-2.safetensors"):
        assert (hf.snapshot("big/model") / path).read_bytes() == hub.content("big/model", path)


def test_a_reset_connection_fails_the_download_and_the_next_one_completes_it(hf: HfCommand, hub: Hub) -> None:
    hub.cut_after, hub.cut_with_reset = 11 * MB, True
    result = hf("download", "big/model")
    assert result.returncode == 1
    assert result.stderr.strip().endswith("httpx2.ReadError: [Errno 104] Connection reset by peer")
    assert hf.blobs("*.incomplete") == []
    assert hf("download", "big/model").returncode == 0
    assert sorted(contents(hf.snapshot("big/model"))) == ["config.json", "model-1.safetensors", "model-2.safetensors"]


def test_ctrl_c_makes_hf_finish_the_files_it_has_started(hf: HfCommand, hub: Hub) -> None:
    hub.rate = 40 * MB
    download = hf.start("download", "big/model")
    until(lambda: hub.bytes_sent > MB)
    download.send_signal(signal.SIGINT)
    _, err = download.communicate(timeout=30)
    assert (download.returncode, err.strip()) == (1, "Aborted!")
    assert [blob.stat().st_size for blob in hf.blobs()].count(12 * MB) == 2


def test_sigterm_ends_hf_at_once_and_leaves_files_that_no_later_download_uses(hf: HfCommand, hub: Hub) -> None:
    hub.rate = 40 * MB
    download = hf.start("download", "big/model")
    until(lambda: any(blob.stat().st_size for blob in hf.blobs("*.incomplete")))
    download.terminate()
    download.communicate(timeout=5)
    assert download.returncode == -signal.SIGTERM
    orphans = hf.blobs("*.incomplete")
    hub.rate = None
    hub.requests.clear()
    assert hf("download", "big/model").returncode == 0
    assert len(hub.asked("GET", ".safetensors")) == 2
    assert not any("range" in request.headers for request in hub.requests)
    assert hf.blobs("*.incomplete") == orphans


def test_a_gated_repository_needs_a_token_that_has_access(hf: HfCommand, hub: Hub) -> None:
    refusal = "Error: Access denied. Model 'tiny/gated' requires approval.\n"
    for env in ({}, {"HF_TOKEN": "hf_other"}):
        result = hf("download", "tiny/gated", **env)
        assert result.returncode == 1
        assert result.stderr.startswith(refusal)
    assert hf("download", "tiny/gated", HF_TOKEN="hf_good").returncode == 0
    assert contents(hf.snapshot("tiny/gated")) == contents(TINY)
    assert fingerprint("hf_good") in {request.headers.get("authorization") for request in hub.requests}
    assert "hf_good" not in repr(hub.requests)


def test_a_revoked_token_is_refused_even_for_a_public_repository(hf: HfCommand, hub: Hub) -> None:
    hub.revoked.add("hf_old")
    result = hf("download", "tiny/qwen3-chat", HF_TOKEN="hf_old")
    assert result.returncode == 1
    assert "Client error '401 Unauthorized'" in result.stderr
    assert "Invalid credentials in Authorization header" in result.stderr


@pytest.mark.parametrize("env", [{}, {"HF_TOKEN": "hf_good"}], ids=["anonymous", "with a token"])
def test_a_missing_repository_is_called_not_found(hf: HfCommand, env: dict[str, str]) -> None:
    result = hf("download", "no/such", **env)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: Model 'no/such' not found.\n")


def test_a_missing_revision_or_file_is_called_not_found(hf: HfCommand) -> None:
    result = hf("download", "tiny/qwen3-chat", "--revision", "v9")
    assert result.stderr.startswith("Error: Revision not found in model 'tiny/qwen3-chat'.\n")
    result = hf("download", "tiny/qwen3-chat", "pytorch_model.bin")
    assert result.stderr.startswith("Error: File not found in model 'tiny/qwen3-chat'.\n")


def test_a_renamed_model_is_downloaded_under_its_old_name(hf: HfCommand, hub: Hub) -> None:
    hub.renamed["old/name"] = "tiny/qwen3-chat"
    assert hf("download", "old/name", "config.json").returncode == 0


def test_a_commit_can_be_named_instead_of_a_branch(hf: HfCommand, hub: Hub) -> None:
    assert hf("download", "tiny/qwen3-chat", "--revision", hub.commit("tiny/qwen3-chat")).returncode == 0
    assert contents(hf.snapshot("tiny/qwen3-chat")) == contents(TINY)


def test_offline_hf_finds_a_complete_snapshot_without_a_request(hf: HfCommand, hub: Hub) -> None:
    assert hf("download", "tiny/qwen3-chat").returncode == 0
    hub.requests.clear()
    result = hf("download", "tiny/qwen3-chat", "--format", "quiet", HF_HUB_OFFLINE="1")
    assert (result.returncode, result.stdout.strip()) == (0, str(hf.snapshot("tiny/qwen3-chat")))
    assert hub.requests == []


def test_offline_hf_refuses_a_snapshot_that_is_missing_or_incomplete(hf: HfCommand) -> None:
    result = hf("download", "tiny/qwen3-chat", HF_HUB_OFFLINE="1")
    assert result.returncode == 1
    assert result.stderr.startswith("Error: Local entry not found. Cannot reach ")
    assert hf("download", "tiny/qwen3-chat", "--include", "*.json").returncode == 0
    result = hf("download", "tiny/qwen3-chat", HF_HUB_OFFLINE="1")
    assert result.returncode == 1
    assert f"Incomplete snapshot available at: {hf.snapshot('tiny/qwen3-chat')}\n" in result.stderr


def test_offline_hf_takes_a_single_cached_file_for_the_whole_snapshot(hf: HfCommand) -> None:
    assert hf("download", "tiny/qwen3-chat", "config.json").returncode == 0
    assert hf("download", "tiny/qwen3-chat", HF_HUB_OFFLINE="1").returncode == 0
    assert list(contents(hf.snapshot("tiny/qwen3-chat"))) == ["config.json"]


# What the stand-in does


def test_parts_of_a_file_can_be_asked_for(hub: Hub) -> None:
    url = f"{hub.url}/tiny/qwen3-chat/resolve/main/model.safetensors"
    weights = (TINY / "model.safetensors").read_bytes()
    status, size = fetch(url, {"Range": "bytes=0-7"})
    assert (status, size) == (206, weights[:8])
    _, header = fetch(url, {"Range": f"bytes=8-{7 + int.from_bytes(size, 'little')}"})
    assert "model.embed_tokens.weight" in json.loads(header)
    assert fetch(url, {"Range": "bytes=-5"}) == (206, weights[-5:])
    assert fetch(url, {"Range": f"bytes={len(weights)}-"})[0] == 416
    assert fetch(f"{hub.url}/tiny/qwen3-chat/resolve/main/config.json") == (200, (TINY / "config.json").read_bytes())


def test_folders_are_listed_as_the_hub_lists_them(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.bin").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    hub.add("a/b", tmp_path)
    tree = f"{hub.url}/api/models/a/b/tree/main"
    assert [entry["path"] for entry in json.loads(fetch(f"{tree}?recursive=true")[1])] == [
        "config.json",
        "onnx/model.bin",
    ]
    top = [(entry["type"], entry["path"]) for entry in json.loads(fetch(tree)[1])]
    assert top == [("file", "config.json"), ("directory", "onnx")]
    assert [entry["path"] for entry in json.loads(fetch(f"{tree}/onnx")[1])] == ["onnx/model.bin"]
    assert fetch(f"{tree}/nowhere")[0] == 404
    found = json.loads(fetch(f"{hub.url}/api/models/a/b/paths-info/main", data=b"paths=onnx%2Fmodel.bin&paths=no")[1])
    assert [(entry["path"], entry["lfs"]["size"]) for entry in found] == [("onnx/model.bin", 7)]
    info = json.loads(fetch(f"{hub.url}/api/models/a/b?blobs=true")[1])
    assert (info["sha"], info["gated"]) == (hub.commit("a/b"), False)
    assert [(file["rfilename"], file["size"]) for file in info["siblings"]] == [
        ("config.json", 2),
        ("onnx/model.bin", 7),
    ]


def test_a_repository_that_changed_is_a_new_commit(hf: HfCommand, hub: Hub, tmp_path: Path) -> None:
    (model := tmp_path / "model").mkdir()
    (model / "config.json").write_text("{}")
    hub.add("a/b", model)
    before = hub.commit("a/b")
    (model / "config.json").write_text('{"new": true}')
    hub.add("a/b", model)
    assert hub.commit("a/b") != before
    assert hf("download", "a/b").returncode == 0
    assert contents(hf.snapshot("a/b")) == contents(model)


def test_a_synthetic_file_of_any_size_is_the_same_wherever_one_starts_to_read(hub: Hub) -> None:
    hub.add_synthetic("big/huge", {"model.safetensors": 10**12})
    url = f"{hub.url}/big/huge/resolve/main/model.safetensors"
    _, whole = fetch(url, {"Range": "bytes=524000-525000"})
    assert fetch(url, {"Range": "bytes=524200-524300"})[1] == whole[200:301]
    assert fetch(url, {"Range": "bytes=999999999990-"})[1] == fetch(url, {"Range": "bytes=-10"})[1]
    assert len({whole[offset : offset + 8] for offset in range(0, 900, 8)}) > 100


def test_the_rate_bounds_all_transfers_and_zero_stalls_them(hub: Hub) -> None:
    hub.add_synthetic("big/slow", {"model.bin": MB})
    url = f"{hub.url}/big/slow/resolve/main/model.bin"
    hub.rate = 2 * MB
    began = time.monotonic()
    status, body = fetch(url)
    assert (status, len(body)) == (200, MB)
    assert time.monotonic() - began > 0.4
    hub.rate = 0
    with ThreadPoolExecutor() as clients:
        stalled = clients.submit(fetch, url)
        until(lambda: len(hub.asked("GET", "/big/slow/")) == 2)
        until(lambda: hub.bytes_sent == MB)  # the last piece is counted after it was sent
        hub.rate = None
        assert stalled.result(30) == (200, body)


def test_closing_the_hub_closes_stalled_transfers(hf: HfCommand) -> None:
    with Hub() as other:
        other.add_synthetic("big/model", {"model.bin": MB})
        other.rate = 0
        download = hf.start("download", "big/model", HF_ENDPOINT=other.url)
        until(lambda: other.asked("GET", "/resolve/"))
        began = time.monotonic()
    assert time.monotonic() - began < 5
    download.kill()
    download.communicate()


def test_the_hub_can_listen_on_another_address() -> None:
    with Hub({"tiny/qwen3-chat": TINY}, host="127.0.0.2") as elsewhere:
        assert elsewhere.url == f"http://127.0.0.2:{elsewhere.port}"
        assert fetch(f"{elsewhere.url}/api/models/tiny/qwen3-chat")[0] == 200
    with Hub({"tiny/qwen3-chat": TINY}, host="0.0.0.0") as everywhere:
        assert fetch(f"{everywhere.url}/api/models/tiny/qwen3-chat")[0] == 200
        assert fetch(f"http://127.0.0.2:{everywhere.port}/api/models/tiny/qwen3-chat")[0] == 200


def test_the_hub_runs_by_hand_until_ctrl_c() -> None:
    served = subprocess.Popen(
        [sys.executable, "-m", "tests.lab.hub", f"tiny/qwen3-chat={TINY}"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert served.stdout is not None
    assert fetch(f"{served.stdout.readline().strip()}/api/models/tiny/qwen3-chat")[0] == 200
    served.send_signal(signal.SIGINT)
    served.communicate(timeout=10)
    assert served.returncode == 0
