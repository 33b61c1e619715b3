"""What `pi up` finds to do: a file, what is recorded and what runs."""

from dataclasses import replace
from typing import Any

import pytest

from pi_cli.errors import BadUsage, PodUnreachable
from pi_cli.fleet import changes, file
from pi_cli.fleet.changes import Reality
from pi_cli.fleet.file import FleetFile, FleetModel
from pi_cli.models import start_words
from pi_cli.models.start_words import StartWords
from pi_cli.pods.reports import Lease, RunningModel
from pi_cli.store.records import Model, Pod, Price, Storage
from tests.fleet.fleets import PATH

MODEL = "Qwen/Qwen3-8B"
SSH = "ssh root@1.2.3.4"


def fleet(models: str = 'pods = ["dc1"]', pods: str = "", rest: str = "") -> FleetFile:
    text = f'[pods.dc1]\nssh = "{SSH}"\n{pods}\n[models.q]\nmodel = "{MODEL}"\n{models}\n{rest}'
    return file.parse(text, PATH)


def running(status: Any = "ready", **changed: Any) -> RunningModel:
    return replace(RunningModel("q", "u1", MODEL, 8001, "0", 42, 0.9, False, status), **changed)


def recorded(words: StartWords | None = None, **changed: Any) -> Pod:
    extra = start_words.record(words) if words else {}
    return replace(Pod(SSH, models={"q": Model(MODEL, 8001, "0", 42, "u1", extra)}), **changed)


def actions(found: changes.Changes) -> list[str]:
    return [*(change.action for change in found.pods), *(change.action for change in found.models)]


def model_change(written: FleetFile, model: RunningModel, words: StartWords | None) -> changes.ModelChange:
    [change] = changes.find(written, Reality({"dc1": recorded(words)}, {"dc1": [model]})).models
    return change


def test_what_is_not_recorded_is_set_up_and_started() -> None:
    found = changes.find(fleet(), Reality())
    assert actions(found) == ["set up", "start"]
    assert not found.is_as_written


def test_what_runs_as_written_is_left_alone() -> None:
    found = changes.find(fleet(), Reality({"dc1": recorded(StartWords(MODEL))}, {"dc1": [running()]}))
    assert actions(found) == ["as written", "as written"]
    assert found.is_as_written


def test_a_model_that_is_gone_is_started_and_one_that_loads_is_followed() -> None:
    reality = Reality({"dc1": recorded(StartWords(MODEL))}, {"dc1": []})
    assert actions(changes.find(fleet(), reality)) == ["as written", "start"]
    assert model_change(fleet(), running("starting"), None).action == "starting"
    assert model_change(fleet(), running("unhealthy"), StartWords(MODEL)).reasons == ("it is unhealthy",)


@pytest.mark.parametrize(
    ("written", "words", "reason"),
    [
        ('context = "64k"', StartWords(MODEL, context="32k"), "context 64k (now 32k)"),
        ('context = "64k"', StartWords(MODEL), "context 64k (now as pi chose)"),
        ("", StartWords(MODEL, context="32k"), "context as pi chooses (now 32k)"),
        ('memory = "50%"', StartWords(MODEL, memory="0.4"), "memory 50% (now 0.4)"),
        ('memory = "50%"', None, "memory 50% (now 90%)"),
        ("gpus = 2", StartWords(MODEL, gpus=1), "gpus 2 (now 1)"),
        ("gpus = 2", None, "gpus 2 (now 1)"),
        ("", StartWords(MODEL, gpus=1), "gpus as pi chooses (now 1)"),
        ('vllm = ["--max-num-seqs", "8"]', StartWords(MODEL), "vllm arguments (now as pi chose)"),
        ("", StartWords(MODEL, vllm=("--max-num-seqs", "8")), "vllm as pi chooses (now others)"),
        ('env = { A = "1", B = "2" }', StartWords(MODEL, env=("A=1", "B=3")), "env B"),
        ('env = ["A"]', StartWords(MODEL, env=("A=1",)), "env A"),
        ("private = true", StartWords(MODEL), "private true (now false)"),
        ('api-key-env = "TEAM_KEY"', StartWords(MODEL), "api-key-env"),
        ("", StartWords("openai/gpt-oss-20b"), ""),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) and value else "none",
)
def test_a_model_with_other_words_is_named_with_what_differs(
    written: str, words: StartWords | None, reason: str
) -> None:
    change = model_change(fleet(f'pods = ["dc1"]\n{written}'), running(), words)
    assert change.reasons == ((reason,) if reason else ())
    assert change.action == ("differs" if reason else "as written")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ('context = "64k"', StartWords(MODEL, context="65536")),
        ('context = "64k"', None),
        ('memory = "50%"', StartWords(MODEL, memory="0.5")),
        ("gpus = 1", StartWords(MODEL)),
        ('vllm = ["--max-num-seqs", "8"]', StartWords(MODEL, vllm=("--max-num-seqs", "8"))),
        ('vllm = ["--max-num-seqs=8"]', None),
        ('env = ["B", "A"]', StartWords(MODEL, env=("A", "B"))),
    ],
)
def test_the_same_in_other_words_is_as_written(written: str, words: StartWords | None) -> None:
    assert model_change(fleet(f'pods = ["dc1"]\n{written}'), running(), words).action == "as written"


def test_words_of_another_start_do_not_count() -> None:
    reality = Reality({"dc1": recorded(StartWords(MODEL, context="32k"))}, {"dc1": [running(uid="u2")]})
    assert actions(changes.find(fleet(), reality)) == ["as written", "as written"]


def test_another_model_under_the_name_is_named() -> None:
    other = running(model="openai/gpt-oss-20b")
    change = model_change(fleet(), other, StartWords("openai/gpt-oss-20b"))
    assert change.reasons == (f"model {MODEL} (now openai/gpt-oss-20b)",)


@pytest.mark.parametrize(
    ("written", "now", "reasons"),
    [
        ('lease = "45m"', None, ("lease 45m (now off)",)),
        ('lease = "45m"', 2700.0, ()),
        ('lease = "45m"', 3600.0, ("lease 45m (now 1h)",)),
        ('lease = "off"', 2700.0, ("lease off (now 45m)",)),
        ("", 2700.0, ()),
    ],
)
def test_a_lease_is_changed_without_a_restart(written: str, now: float | None, reasons: tuple[str, ...]) -> None:
    lease = Lease("u1", "q", now, None, "busy", 0.0, None, "runs") if now else None  # type: ignore[arg-type]
    change = model_change(fleet(f'pods = ["dc1"]\n{written}'), running(lease=lease), StartWords(MODEL))
    assert (change.action, change.reasons) == ("lease" if reasons else "as written", reasons)


def test_a_pod_with_another_ssh_command_is_not_asked_and_gets_its_models_back() -> None:
    written = fleet()
    pod = written.pods["dc1"]
    moved, with_key = replace(recorded(), ssh="ssh root@9.9.9.9"), replace(recorded(), ssh=f"{SSH} -i ~/.ssh/other")
    assert not changes.needs_asking(pod, moved)
    [change] = changes.find(written, Reality({"dc1": moved})).pods
    assert (change.action, change.is_other_machine) == ("set up again", True)
    [change] = changes.find(written, Reality({"dc1": with_key})).pods
    assert (change.action, change.is_other_machine) == ("set up again", False), "the pinned host key stays"
    assert actions(changes.find(written, Reality({"dc1": moved}))) == ["set up again", "start"]
    assert changes.needs_asking(pod, recorded())


@pytest.mark.parametrize(
    ("written", "now", "action", "reason"),
    [
        ('vllm = "0.33.0"', {"vllm": "0.32.0+cpu"}, "differs", "vllm 0.33.0 (now 0.32.0+cpu)"),
        ('vllm = "0.32.0"', {"vllm": "0.32.0+cpu"}, "as written", ""),
        ('vllm = "nightly"', {"vllm": "0.32.0"}, "as written", ""),
        ('models-path = "/w"', {}, "differs", "models-path /w (now its home)"),
        ('models-path = "/w/"', {"storage": Storage("/w")}, "as written", ""),
        ('home = "/e"', {}, "differs", "home /e (now the home folder)"),
        ("price = 2.49", {}, "record", "price 2.49 (now none)"),
        ("price = 2.49", {"price": Price(2.49, "$")}, "as written", ""),
        ("connect-timeout = 30", {"connect_timeout": 30.0}, "as written", ""),
    ],
)
def test_the_settings_of_a_pod_are_compared(written: str, now: dict[str, Any], action: str, reason: str) -> None:
    [change] = changes.find(fleet(pods=written), Reality({"dc1": recorded(**now)}, {"dc1": [running()]})).pods
    assert (change.action, ", ".join(change.reasons)) == (action, reason)


def test_a_pod_that_does_not_answer_leaves_the_others_to_be_worked_on() -> None:
    written = fleet('pods = ["dc1", "dc2"]', rest='[pods.dc2]\nssh = "ssh root@5.6.7.8"')
    error = PodUnreachable("dc1", "gone")
    found = changes.find(written, Reality({"dc1": recorded()}, {}, {"dc1": error}))
    assert actions(found) == ["failed", "set up", "unknown", "start"]
    assert found.pods[0].error is error


def test_what_is_not_in_the_file_is_named() -> None:
    other = running(name="other", uid="u9")
    found = changes.find(fleet(), Reality({"dc1": recorded(), "dc9": Pod("ssh h")}, {"dc1": [running(), other]}))
    assert (found.others, found.other_pods) == ((("dc1", "other"),), ("dc9",))
    assert found.is_as_written, "it is nothing that pi up would change"


def test_names_select_pods_with_their_models_and_models_with_their_pods() -> None:
    rest = '[pods.dc2]\nssh = "ssh root@5.6.7.8"\n[models.r]\nmodel = "a/b"\npods = ["dc2"]'
    written = fleet('pods = ["dc1", "dc2"]', rest=rest)
    assert changes.selected(written, ["dc2"]) == ({"dc2"}, {("dc2", "q"), ("dc2", "r")})
    assert changes.selected(written, ["q"]) == ({"dc1", "dc2"}, {("dc1", "q"), ("dc2", "q")})
    assert [change.place for change in changes.find(written, Reality(), ["r"]).models] == ["dc2/r"]
    with pytest.raises(BadUsage) as unknown:
        changes.selected(written, ["dc-1"])
    assert unknown.value.hint == "did you mean `dc1`?"
    both = replace(written, models={"dc1": FleetModel("dc1", "a/b", pods=("dc1",))})
    with pytest.raises(BadUsage, match="a pod and a model"):
        changes.selected(both, ["dc1"])


def test_a_model_over_several_pods_is_one_row_and_degraded_without_a_part() -> None:
    written = fleet('across = ["dc1", "dc2"]', rest='[pods.dc2]\nssh = "ssh root@5.6.7.8"')
    pods = {"dc1": recorded(StartWords(MODEL, across=("dc1", "dc2"))), "dc2": Pod("ssh root@5.6.7.8")}
    head, node = running(role="head", peers=("dc1", "dc2")), running(role="node", peers=("dc1", "dc2"), port=0)

    def found(dc1: list[RunningModel], dc2: list[RunningModel]) -> changes.Changes:
        return changes.find(written, Reality(pods, {"dc1": dc1, "dc2": dc2}))

    assert found([head], [node]).is_as_written
    assert found([head], [node]).others == (), "the node is a part of it"
    assert found([], []).models[0].action == "start"
    assert found([head], []).models[0].reasons == ("degraded: dc2 is gone",)
    assert found([], [node]).models[0].reasons == ("a part of it runs on dc2",)
    assert found([running(uid="u2")], []).models[0].reasons == ("across dc1, dc2 (now one pod)",)
    assert changes.selected(written, ["dc2"]) == ({"dc1", "dc2"}, {("dc1", "q")})
    assert changes.parts(written, {("dc1", "q")}) == {("dc1", "q"), ("dc2", "q")}
