"""`pi up`, `pi down` and `pi export`, on embedded pods: GPUs, downloads and vLLM are simulated."""

import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.staying import staying
from tests.conftest import Pi, Result, pods_json
from tests.docs import json_page
from tests.until import until

MODEL = "Qwen/Qwen3-8B"
BROKEN = "#!/bin/sh\necho 'torch.OutOfMemoryError: CUDA out of memory'; exit 1\n"
Embed = Callable[..., EmbeddedPod]


class Fleet:
    """A fleet file, and pi with it."""

    def __init__(self, pi: Pi, path: Path) -> None:
        self.pi, self.path = pi, path

    def write(self, pods: dict[str, EmbeddedPod], *models: str) -> None:
        tables = [f'[pods.{name}]\nssh = "{pod.ssh}"  # {name} of ours\n' for name, pod in pods.items()]
        self.path.write_text("\n".join([*tables, *models]))

    def change(self, old: str, new: str) -> None:
        text = self.path.read_text()
        assert old in text
        self.path.write_text(text.replace(old, new))

    def __call__(self, command: str, *words: str, **environ: str) -> Result:
        return self.pi(command, *words, "--file", str(self.path), timeout=100, **environ)

    def check(self) -> Result:
        return self("up", "--check")


@pytest.fixture
def fleet(pi: Pi, tmp_path: Path) -> Fleet:
    return Fleet(pi, tmp_path / "pi.toml")


@pytest.fixture
def machines() -> Iterator[Callable[[], EmbeddedPod]]:
    """Make machines that nobody has set up."""
    with ExitStack() as stack:

        def make() -> EmbeddedPod:
            return quick(stack.enter_context(EmbeddedPod("2x H100 80GB")))

        yield make


def quick(pod: EmbeddedPod, seconds: float = 0.2) -> EmbeddedPod:
    for program in ("hf", "vllm"):
        (pod.home / ".demo" / f"{program}.json").write_text(json.dumps({"seconds": seconds}))
    return pod


def model(name: str, *pods: str, rest: str = "") -> str:
    return f'[models.{name}]\nmodel = "{MODEL}"\npods = {json.dumps(pods)}\nmemory = "40%"\n{rest}\n'


def actions(result: Result) -> dict[str, str]:
    """Return what a table says about each pod and replica."""
    head, *lines = result.out.splitlines()
    place = head.index("WHY")
    start = head.index("ACTION")
    rows = itertools.takewhile(lambda line: not line.startswith(("ready ", "all is ")), lines)
    return {line[:start].strip(): line[start:place].strip() for line in rows}


def uids() -> dict[str, str]:
    return {f"{pod}/{name}": each["uid"] for pod, name, each in entries()}


def entries() -> Iterator[tuple[str, str, Any]]:
    for pod, about in pods_json()["pods"].items():
        yield from ((pod, name, each) for name, each in about["models"].items())


@pytest.mark.timeout(240)
def test_bare_machines_become_a_fleet_and_one_that_was_taken_is_replaced(
    fleet: Fleet, machines: Callable[[], EmbeddedPod]
) -> None:
    old, second, third, new = machines(), machines(), machines(), machines()
    fleet.write(
        {"dc1": old, "dc2": second, "dc3": third},
        model("q", "dc1", "dc2", rest='context = "8k"'),
        model("r", "dc1", "dc3"),
        '[gateway]\nport = 8001\npolicy = "cache_aware"\n',
    )
    dry = fleet("up", "--dry-run")
    places = ["dc1/q", "dc2/q", "dc1/r", "dc3/r"]
    assert actions(dry) == {**dict.fromkeys(["dc1", "dc2", "dc3"], "set up"), **dict.fromkeys(places, "start")}
    assert not Path(os.environ["PI_CONFIG_DIR"], "pods.json").exists()
    first = fleet("up")
    assert first.code == 0, first.err
    assert [line.split()[1] for line in first.out.splitlines() if line.startswith("ready")] == sorted(places)
    assert first.err.splitlines()[-1] == "reach all models at one URL with `pi gateway q r --port 8001`"
    state = pods_json()
    assert (state["active"], list(state["pods"])) == ("dc1", ["dc1", "dc2", "dc3"])
    assert fleet.check().code == 0
    before = uids()

    replaced = fleet("up", "dc1", "--ssh", new.ssh)
    assert replaced.code == 0, replaced.err
    assert actions(replaced) == {"dc1": "set up again", "dc1/q": "start", "dc1/r": "start"}
    assert "if the old one still runs, its provider bills it" in replaced.err
    assert f'ssh = "{new.ssh}"  # dc1 of ours\n' in fleet.path.read_text()
    assert pods_json()["pods"]["dc1"]["ssh"] == new.ssh
    changed = {place for place, uid in uids().items() if before[place] != uid}
    assert changed == {"dc1/q", "dc1/r"}
    assert fleet.check().code == 0
    assert old.processes(), "nothing was stopped on the old machine"


def test_ctrl_c_keeps_what_is_ready_and_the_next_run_continues(fleet: Fleet, embed: Embed) -> None:
    fast, slow = embed("dc1"), quick(embed("dc2"), seconds=600)
    fleet.write({"dc1": fast, "dc2": slow}, model("q", "dc1", "dc2"))
    with staying("up", "--file", str(fleet.path)) as up:
        until(lambda: "dc1/q" in uids(), seconds=60)
        up.says("dc2: ")
        assert up.end(signal.SIGINT, timeout=60) == 130
    assert any("what is ready stays" in line for line in up.err)
    until(lambda: not slow.processes())
    assert list(uids()) == ["dc1/q"]
    quick(slow)
    resumed = fleet("up")
    assert resumed.code == 0, resumed.err
    assert actions(resumed)["dc1/q"] == "as written"
    assert actions(resumed)["dc2/q"] == "start"
    assert fleet.check().code == 0


def test_a_start_whose_pi_was_killed_is_followed_and_not_doubled(fleet: Fleet, embed: Embed) -> None:
    pod = quick(embed("dc1"), seconds=4)
    fleet.write({"dc1": pod}, model("q", "dc1"))
    with staying("up", "--file", str(fleet.path)) as up:
        up.says("loading weights")
        up.end(signal.SIGKILL)
    resumed = fleet("up")
    assert resumed.code == 0, resumed.err
    assert actions(resumed)["dc1/q"] == "is starting"
    assert [line.split()[:2] for line in resumed.out.splitlines() if line.startswith("ready")] == [["ready", "dc1/q"]]
    assert fleet.check().code == 0


def test_one_failing_pod_stops_no_other(fleet: Fleet, embed: Embed) -> None:
    dead, broken, well = embed("dead"), embed("broken"), embed("well")
    broken.install("vllm", BROKEN)
    fleet.write({"dead": dead, "broken": broken, "well": well}, model("q", "dead", "broken", "well"))
    dead.close()
    result = fleet("up")
    assert result.code == 4
    assert actions(result)["dead"] == "no answer"
    assert "cannot reach pod `dead`" in result.err
    assert "CUDA out of memory" in result.err
    assert list(uids()) == ["well/q"]
    checked = fleet.check()
    assert checked.code == 3


def test_what_runs_with_other_options_is_named_and_restarted_one_after_the_other(fleet: Fleet, embed: Embed) -> None:
    first, second = embed("dc1"), embed("dc2")
    fleet.write({"dc1": first, "dc2": second}, model("q", "dc1", "dc2", rest='context = "8k"'))
    assert fleet("up").code == 0
    before = uids()
    fleet.change('"8k"', '"4k"')
    named = fleet("up")
    assert (named.code, uids()) == (0, before)
    assert "context 4k (now 8k)" in named.out
    assert "`dc1/q`, `dc2/q` run with other options" in named.err
    refused = fleet("up", "--restart")
    assert (refused.code, uids()) == (1, before), "nobody was there to ask"

    working = (first.home.parent / "bin/vllm").read_text()
    first.install("vllm", BROKEN)
    for _ in range(2):  # the second time, the replica on dc1 is not there any more
        failed = fleet("up", "--restart", "--yes")
        assert failed.code == 4
        assert uids() == {"dc2/q": before["dc2/q"]}, "the other replica stays as it is"
    first.install("vllm", working)
    quick_again = fleet("up", "--restart", "--yes")
    assert quick_again.code == 0, quick_again.err
    assert actions(quick_again)["dc2/q"] == "restart"
    assert fleet.check().code == 0


def test_check_and_dry_run_change_nothing(fleet: Fleet, embed: Embed) -> None:
    pod = embed("dc1")
    fleet.write({"dc1": pod}, model("q", "dc1"))
    state = pods_json()
    checked = fleet.check()
    assert checked.code == 1
    assert checked.err.splitlines()[-2:] == [
        f"error: 1 thing is not as `{fleet.path}` says",
        f"hint: make it so with `pi up --file {fleet.path}`",
    ]
    assert fleet("up", "--dry-run").code == 0
    assert fleet("up", "dc1", "--dry-run", "--ssh", "ssh root@192.0.2.1").code == 0
    assert "192.0.2.1" not in fleet.path.read_text()
    assert pods_json() == state
    assert not (pod.home / ".pi" / "models").exists()
    assert json.loads(fleet("up", "--schema").out)["title"] == "pi.toml"


def test_what_is_not_in_the_file_is_named_and_never_stopped(fleet: Fleet, embed: Embed) -> None:
    pod = embed("dc1")
    embed("dc9")
    assert fleet.pi("start", MODEL, "--name", "other", "--memory", "40%").code == 0
    fleet.write({"dc1": pod}, model("q", "dc1"))
    up = fleet("up")
    assert up.code == 0, up.err
    assert {actions(up)["dc1/other"], actions(up)["dc9"]} == {"not in the file"}
    down = fleet("down")
    assert (down.code, down.out) == (0, "stopped `q` on `dc1`\n")
    assert list(uids()) == ["dc1/other"]
    purge = fleet("down", "--purge", "--yes")
    assert purge.code == 1
    assert "runs models that are not in the file: `other`" in purge.err
    assert fleet.pi("stop", "other").code == 0
    assert fleet("down", "--purge", "--yes").code == 0
    assert list(pods_json()["pods"]) == ["dc9"]
    assert not (pod.home / ".pi" / "models").exists()


def test_what_was_exported_is_as_written(fleet: Fleet, embed: Embed, pi: Pi) -> None:
    embed("dc1")
    embed("dc2")
    start = ("start", MODEL, "--name", "q", "--pod", "dc1", "--pod", "dc2", "--context", "8k", "--env", "A_B=1")
    assert pi(*start).code == 0
    assert pi("start", MODEL, "--name", "own", "--pod", "dc2", "--private", "--vllm", "--max-model-len=4096").code == 0
    exported = fleet("export")
    assert exported.code == 0, exported.err
    assert exported.out == f"wrote `{fleet.path}`: pods: 2, models: 3\n"
    checked = fleet.check()
    assert checked.code == 0, checked.out
    refused = fleet("export")
    assert (refused.code, "exists" in refused.err) == (2, True)
    fleet.path.write_text(f"# mine\n{fleet.path.read_text()}")
    assert pi("stop", "dc2/own").code == 0
    forced = fleet("export", "--force")
    assert forced.code == 0
    assert "note: `models.own` is not in the file any more: it does not run" in forced.err
    text = fleet.path.read_text()
    assert text.startswith("# mine\n")
    assert "[models.own]" not in text
    assert 'env = {A_B = "1"}' in text
    assert pi("export", "--file", "-").out.count("[models.q]") == 1


def test_rows_are_json(fleet: Fleet, embed: Embed) -> None:
    fleet.write({"dc1": embed("dc1")}, model("q", "dc1", rest='lease = "45m"'))
    up = fleet("up", "--json")
    assert json_page.problems("pi up --json", up.out) == []
    pod, replica = up.json
    assert (pod["action"], pod["outcome"]) == ("as written", None)
    assert (replica["action"], replica["outcome"]) == ("start", "done")
    assert replica["url"].startswith("http://127.0.0.1:")
    fleet.change('"45m"', '"2h"')
    again = fleet("up", "--json")
    assert again.json[1]["reasons"] == ["lease 2h (now 45m)"]
    assert fleet.check().code == 0
    down = fleet("down", "--json")
    assert json_page.problems("pi down --json", down.out) == []


def test_what_a_start_would_refuse_is_refused_before_anything_is_done(fleet: Fleet, embed: Embed) -> None:
    fleet.write({"dc1": embed("dc1")}, model("q", "dc1", rest='env = ["MY_TOKEN"]'), model("r", "dc1"))
    refused = fleet("up")
    assert refused.code == 2
    assert "models.q: `MY_TOKEN` is not set here" in refused.err
    assert uids() == {}
    assert fleet("up", MY_TOKEN="hush-hush").code == 0
    assert "hush-hush" not in json.dumps(pods_json())
    assert list(uids()) == ["dc1/q", "dc1/r"]


def test_one_model_over_two_pods_is_started_found_and_stopped(fleet: Fleet, embed: Embed) -> None:
    pods = {"dc1": embed("dc1"), "dc2": embed("dc2"), "dc3": embed("dc3")}
    fleet.write(pods, f'[models.big]\nmodel = "{MODEL}"\nacross = ["dc1", "dc2"]\n', model("q", "dc3"))
    up = fleet("up")
    assert up.code == 0, up.err
    assert sorted(uids()) == ["dc1/big", "dc2/big", "dc3/q"]
    checked = fleet.check()
    assert (checked.code, actions(checked)["dc1/big"]) == (0, "as written"), checked.out
    fleet.path.rename(fleet.path.with_suffix(".old"))
    assert fleet("export").code == 0
    assert 'across = ["dc1", "dc2"]' in fleet.path.read_text()
    down = fleet("down", "big")
    assert down.code == 0, down.err
    assert list(uids()) == ["dc3/q"]
    assert actions(fleet.check())["dc1/big"] == "start"
