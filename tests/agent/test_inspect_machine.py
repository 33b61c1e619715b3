"""What the agent reports about a machine, on this one instead of a pod."""

import base64
import hashlib
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from agent import gpus

from pi_cli.demo.pod import CUDA_LIBRARY
from pi_cli.diagnosis import cuda_errors
from pi_cli.pods import bare_source, nvidia
from pi_cli.store import paths
from tests.agent.machine import Machine, messages, start_request
from tests.pods.test_nvidia import THEIR_SLICES, TWO_WITH_SLICES
from tests.until import until

HANGING = "#!/bin/sh\ntrap '' TERM\nsleep 300 & wait; sleep 300\n"


@pytest.fixture
def machine(environment: Path) -> Iterator[Machine]:
    machine = Machine(environment)
    yield machine
    for record in machine.records():
        with suppress(ProcessLookupError):
            os.killpg(record["pid"], 9)


def inspect(machine: Machine, **request: Any) -> dict[str, Any]:
    queries = {"gpu_query": nvidia.GPU_QUERY, "gpu_list": nvidia.GPU_LIST}
    answer = machine.ask("inspect", **queries | {"known": None, "abilities": [], "cuda": None} | request)["result"]
    assert isinstance(answer, dict)
    return answer


def test_a_machine_reports_its_gpus_its_disks_and_its_vllm(machine: Machine) -> None:
    output = "0, NVIDIA L4, 23034, 1, GPU-5d, [N/A], 580.95.05\n"
    machine.install("nvidia-smi", f"#!/bin/sh\n[ $LC_ALL = C ] && printf '{output}'\n")
    folder = machine.home / ".pi"
    for version in ("0.31.0", "0.32.0", ".new"):
        (folder / "venvs" / version).mkdir(parents=True)
    (folder / "provider").write_text("runpod\n")
    answer = inspect(machine)
    assert (answer["gpus"], answer["slices"], answer["trouble"]) == (output, "", None)
    assert answer["versions"] == ["0.31.0", "0.32.0"]
    assert answer["provider"] == "runpod"
    assert answer["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    numbers = os.statvfs(machine.home)
    assert answer["home"]["total"] == numbers.f_frsize * numbers.f_blocks
    assert 0 < answer["home"]["free"] <= answer["home"]["total"]
    assert answer["storage"] is None
    assert answer["models"] is None


# Whether CUDA works

ROWS = """
0, NVIDIA H100 80GB HBM3, 81559, 70000, GPU-0, Disabled, 580.95.05
1, NVIDIA H100 80GB HBM3, 81559, 4, GPU-1, Disabled, 580.95.05
"""
STAND_IN = """
import runpy
LIBRARY = runpy.run_path({library!r})["LIBRARY"]
LIBRARY._faults = {faults}
"""


def asked_about_cuda(machine: Machine, faults: str, rows: str = ROWS, **request: Any) -> dict[str, Any]:
    """Ask a machine with a simulated driver's library, two GPUs, and these rows of nvidia-smi."""
    (machine.home / ".demo").mkdir(exist_ok=True)
    (machine.home / ".demo/gpus.json").write_text('{"gpus": [0, 1]}')
    (machine.home / "libcuda.py").write_text(STAND_IN.format(library=str(CUDA_LIBRARY), faults=faults))
    (machine.home / "rows").write_text(rows.lstrip())
    machine.install("nvidia-smi", "#!/bin/sh\ncat ~/rows\n")
    machine.environ = {"PI_DEMO_CUDA": str(machine.home / "libcuda.py")}
    answer = inspect(machine, cuda=bare_source.bare(cuda_errors.question()), **request)["cuda"]
    assert isinstance(answer, dict)
    return answer


def test_a_driver_is_only_asked_if_that_is_requested(machine: Machine) -> None:
    assert inspect(machine)["cuda"] is None


def test_a_driver_is_asked_without_touching_gpus_in_use(machine: Machine) -> None:
    answer = asked_about_cuda(machine, '{"cuMemAlloc_v2": 214}')
    assert (answer["problem"], answer["count"], answer["expected"], answer["gpus"]) == ("", 2, 2, [[1, 214]])


def test_gpus_of_models_that_have_no_memory_yet_are_in_use_too(machine: Machine) -> None:
    assert machine.start(gpus=[1])["result"]["state"] == "launched"
    answer = asked_about_cuda(machine, '{"cuMemAlloc_v2": 214}', known=[])
    assert (answer["problem"], answer["gpus"]) == ("", [])


def test_gpus_that_cuda_does_not_find_are_noticed_but_not_slices(machine: Machine) -> None:
    assert asked_about_cuda(machine, '{"count": 1}')["problem"] == "lost-gpus"
    assert asked_about_cuda(machine, '{"count": 1}', ROWS.replace("Disabled", "Enabled"))["problem"] == ""


def test_a_question_without_an_answer_is_reported(machine: Machine) -> None:
    answer = asked_about_cuda(machine, "{}, 1 / 0")
    assert (answer["problem"], answer["reason"]) == ("unasked", "no answer")


def said_by(machine: Machine, version: str, text: str) -> str:
    """Write what a vLLM said about itself, as setup does; return its digest."""
    folder = machine.home / ".pi/venvs" / version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".pi-abilities.json").write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_machine_reports_what_its_vllms_said_about_themselves(machine: Machine) -> None:
    """The content of the default one's is sent unless pi has it."""
    old, new = said_by(machine, "0.31.0", '{"format":1}'), said_by(machine, "0.32.0", '{"format":1,"version":"0.32.0"}')
    (machine.home / "venv").rename(machine.home / "former")
    (machine.home / "venv").symlink_to(machine.home / ".pi/venvs/0.32.0")
    first, second = inspect(machine)["abilities"]
    assert (first["version"], first["is_default"], first["digest"], first["size"]) == ("0.32.0", True, new, 31)
    assert zlib.decompress(base64.b64decode(first["packed"])) == b'{"format":1,"version":"0.32.0"}'
    assert (second["version"], second["is_default"], second["digest"], second["packed"]) == ("0.31.0", False, old, "")
    first, _ = inspect(machine, abilities=[new])["abilities"]
    assert (first["digest"], first["packed"]) == (new, "")


def test_what_a_vllm_cannot_have_said_is_left_out(machine: Machine) -> None:
    said_by(machine, "0.30.0", "x" * 1_048_577)
    (machine.home / ".pi/venvs/0.31.0").mkdir()
    os.mkfifo(machine.home / ".pi/venvs/0.31.0/.pi-abilities.json")
    (machine.home / ".pi/venvs/0.32.0").mkdir()
    assert inspect(machine)["abilities"] == []


def test_slices_are_listed_if_a_gpu_is_in_mig_mode(machine: Machine) -> None:
    """Fault 81."""
    machine.install(
        "nvidia-smi", f"#!/bin/sh\nif [ $1 = -L ]; then echo '{THEIR_SLICES}'; else echo '{TWO_WITH_SLICES}'; fi\n"
    )
    answer = inspect(machine)
    assert [gpu.memory for gpu in nvidia.read(answer["gpus"], answer["slices"]).gpus] == ["20GB", "20GB", "40GB"]


@pytest.mark.parametrize(
    ("script", "trouble", "driver"),
    [
        ("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n", "nvidia-smi failed: NVIDIA-SMI has failed", "fails"),
        ("#!/bin/sh\nexit 12\n", "nvidia-smi failed: exit code 12", "fails"),
        ("#!/no/such/interpreter\n", "nvidia-smi: No such file or directory", "missing"),
    ],
)
def test_a_driver_that_fails_is_reported_and_so_is_the_rest(
    machine: Machine, script: str, trouble: str, driver: str
) -> None:
    """Fault 81."""
    machine.install("nvidia-smi", script)
    answer = inspect(machine)
    assert (answer["trouble"], answer["driver"]) == (trouble, driver)
    assert answer["home"]["free"]


def be_patient(machine: Machine, seconds: float) -> None:
    (machine.home / ".pi").mkdir(exist_ok=True)
    (machine.home / ".pi/env").write_text(f"PI_DRIVER_PATIENCE={seconds}\n")


def test_the_patience_with_the_driver_is_that_of_setup() -> None:
    script = (paths.asset("remote/pod_setup.sh").parent / "setup/gpus.sh").read_text()
    patience, note = gpus.PATIENCE, gpus.NOTE_SHARE * gpus.PATIENCE
    assert f"\ndriver_patience={patience:.0f}\ndriver_note_after={note:.0f}\n" in script


def test_a_driver_that_hangs_is_abandoned_when_the_patience_ends(machine: Machine) -> None:
    machine.install("nvidia-smi", HANGING.replace("#!/bin/sh\n", f"#!/bin/sh\necho $$ >> {machine.home}/pids\n"))
    be_patient(machine, 2)
    began = time.monotonic()
    answer = inspect(machine)
    assert time.monotonic() - began >= 2
    assert answer["trouble"] == "the driver does not answer: nvidia-smi gave no answer within 2 s"
    assert answer["driver"] == "hangs"
    left = [Path(f"/proc/{pid}/cmdline") for pid in (machine.home / "pids").read_text().split()]
    assert len(left) == 2
    until(lambda: not any(process.exists() and process.read_bytes() for process in left))


def test_a_slow_driver_is_waited_for_and_the_wait_is_reported(machine: Machine) -> None:
    machine.install("nvidia-smi", "#!/bin/sh\nsleep 1.2; echo '0, NVIDIA L4, 23034, 1, GPU-5d, [N/A], 580.95.05'\n")
    be_patient(machine, 12)
    queries: dict[str, Any] = {"gpu_query": nvidia.GPU_QUERY, "gpu_list": nvidia.GPU_LIST}
    with machine.open("inspect", **queries, known=None, abilities=[], cuda=None) as process:
        assert process.stdout is not None
        note, reply = messages(process.stdout.read())
    assert note["event"] == "driver-slow"
    assert (round(note["seconds"]), round(note["limit"])) == (1, 12)
    assert [gpu.name for gpu in nvidia.read(reply["result"]["gpus"]).gpus] == ["NVIDIA L4"]


def test_a_list_of_slices_that_hangs_is_not_waited_for_without_slices(machine: Machine) -> None:
    row = "0, NVIDIA L4, 23034, 1, GPU-5d, [N/A], 580.95.05"
    machine.install("nvidia-smi", f"#!/bin/sh\n[ $1 = -L ] && exec sleep 300; echo '{row}'\n")
    be_patient(machine, 600)
    answer = inspect(machine)
    assert (answer["gpus"], answer["trouble"], answer["driver"]) == (f"{row}\n", None, "answers")


def test_a_driver_that_hangs_does_not_hold_up_the_list_of_models(machine: Machine) -> None:
    machine.start()
    machine.install("nvidia-smi", HANGING)
    be_patient(machine, 12)
    began = time.monotonic()
    survey = machine.survey()["result"]
    assert time.monotonic() - began < 10
    [model] = survey["models"]
    assert (model["name"], model["memory_used"], survey["driver_hangs"]) == ("q", None, True)


def test_a_question_without_the_memory_does_not_wait_for_the_driver(machine: Machine) -> None:
    machine.start()
    machine.install("nvidia-smi", HANGING)
    be_patient(machine, 3600)
    survey = machine.ask("survey", known=[], forget=False, memory=False, live=False)["result"]
    assert (survey["models"][0]["name"], survey["driver_hangs"]) == ("q", False)


LOADS = """\
0, 70000, 81559, 97, 512.31, 700.00, 61, Disabled, NVIDIA H100 80GB HBM3
1, 1, 143771, [N/A], [N/A], [N/A], 34, Enabled, NVIDIA H200, the second
2, [N/A], [N/A], 0, [Unknown Error], nan, 1e5, [N/A], NVIDIA GB10
3, [GPU is lost]
Unable to determine the device handle for GPU 0000:04:00.0
"""


def test_a_live_survey_reports_what_each_gpu_does_and_nothing_for_what_is_unknown(machine: Machine) -> None:
    machine.install("nvidia-smi", f"#!/bin/sh\ncat <<'EOF'\n{LOADS}EOF\n")
    survey = machine.ask("survey", known=[], forget=False, memory=False, live=True)["result"]
    fields = ("id", "memory", "utilization", "power", "power_limit", "temperature", "mig", "name")
    assert [tuple(gpu[field] for field in fields) for gpu in survey["gpus"]] == [
        (0, [70000, 81559], 97.0, 512.31, 700.0, 61.0, False, "NVIDIA H100 80GB HBM3"),
        (1, [1, 143771], None, None, None, 34.0, True, "NVIDIA H200, the second"),
        (2, None, 0.0, None, None, None, False, "NVIDIA GB10"),
        (3, None, None, None, None, None, False, ""),
    ]


def test_a_driver_that_does_not_know_a_field_is_asked_for_the_memory(machine: Machine) -> None:
    answers = "case $1 in *power*) echo 'Field \"power.limit\" is not a valid field'; exit 2;; *) echo 0, 5, 10;; esac"
    machine.install("nvidia-smi", f"#!/bin/sh\n{answers}\n")
    [gpu] = machine.ask("survey", known=[], forget=False, memory=False, live=True)["result"]["gpus"]
    assert (gpu["id"], gpu["memory"], gpu["power"]) == (0, [5, 10], None)


def test_gpus_that_were_listed_before_the_driver_hung_count(machine: Machine) -> None:
    row = "0, NVIDIA L4, 23034, 1, GPU-5d, [N/A], 580.95.05"
    machine.install("nvidia-smi", f"#!/bin/sh\necho '{row}'; exec sleep 300\n")
    be_patient(machine, 1)
    answer = inspect(machine)
    assert (answer["gpus"], answer["driver"]) == (f"{row}\n", "hangs")


def test_the_models_path_is_where_setup_has_put_the_cache(machine: Machine, tmp_path: Path) -> None:
    volume = tmp_path / "the volume"
    (volume / "huggingface").mkdir(parents=True)
    (machine.home / ".pi").mkdir()
    (machine.home / ".pi" / "env").write_text(f"export HF_HOME='{volume}/huggingface'\n")
    storage = inspect(machine)["storage"]
    assert (storage["path"], storage["trouble"]) == (str(volume), None)
    assert storage["free"] > 0
    (machine.home / ".pi" / "env").write_text("export HF_HOME='/no/such/volume/huggingface'\n")
    storage = inspect(machine)["storage"]
    assert (storage["path"], storage["total"], storage["trouble"]) == (
        "/no/such/volume",
        None,
        "No such file or directory",
    )


def test_a_mount_is_distinguished_from_a_folder_of_the_root_disk(machine: Machine) -> None:
    (machine.home / ".pi").mkdir()
    (machine.home / ".pi" / "env").write_text("export HF_HOME='/dev/shm/huggingface'\n")
    storage = inspect(machine)["storage"]
    assert (storage["is_mount"], storage["kind"]) == (True, "tmpfs")


def test_a_model_on_a_slice_gets_the_slice_by_its_uuid(machine: Machine) -> None:
    machine.install("vllm", "#!/bin/sh\necho $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER > ~/seen\nexec sleep 300\n")
    machine.ask("start", **start_request("q") | {"gpus": [0], "devices": {"0": "MIG-c6", "1": "MIG-cb"}})
    seen = machine.home / "seen"
    until(lambda: seen.exists() and seen.read_text().endswith("\n"))
    assert seen.read_text() == "MIG-c6 PCI_BUS_ID\n"
    assert [record["gpu"] for record in machine.records()] == ["0"]


def test_a_model_without_gpus_sees_none(machine: Machine) -> None:
    machine.install("vllm", '#!/bin/sh\necho "[$CUDA_VISIBLE_DEVICES]" > ~/seen\nexec sleep 300\n')
    answer = machine.ask("start", **start_request("q") | {"gpus": []})
    assert answer["result"]["record"]["gpu"] == ""
    seen = machine.home / "seen"
    until(lambda: seen.exists() and seen.read_text().endswith("\n"))
    assert seen.read_text() == "[]\n"
    assert inspect(machine, known=[])["models"][0]["name"] == "q"
