"""Two pods with real sshds that share `~/.pi` and `~/.vllm_logs`: neither touches the other's models.

The pods have host names, host keys and processes of their own, but one kernel, and so the same boot id.
"""

from pathlib import Path

import pytest

from tests.conftest import Pi, pods_json
from tests.lab import prepared
from tests.lab.openssh import OpensshPod
from tests.openssh.at_work import MODEL, QUICK, begin, downloads, ended, start
from tests.openssh.conftest import Prepare
from tests.until import until


@pytest.fixture
def pods(prepare: Prepare, tmp_path: Path) -> list[OpensshPod]:
    for name in ("pi", "logs"):
        (tmp_path / name).mkdir()
    share = [(tmp_path / "pi", Path("/root/.pi")), (tmp_path / "logs", Path("/root/.vllm_logs"))]
    return [prepare(name, share=share) for name in ("dc1", "dc2")]


def test_a_list_of_one_pod_does_not_end_a_download_on_the_other(pi: Pi, pods: list[OpensshPod]) -> None:
    prepared.pace_downloads(pods[0], seconds=6)
    with begin("start", MODEL, "--name", "q", "--pod", "dc1", *QUICK) as starting:
        until(lambda: downloads(pods[0]))
        listed = pi("list", "--pod", "dc2")
        assert (listed.code, listed.out, listed.err) == (
            0,
            "",
            "note: no models on dc2; start one with `pi start MODEL --name NAME`\n",
        )
        assert pi("start", MODEL, "--name", "q", "--pod", "dc2", *QUICK).code == 0
        assert ended(starting).code == 0
    assert sorted((each["pod"], each["name"]) for each in pi("list", "--all", "--json").json) == [
        ("dc1", "q"),
        ("dc2", "q"),
    ]


def test_models_of_one_name_keep_their_logs_and_their_lives(pi: Pi, pods: list[OpensshPod]) -> None:
    pids = {pod: start(pi, pod=pod) for pod in ("dc1", "dc2")}
    logs = {pod: pi("logs", "q", "--pod", pod, "-n", "all", "--no-follow").out for pod in pids}
    assert all("Application startup complete" in log for log in logs.values())
    assert logs["dc1"] != logs["dc2"]
    pods[0].check(f"kill -9 -- -{pids['dc1']}")
    until(lambda: "dead" in pi("list", "--all").out)
    listed = pi("list", "--all", "--json").json
    assert [(each["pod"], each["status"]) for each in listed] == [("dc2", "ready")]
    assert [*pods_json()["pods"]["dc2"]["models"]] == ["q"]
    assert pi("stop", "q", "--pod", "dc2").code == 0
    assert pi("list", "--all", "--json").json == []
