"""Downloads to real file systems: full ones, shared ones, dead ones, and those that are read over a network."""

import json
import os
import re
from pathlib import Path

import pytest

from tests.conftest import Pi, pods_json
from tests.lab import prepared
from tests.lab.openssh import OpensshPod
from tests.openssh.at_work import MODEL, QUICK, downloads, living, pi_at, records, seconds_until_end
from tests.openssh.conftest import Prepare
from tests.until import until

HUB = "/root/.cache/huggingface/hub"
FOLDER = f"{HUB}/models--{MODEL.replace('/', '--')}"
VOLUME = Path("/mnt/models")
FUSE_SERVER = Path(__file__).parents[1] / "lab" / "fuse_server.py"

# Brings in two files; of the second as much as the disk takes.
HF = """#!/bin/sh
mkdir -p FOLDER/blobs FOLDER/refs FOLDER/trees && cd FOLDER || exit
printf c0ffee > refs/main
cat > trees/c0ffee.json << END
{"files": {"a": {"size": 4000000, "blob_id": "a"}, "b": {"size": SIZE, "blob_id": "b"}}}
END
head -c 4000000 /dev/zero > blobs/a
head -c 40000000 /dev/zero > blobs/b.1a2b3c4d.incomplete || exit
mv blobs/b.1a2b3c4d.incomplete blobs/b
"""


def small_disk(pod: OpensshPod, size: str) -> None:
    """Let the cache be a disk of its own, and be told how large it is."""
    pod.check(f"mkdir -p /root/.cache/huggingface && mount -t tmpfs -o size={size} models /root/.cache/huggingface")
    variables = pod.root / "etc/environment"
    variables.write_text(re.sub(r"PI_FREE_DISK=.*\n", "", variables.read_text()))


def blobs(pod: OpensshPod, folder: str = FOLDER) -> list[str]:
    return sorted(path.name for path in (pod.root / folder.lstrip("/") / "blobs").iterdir())


def configure(pod: OpensshPod, **settings: object) -> None:
    (pod.home / ".pi").mkdir(exist_ok=True)
    (pod.home / ".pi/env").write_text("".join(f"export {name}='{value}'\n" for name, value in settings.items()))


def remember_volume(pod: OpensshPod, path: Path) -> None:
    """Say in `pods.json` what setup says of a pod with a volume."""
    state = pods_json()
    state["pods"][pod.name]["storage"] = {"path": str(path), "size": "3.9TB"}
    Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))


def give_vllm_a_version(pod: OpensshPod, version: str = "0.32.0") -> None:
    pod.check(f"mkdir -p ~/.pi/venvs/{version}/bin && ln -s ~/.pi/venvs/{version} ~/venv")
    pod.check(f"cp /usr/local/bin/vllm ~/.pi/venvs/{version}/bin/vllm")


def mount_fuse(pod: OpensshPod, folder: str, point: str, how: str = "") -> None:
    (pod.root / "root/fuse_server.py").write_text(FUSE_SERVER.read_text())
    pod.check(f"[ -e /dev/fuse ] || mknod /dev/fuse c 10 229; mkdir -p {point}")
    pod.check(f"python3 ~/fuse_server.py {folder} {point} fuse.mfs {how} < /dev/null > /root/fuse.log 2>&1 &")
    until(lambda: f" {point} fuse.mfs " in pod.check("cat /proc/mounts"))


def test_a_disk_that_becomes_full_is_named_and_whole_files_stay(pi: Pi, pod: OpensshPod) -> None:
    """Fault 39."""
    small_disk(pod, "20m")
    pod.install("hf", HF.replace("FOLDER", FOLDER).replace("SIZE", "1000"))  # it is larger than it says
    result = pi("start", MODEL, "--name", "q", *QUICK)
    assert result.code == 4
    assert (
        f"the disk of `{HUB}` became full: 21.0 MB were free before the download, "
        "17.0 MB are free without its unfinished files\n"
    ) in result.err
    assert blobs(pod) == ["a"]
    assert (records(pod), living(pod)) == ([], [])


def test_what_does_not_fit_is_ended_as_soon_as_hf_has_listed_it(pi: Pi, pod: OpensshPod) -> None:
    """Fault 39."""
    small_disk(pod, "20m")
    pod.install("hf", HF.replace("FOLDER", FOLDER).replace("SIZE", "40000000") + "sleep 300\n")
    pod.install("head", '#!/bin/sh\nsleep 1\nexec /usr/bin/head "$@"\n')
    old = pod.root / f"{HUB}/models--large--one/blobs".lstrip("/")
    old.mkdir(parents=True)
    (old / "weights").write_bytes(bytes(3_000_000))
    result = pi("start", MODEL, "--name", "q", *QUICK)
    assert result.code == 4
    assert re.search(rf"`{HUB}` has 1[78]\.\d MB free, and the model needs 4\d\.\d MB", result.err), result.err
    assert f"for example `pi ssh dc1 rm -rf {HUB}/models--large--one` (3.0 MB)" in result.err
    assert (old / "weights").exists()
    assert (records(pod), living(pod)) == ([], [])


def test_pods_that_share_a_volume_download_a_model_once(pi: Pi, prepare: Prepare, tmp_path: Path) -> None:
    pods = [prepare(name, share=[(tmp_path, VOLUME)]) for name in ("dc1", "dc2")]
    for pod in pods:
        configure(pod, HF_HOME=VOLUME / "huggingface")
        prepared.pace_downloads(pod, seconds=5)
    result = pi("start", MODEL, "--name", "q", "--pod", "dc1", "--pod", "dc2", "--json", *QUICK)
    assert result.code == 0, result.err
    assert sorted(each["pod"] for each in result.json) == ["dc1", "dc2"]
    [names] = re.findall(
        r"(dc[12]): `(dc[12])` is already downloading the model to the same cache: waiting for it\n", result.err
    )
    assert sorted(names) == ["dc1", "dc2"]
    assert re.search(rf"{names[0]}: downloading .* of 16\.0 GB .*; `{names[1]}` is downloading it\n", result.err)
    assert list((tmp_path / "huggingface/hub/.locks").glob("*.pi-lease*")) == []


def test_when_the_pod_that_downloads_dies_the_other_continues(prepare: Prepare, tmp_path: Path) -> None:
    first, second = (prepare(name, share=[(tmp_path, VOLUME)]) for name in ("dc1", "dc2"))
    for pod in (first, second):
        configure(pod, HF_HOME=VOLUME / "huggingface")
        prepared.pace_downloads(pod, seconds=100)
    with (
        pi_at("downloading", "start", MODEL, "--name", "q", "--pod", "dc1", *QUICK),
        pi_at("waiting for it", "start", MODEL, "--name", "q", "--pod", "dc2", *QUICK) as waiting,
    ):
        prepared.pace_downloads(second, seconds=1)
        first.close()
        assert seconds_until_end(waiting) > 15  # nothing tells that a machine is gone but that it is silent
        assert waiting.returncode == 0


def test_waiting_for_another_pod_ends_with_ctrl_c_and_the_download_continues(prepare: Prepare, tmp_path: Path) -> None:
    """Fault 24."""
    first, second = (prepare(name, share=[(tmp_path, VOLUME)]) for name in ("dc1", "dc2"))
    for pod in (first, second):
        configure(pod, HF_HOME=VOLUME / "huggingface")
        prepared.pace_downloads(pod, seconds=100)
    with pi_at("downloading", "start", MODEL, "--name", "q", "--pod", "dc1", *QUICK):
        with pi_at("waiting for it", "start", MODEL, "--name", "q", "--pod", "dc2", *QUICK) as waiting:
            waiting.send_signal(2)
            assert seconds_until_end(waiting) < 5
            assert waiting.returncode == 130
        assert (records(second), living(second)) == ([], [])
        assert downloads(first)


def test_an_unmounted_volume_is_reported_and_its_folder_stays_empty(pi: Pi, prepare: Prepare, tmp_path: Path) -> None:
    """Fault 43."""
    pod = prepare(share=[(tmp_path, VOLUME)])
    pod.check(f"mkdir {VOLUME}/huggingface && mkdir -p ~/.cache && ln -s {VOLUME}/huggingface ~/.cache/huggingface")
    configure(pod, HF_HOME=VOLUME / "huggingface")
    remember_volume(pod, VOLUME)
    pod.check(f"umount -l {VOLUME}")
    result = pi("start", MODEL, "--name", "q", *QUICK)
    assert result.code == 1
    assert f"error: pod `dc1`: nothing is mounted on {VOLUME} any more\n" in result.err
    assert "hint: mount it again with `pi pods setup dc1 --mount COMMAND`" in result.err
    assert list((pod.root / "mnt/models").iterdir()) == []

    state = pods_json()
    del state["pods"]["dc1"]["storage"]  # as on another computer, where the pod was written down by hand
    Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))
    result = pi("start", MODEL, "--name", "q", *QUICK)
    assert result.code == 1
    assert f"error: pod `dc1`: the models path `{VOLUME}` is not mounted: no such file or directory\n" in result.err
    assert list((pod.root / "mnt/models").iterdir()) == []
    assert records(pod) == []


@pytest.mark.parametrize(
    ("how", "said"),
    [("dead", "transport endpoint is not connected"), ("hanging", "did not answer within 5 s")],
)
def test_a_volume_whose_server_is_gone_is_reported(pi: Pi, pod: OpensshPod, how: str, said: str) -> None:
    """Fault 43."""
    mount_fuse(pod, "/tmp", str(VOLUME), how)
    configure(pod, HF_HOME=VOLUME / "huggingface")
    result = pi("start", MODEL, "--name", "q", *QUICK)
    assert result.code == 1
    assert f"error: pod `dc1`: the models path `{VOLUME}` is not mounted: {said}\n" in result.err
    assert records(pod) == []
    remember_volume(pod, VOLUME)
    result = pi("start", MODEL, "--name", "q", *QUICK)
    assert result.code == 1
    assert re.search(rf"error: pod `dc1`: {VOLUME} cannot be used: (?i:{said})\n", result.err)


def test_weights_on_a_pool_are_read_ahead_and_the_record_says_so(pi: Pi, pod: OpensshPod) -> None:
    give_vllm_a_version(pod)
    pod.install("hf", "#!/bin/sh\nexit 1\n")
    hub = pod.root / "srv/huggingface/hub" / Path(FOLDER).name
    (hub / "snapshots/c0ffee").mkdir(parents=True)
    (hub / "snapshots/c0ffee/model.safetensors").write_bytes(b"weights")
    for folder in ("refs", "trees"):
        (hub / folder).mkdir()
    (hub / "refs/main").write_text("c0ffee")
    listed = {"model.safetensors": {"size": 7, "blob_id": "b"}}
    (hub / "trees/c0ffee.json").write_text(json.dumps({"format_version": 1, "files": listed}))

    def arguments(name: str, home: str, *own: str) -> list[str]:
        configure(pod, HF_HOME=home)
        started = pi("start", MODEL, "--name", name, "--detach", *own)
        assert started.code == 0, started.err
        told: list[str] = next(each["arguments"] for each in map(json.loads, records(pod)) if each["name"] == name)
        return told

    mount_fuse(pod, "/srv", str(VOLUME))
    assert arguments("a", f"{VOLUME}/huggingface")[-2:] == ["--safetensors-load-strategy", "prefetch"]
    assert "--safetensors-load-strategy" not in arguments("b", "/srv/huggingface")
    pi("stop", "--all")
    assert arguments("c", f"{VOLUME}/huggingface", *QUICK) == list(QUICK[1:])


def test_on_a_pool_nothing_is_refused_for_lack_of_room(pi: Pi, pod: OpensshPod) -> None:
    """It says that nothing is free, of all the cluster has; RunPod's volumes do that."""
    variables = pod.root / "etc/environment"
    variables.write_text(re.sub(r"PI_FREE_DISK=.*\n", "", variables.read_text()))
    pod.check("mkdir -p /srv/huggingface/hub")
    mount_fuse(pod, "/srv", str(VOLUME))
    configure(pod, HF_HOME=VOLUME / "huggingface")
    result = pi("start", MODEL, "--name", "q", *QUICK)
    assert (
        f"dc1: free space of `{VOLUME}/huggingface/hub` unknown: a shared pool reports the size of all of it\n"
    ) in result.err
    assert result.code == 4
    assert "Read-only file system" in result.err
