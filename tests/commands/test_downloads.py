"""`pi start` while it downloads: what is said, and what becomes of it, on embedded pods with a simulated `hf`."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi, pods_json
from tests.lab.hub import Hub
from tests.openssh.at_work import pi_at
from tests.until import until

PI = (sys.executable, "-m", "pi_cli")
OWN = ("--vllm", "--simulate", "slow=0.1")


def configure(pod: EmbeddedPod, **settings: object) -> None:
    """Set variables of the pod, as setup does."""
    (pod.home / ".pi").mkdir(exist_ok=True)
    lines = "".join(f"export {name}='{value}'\n" for name, value in settings.items())
    (pod.home / ".pi" / "env").write_text(lines)


def pace(pod: EmbeddedPod, seconds: float) -> None:
    """Set how long a download takes; one that runs goes on at that pace."""
    new = pod.home / ".demo" / "hf.json.new"
    new.write_text(json.dumps({"seconds": seconds}))
    new.replace(new.with_suffix(""))


def hub(pod: EmbeddedPod) -> Path:
    return pod.home / ".cache/huggingface/hub"


def blobs(pod: EmbeddedPod, pattern: str = "*") -> list[Path]:
    return sorted(hub(pod).glob(f"models--*/blobs/{pattern}"))


def add_model(pod: EmbeddedPod, model: str, size: int) -> Path:
    """Put a model into the pod's cache that takes no room."""
    folder = hub(pod) / f"models--{model.replace('/', '--')}"
    (folder / "blobs").mkdir(parents=True)
    (folder / "blobs" / "weights").touch()
    os.truncate(folder / "blobs" / "weights", size)
    return folder


def the_hint(said: str) -> str:
    [hint] = [line for line in said.splitlines() if line.startswith("hint:")]
    return hint


def test_a_download_is_shown_with_its_rate_and_the_remaining_time(pi: Pi, pod: EmbeddedPod) -> None:
    pace(pod, 5)
    told = pi("start", "Qwen/Qwen3-8B", "--name", "q", *OWN).err
    lines = [line for line in told.splitlines() if line.startswith("dc1: downloading ")]
    assert lines[0] == "dc1: downloading 0 B"
    assert len(lines) >= 4
    assert re.fullmatch(r"dc1: downloading [\d.]+ GB of 16\.0 GB \(\d+ %\), [\d.]+ GB/s, \d+s left", lines[2])


def test_a_model_that_is_there_is_started_without_a_download(pi: Pi, pod: EmbeddedPod) -> None:
    assert pi("start", "Qwen/Qwen3-8B", "--name", "a").code == 0
    assert pi("stop", "a").code == 0
    pod.install("hf", "#!/bin/sh\ntouch ~/hf-was-run\nexit 1\n")
    again = pi("start", "Qwen/Qwen3-8B", "--name", "a")
    assert again.code == 0, again.err
    assert "downloading" not in again.err
    assert not (pod.home / "hf-was-run").exists()


def test_the_revision_of_own_arguments_is_the_one_that_is_downloaded(pi: Pi, pod: EmbeddedPod) -> None:
    own = ["--vllm", "--max-model-len", "4096", "--revision=v2"]
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q", *own).code == 0
    refs = pod.home / ".cache/huggingface/hub/models--Qwen--Qwen3-8B/refs"
    assert [each.name for each in refs.iterdir()] == ["v2"]


def test_the_list_shows_the_progress_of_a_download(pi: Pi, pod: EmbeddedPod) -> None:
    pace(pod, 60)
    with pi_at("downloading", "start", "Qwen/Qwen3-8B", "--name", "q", *OWN):
        [record] = (pod.home / ".pi" / "models").glob("*.json")
        until(lambda: (json.loads(record.read_text()).get("progress") or [0])[0] > 0)
        done, total = json.loads(record.read_text())["progress"]
        assert 0 < done < total
        assert re.search(r"starting \(downloading [\d.]+ [MG]B of 16\.0 GB, \d+s\)", pi("list").out)


def test_a_stall_is_reported_and_the_download_continues_without_xet(pi: Pi, pod: EmbeddedPod) -> None:
    configure(pod, PI_STALL_SECONDS=1)
    result = pi("start", "stall/model", "--name", "q", *OWN)
    assert result.code == 0, result.err
    assert "dc1: download stalled for 1 s; restarting hf, without Xet\n" in result.err


def test_a_model_too_large_for_the_disk_is_refused_with_what_to_delete(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 39."""
    configure(pod, PI_FREE_DISK=9 * 10**9)
    pace(pod, 60)
    old = add_model(pod, "it's/old", 12 * 10**9)
    before = Path(os.environ["PI_CONFIG_DIR"], "pods.json").read_bytes()
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q", *OWN)
    assert result.code == 4
    assert (
        f"error: cannot download `Qwen/Qwen3-8B` to `dc1`: `{hub(pod)}` has 9.0 GB free, and the model needs"
        in result.err
    )
    remove = shlex.join(["pi", "ssh", "dc1", "rm", "-rf", str(old)])
    assert the_hint(result.err) == f"hint: delete what you no longer need, for example `{remove}` (12.0 GB)"
    assert Path(os.environ["PI_CONFIG_DIR"], "pods.json").read_bytes() == before
    assert pi("list", "--json").json == []
    assert blobs(pod, "*.incomplete") == []
    if shutil.which("ssh"):
        assert pi(*shlex.split(remove)[1:]).code == 0
        assert not old.exists()


def test_a_disk_that_becomes_full_is_named_and_no_partial_file_stays(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 39."""
    result = pi("start", "no-space/model", "--name", "q", *OWN)
    assert result.code == 4
    assert f"error: cannot download `no-space/model` to `dc1`: the disk of `{hub(pod)}` became full: " in result.err
    assert "No space left on device" in result.err, "what hf said"
    assert f"note: looked at models {hub(pod)}: " in result.err
    assert the_hint(result.err) == (
        "hint: see what fills it with `pi ssh dc1 df -h`, or keep models on another disk with "
        "`pi pods setup dc1 --models-path /LARGER/DISK`"
    )
    assert blobs(pod, "*.incomplete") == []


def test_files_of_an_interrupted_download_are_deleted_and_reported(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 40."""
    orphan = add_model(pod, "Qwen/Qwen3-8B", 0) / "blobs" / f"{'5' * 64}.1a2b3c4d.incomplete"
    orphan.touch()
    os.truncate(orphan, 7 * 10**9)
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q", *OWN)
    assert "dc1: deleted partial files of broken downloads of the model, 1 file: 7.0 GB\n" in result.err
    assert not orphan.exists()


def test_two_starts_of_a_model_on_one_pod_download_it_once(pi: Pi, pod: EmbeddedPod, tmp_path: Path) -> None:
    """Either may be the one that downloads: on a busy machine the second overtakes the first."""
    waits = "dc1: another start is already downloading the model to the same cache: waiting for it\n"
    told = [tmp_path / "a", tmp_path / "b"]
    pace(pod, 600)
    with told[0].open("w") as a, told[1].open("w") as b:
        starts = [
            subprocess.Popen([*PI, "start", "Qwen/Qwen3-8B", "--name", file.name[-1], *OWN], stderr=file)
            for file in (a, b)
        ]
        try:
            until(lambda: any("; another start is downloading it\n" in file.read_text() for file in told))
            pace(pod, 0.5)
            assert [start.wait(60) for start in starts] == [0, 0]
        finally:
            for start in starts:
                start.kill()
    assert sum(file.read_text().count(waits) for file in told) == 1
    assert {model["name"] for model in pi("list", "--json").json} == {"a", "b"}


def test_a_start_that_waits_for_a_download_ends_at_once_and_deletes_nothing(pod: EmbeddedPod) -> None:
    """Fault 24."""
    pace(pod, 60)
    with pi_at("downloading", "start", "Qwen/Qwen3-8B", "--name", "a", *OWN):
        with pi_at("waiting for it", "start", "Qwen/Qwen3-8B", "--name", "b", *OWN) as second:
            second.terminate()
            assert second.wait(5) == 143
        assert [process for process in pod.processes() if "download" in process.command]
        until(lambda: len(list((pod.home / ".pi" / "models").glob("*.json"))) == 1)


def test_two_pods_that_share_a_volume_download_a_model_once(
    pi: Pi, embed: Callable[..., EmbeddedPod], tmp_path: Path
) -> None:
    pods = [embed("dc1"), embed("dc2")]
    for pod in pods:
        configure(pod, HF_HOME=tmp_path / "volume" / "huggingface")
        pace(pod, 8)
    (tmp_path / "volume").mkdir()
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--pod", "dc1", "--pod", "dc2", "--json", *OWN)
    assert result.code == 0, result.err
    assert sorted(each["pod"] for each in result.json) == ["dc1", "dc2"]
    assert len([line for line in result.err.splitlines() if line.endswith("to the same cache: waiting for it")]) == 1


@pytest.mark.parametrize("mount", [None, "mount -t nfs host:/share /no/such/volume"])
def test_a_missing_volume_is_reported_before_anything_is_downloaded(
    pi: Pi, pod: EmbeddedPod, mount: str | None
) -> None:
    """Fault 43."""
    configure(pod, HF_HOME="/no/such/volume/huggingface")
    state = pods_json()
    state["pods"]["dc1"]["storage"] = {"path": "/no/such/volume", "size": "3.9TB"} | ({"mount": mount} if mount else {})
    Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q", *OWN)
    assert result.code == 1
    assert "error: pod `dc1`: /no/such/volume cannot be used: No such file or directory\n" in result.err
    again = "pi pods setup dc1" if mount else "pi pods setup dc1 --mount COMMAND"
    assert the_hint(result.err) == f"hint: mount it again with `{again}`, or name the folder with `--models-path`"
    assert not Path("/no/such").exists()


def test_a_dangling_cache_link_is_reported_before_anything_is_downloaded(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 43."""
    (pod.home / ".cache").mkdir()
    (pod.home / ".cache/huggingface").symlink_to("/no/such/volume/huggingface")
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q", *OWN)
    assert result.code == 1
    assert (
        "error: pod `dc1`: the models path `/no/such/volume` is not mounted: no such file or directory\n" in result.err
    )
    assert "`pi pods setup dc1 --mount COMMAND`" in the_hint(result.err)
    assert pi("list", "--json").json == []


def test_what_the_hub_says_is_too_large_is_refused_before_hf_runs(pi: Pi, pod: EmbeddedPod) -> None:
    configure(pod, PI_FREE_DISK=9 * 10**9)
    pod.install("hf", "#!/bin/sh\ntouch ~/hf-was-run\nexit 1\n")
    with Hub() as hub:
        hub.add_synthetic("someone/large", {"config.json": b'{"model_type": "own"}', "model.safetensors": 20 * 10**9})
        result = pi("start", "someone/large", "--name", "q", HF_ENDPOINT=hub.url)
    assert result.code == 4
    assert " has 9.0 GB free, and the model needs 20.0 GB\n" in result.err
    assert not (pod.home / "hf-was-run").exists()
