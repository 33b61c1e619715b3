"""One grammar for the names of pods and models, in all commands. No pod is asked: what is typed is refused before."""

import json
import os
import shlex
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_cli.commands import resolve
from pi_cli.errors import BadUsage
from pi_cli.store.records import Model, Pod
from pi_cli.store.state import State
from tests.conftest import Pi
from tests.properties import PROPERTY

NO_SSH = "ssh -p 1 root@127.0.0.1"


def state(**models: list[str]) -> State:
    """Return a state with these models on its pods; the first pod is active."""
    pods = {
        pod: Pod(NO_SSH, models={name: Model(f"org/{name}-8B", 8001, "0", 1) for name in names})
        for pod, names in models.items()
    }
    return State(pods, next(iter(pods), None))


def write(**models: list[str]) -> None:
    row = {"model": "Qwen/Qwen3-8B", "port": 8001, "gpu": "0", "pid": 1}
    pods = {pod: {"ssh": NO_SSH, "gpus": [], "models": dict.fromkeys(names, row)} for pod, names in models.items()}
    folder = Path(os.environ["PI_CONFIG_DIR"])
    folder.mkdir(exist_ok=True)
    (folder / "pods.json").write_text(json.dumps({"pods": pods, "active": next(iter(pods), None)}))


def refused(current: State, typed: str | None, pod: str | None = None) -> tuple[str, str]:
    with pytest.raises(BadUsage) as caught:
        resolve.model(current, typed, pod)
    return caught.value.message, str(caught.value.hint)


@pytest.mark.parametrize(
    ("typed", "pod", "chosen", "found"),
    [
        ("q", None, None, "dc1/q"),
        ("q", "dc2", None, "dc2/q"),
        ("q", None, "dc2", "dc2/q"),
        ("q", "dc1", "dc2", "dc1/q"),
        ("dc1/q", None, "dc2", "dc1/q"),
        ("dc1/q", None, "gone", "dc1/q"),
        ("dc1/q", "dc1", None, "dc1/q"),
        ("only", None, None, "dc2/only"),
        ("own", None, "dc2", "dc1/own"),
        (None, "dc3", None, "dc3/last"),
        (None, None, "dc3", "dc3/last"),
    ],
)
def test_a_model_is_found_by_its_name_its_pod_and_the_variable(
    typed: str | None, pod: str | None, chosen: str | None, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if chosen:
        monkeypatch.setenv("PI_POD", chosen)
    model = resolve.model(state(dc1=["q", "own"], dc2=["q", "only"], dc3=["last"]), typed, pod)
    assert f"{model.pod_name}/{model.name}" == found


@pytest.mark.parametrize(
    ("typed", "pod", "message", "hint"),
    [
        ("gwen", None, "there is no model `gwen`", "did you mean `qwen` or `lab-3/qwen`?"),
        ("QWEN", None, "there is no model `QWEN`", "did you mean `qwen` or `lab-3/qwen`?"),
        ("gl", None, "there is no model `gl`", "did you mean `lab-3/glm`?"),
        ("lab-3/gwen", None, "there is no model `gwen` on `lab-3`", "did you mean `lab-3/qwen` or `qwen`?"),
        ("lab/qwen", None, "there is no pod `lab`", "did you mean `lab-3/qwen`?"),
        ("dc1/glm", None, "there is no model `glm` on `dc1`", "did you mean `lab-3/glm`?"),
        ("org/glm-8B", None, "there is no pod `org`", "did you mean `lab-3/glm`?"),
        ("lab-3", None, "there is no model `lab-3`", "did you mean `lab-3/qwen` or `lab-3/glm`?"),
        ("other", None, "there is no model `other`", "see the models with `pi list --all`"),
        ("", None, "the name of the model is empty", "see the models with `pi list --all`"),
        ("dc1/", None, "the name of the model is empty", "see the models with `pi list --all`"),
        ("qwen", "lab", "there is no pod `lab`", "did you mean `lab-3`?"),
        ("lab-3/qwen", "dc1", "`lab-3/qwen` is not on `dc1`", "name the pod only once"),
        (None, None, "no model is named, and several run", "choose one of `lab-3/qwen` or `lab-3/glm`"),
        (None, "dc2", "no model is named, and none runs on `dc2`", resolve.TO_START),
    ],
)
def test_what_is_not_found_comes_with_what_may_be_meant(
    typed: str | None, pod: str | None, message: str, hint: str
) -> None:
    current = state(dc1=["qwen"], dc2=[], **{"lab-3": ["qwen", "glm"]})
    if typed is None and pod is None:
        current.active = "lab-3"
    assert refused(current, typed, pod) == (message, hint)


def test_a_name_that_several_other_pods_have_is_a_choice() -> None:
    message, hint = refused(state(dc1=[], dc2=["q"], dc3=["q"]), "q")
    assert (message, hint) == ("`q` runs on several pods", "choose one of `dc2/q` or `dc3/q`")


def test_with_many_pods_a_hint_does_not_list_them_all() -> None:
    current = state(**{f"gpu-{number}": [] for number in range(30)})
    with pytest.raises(BadUsage) as caught:
        current.pod("gpu")
    assert caught.value.hint == "did you mean `gpu-0`, `gpu-1` or `gpu-2`?"
    with pytest.raises(BadUsage) as caught:
        current.pod("xyz")
    assert caught.value.hint == "see the 30 pods with `pi pods`"


NAMES = st.sampled_from(["q", "q2", "Q", "a.b", "dc1", "dc2"])
STATES = st.dictionaries(st.sampled_from(["dc1", "dc2", "lab-3", "q"]), st.lists(NAMES, unique=True), min_size=1)


@PROPERTY
@given(pods=STATES, chosen=st.sampled_from(["", "dc1", "dc2"]), typed=st.one_of(NAMES, st.text(max_size=8)))
def test_what_pi_prints_for_a_model_is_read_as_that_model_and_nothing_typed_is_a_crash(
    pods: dict[str, list[str]], chosen: str, typed: str
) -> None:
    current = state(**pods)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PI_POD", chosen if chosen in pods else "")
        for pod, name, _ in current.models():
            found = resolve.model(current, current.spelled(pod, name), None)
            assert (found.pod_name, found.name) == (pod, name)
        with suppress(BadUsage):
            resolve.model(current, typed, None)
        with suppress(BadUsage):
            assert resolve.places(current, [typed, f"dc1/{typed}"], [])


COMMANDS = ["stop", "logs", "prompt", "run", "env", "forward", "check", "start --attach"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_the_same_names_with_the_same_words(pi: Pi, command: str) -> None:
    write(dc1=[], dc2=["q", "glm"], dc3=["q"])
    rest = {"prompt": ["hi"], "run": ["--", "true"]}.get(command, [])
    for typed, said in {
        "q": "`q` runs on several pods\nhint: choose one of `dc2/q` or `dc3/q`",
        "dc22/q": "there is no pod `dc22`\nhint: did you mean `dc2/q`?",
    }.items():
        result = pi(*command.split(), typed, *rest)
        assert (result.code, result.err) == (2, f"error: {said}\n")
    result = pi(*command.split(), "q", *rest, PI_POD="dc9")
    assert (result.code, "error: PI_POD is `dc9`, and there is no such pod" in result.err) == (2, True)


@pytest.mark.parametrize("words", [["list"], ["stop", "--all"], ["models"], ["ssh"], ["start", "m", "--name", "q"]])
def test_a_wrong_variable_is_named_by_every_command_that_would_use_the_active_pod(pi: Pi, words: list[str]) -> None:
    write(dc1=[])
    result = pi(*words, PI_POD="dc9")
    assert (result.code, "PI_POD is `dc9`" in result.err, "`unset PI_POD`" in result.err) == (2, True, True)


@pytest.mark.parametrize("command", ["prompt", "logs", "run", "env", "forward", "check"])
def test_a_name_that_is_left_out_with_several_models_is_a_choice(pi: Pi, command: str) -> None:
    write(dc1=["a", "b"])
    result = pi(command, *{"run": ["--", "true"]}.get(command, []))
    assert (result.code, result.out) == (2, "")
    assert result.err == "error: no model is named, and several run\nhint: choose one of `dc1/a` or `dc1/b`\n"


@pytest.mark.parametrize("words", [["prompt", "hello there"], ["run", "--", "true"], ["check"]])
def test_the_only_model_is_used_and_named_if_there_are_several_pods(pi: Pi, words: list[str]) -> None:
    write(dc1=[], dc2=["q"])
    result = pi(*words, timeout=60)
    assert result.err.startswith("note: using `dc2/q`\nerror: cannot reach pod `dc2`")
    assert result.code == 3


@pytest.mark.parametrize("command", ["stop", "logs", "start --attach"])
def test_a_pod_that_does_not_answer_about_an_unknown_name_gets_a_hint_with_what_may_be_meant(
    pi: Pi, command: str
) -> None:
    write(dc1=["qwen"])
    result = pi(*command.split(), "gwen")
    assert result.code == 3
    assert "hint: pi's list has no `gwen` on `dc1`: did you mean `qwen`? Otherwise: " in result.err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["prompt", "hi"], "to ask `q`: `pi prompt q hi`"),
        (["prompt", "Q2", "hi"], "did you mean `q2`?"),
        (["run", "sh", "-c", "true"], "to name no model, put `--` before the command: `pi run -- sh -c true`"),
    ],
)
def test_a_word_that_may_be_a_name_is_not_taken_for_a_prompt_or_a_command(pi: Pi, words: list[str], hint: str) -> None:
    write(dc1=["q2" if "Q2" in words else "q"])
    result = pi(*words)
    assert (result.code, result.err) == (2, f"error: there is no model `{words[1]}`\nhint: {hint}\n")
    assert shlex.split(hint.replace("`", " "))


def test_the_list_of_pods_says_that_the_variable_chose_the_pod(pi: Pi) -> None:
    write(dc1=[], dc2=[])
    listed = pi("pods", PI_POD="dc2")
    assert [line[:5] for line in listed.out.splitlines()[1:]] == ["   dc1"[:5], "*  dc2"[:5]]
    assert listed.err == "note: `dc2` is the active pod because PI_POD is set to it\n"
    assert [pod["active"] for pod in pi("pods", "--json", PI_POD="dc2").json] == [False, True]
    wrong = pi("pods", PI_POD="dc22")
    assert (wrong.code, "PI_POD is `dc22`, and there is no such pod" in wrong.err) == (0, True)
    assert "note: PI_POD is set to `dc2`, which counts more" in pi("pods", "active", "dc1", PI_POD="dc2").err


@pytest.mark.parametrize("words", [["active"], ["remove", "--yes"], ["rename", "x"], ["list"]])
def test_a_misspelt_pod_gets_the_same_hint_everywhere(pi: Pi, words: list[str]) -> None:
    write(**{"lab-3": [], "dc1": []})
    command = ["list", "--pod", "lab"] if words == ["list"] else ["pods", words[0], "lab", *words[1:]]
    result = pi(*command)
    assert (result.code, result.err) == (2, "error: there is no pod `lab`\nhint: did you mean `lab-3`?\n")
