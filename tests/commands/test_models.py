"""`pi models`: what of the catalogue fits, and everything about one model."""

import json
import os
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi
from tests.lab.hub import Hub

AIR = "zai-org/GLM-4.5-Air"


def own_catalogue(text: str) -> Path:
    path = Path(os.environ["PI_CONFIG_DIR"], "models.md")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def line_of(model: str, text: str) -> str:
    return next(line for line in text.splitlines() if line.split()[:1] == [model])


def test_gpus_that_are_not_rented_yet_need_no_pod(pi: Pi) -> None:
    result = pi("models", "--gpu", "2x H100")
    assert result.code == 0, result.err
    assert result.out.splitlines()[0].split() == ["MODEL", "FITS", "ON", "CONTEXT", "AT", "ONCE"]
    assert line_of("Qwen/Qwen3-Coder-30B-A3B-Instruct", result.out).split()[1:5] == ["fits", "2x", "H100", "256k"]
    assert line_of(AIR, result.out).split()[1:3] == ["no", "needs"]
    assert "note: 2x H100: " in result.err


@pytest.mark.parametrize(
    ("gpus", "fitting", "not_fitting"),
    [
        ("1x RTX 4090", "openai/gpt-oss-20b", "openai/gpt-oss-120b"),
        ("8x H200", "zai-org/GLM-4.5", "moonshotai/Kimi-K2.7-Code-BF16"),
        ("4x L4", "openai/gpt-oss-120b", "Qwen/Qwen2.5-72B-Instruct"),
        ("1x T4", "Qwen/Qwen3.5-4B", "openai/gpt-oss-20b"),
    ],
)
def test_small_and_large_hardware_get_sensible_answers(pi: Pi, gpus: str, fitting: str, not_fitting: str) -> None:
    rows = {row["model"]: row["status"] for row in pi("models", "--gpu", gpus, "--json").json}
    assert rows[fitting] in ("fits", "tight")
    assert rows.get(not_fitting, "no") == "no"


def test_the_active_pod_is_asked_about_from_memory(pi: Pi, pod: EmbeddedPod) -> None:
    rows = pi("models", "--json").json
    assert {row["pod"] for row in rows} == {"dc1"}
    assert {row["hardware"] for row in rows} == {"2x H100"}
    assert pod.commands == []


def test_a_part_of_a_name_lists_those_that_have_it_and_one_alone_is_explained(pi: Pi) -> None:
    several = pi("models", "gpt-oss", "--gpu", "1x H100")
    assert [line.split()[0] for line in several.out.splitlines()[1:]] == ["openai/gpt-oss-20b", "openai/gpt-oss-120b"]
    one = pi("models", "gpt-oss-120b", "--gpu", "1x H100")
    for part in ("SIZE", "EXPECTED", "WHY", "MEMORY", "CONFIGURATIONS", "source: ", "--tool-call-parser openai"):
        assert part in one.out
    assert "pi start openai/gpt-oss-120b --name gpt-oss-120b --dry-run" in one.out


@pytest.mark.parametrize(
    "typed", ["GPT oss_120b", "hf.co/openai/gpt-oss-120b/tree/main", "https://hf.co/openai/gpt-oss-120b"]
)
def test_a_model_is_explained_however_its_name_is_spelt(pi: Pi, typed: str) -> None:
    [row] = pi("models", typed, "--gpu", "1x H100", "--json").json
    assert row["model"] == "openai/gpt-oss-120b"


def test_what_the_catalogue_lacks_is_shown_as_the_hub_has_it_and_apart_from_the_catalogue(pi: Pi) -> None:
    with Hub() as hub:
        for model in ("tuner/kimi-k9-gguf-not", "moonshotai/Kimi-K9"):
            hub.add_synthetic(model, {"config.json": b"{}"})
        shown = pi("models", "kimi-k9", "--gpu", "1x H100", HF_ENDPOINT=hub.url)
        rows = pi("models", "kimi-k9", "--gpu", "1x H100", "--json", HF_ENDPOINT=hub.url).json
        nowhere = pi("models", "gpt-os-20b", HF_ENDPOINT=hub.url)
    assert shown.code == 0, shown.err
    names = ["MODEL", "moonshotai/Kimi-K9", "tuner/kimi-k9-gguf-not"]
    assert [line.split()[0] for line in shown.out.splitlines()] == names
    assert "the catalogue has no model `kimi-k9`; these are on the Hugging Face Hub" in shown.err
    assert "`pi start moonshotai/Kimi-K9 --name kimi-k9 --dry-run`" in shown.err
    assert [(row["model"], row["status"], row["plan"]) for row in rows] == [
        ("moonshotai/Kimi-K9", "not sized", None),
        ("tuner/kimi-k9-gguf-not", "not sized", None),
    ]
    assert nowhere.code == 2
    assert "neither the catalogue nor the Hugging Face Hub has a model `gpt-os-20b`" in nowhere.err
    assert "did you mean `openai/gpt-oss-20b`" in nowhere.err


def test_one_that_does_not_fit_says_why_and_what_would_do(pi: Pi) -> None:
    told = pi("models", AIR, "--gpu", "1x H200")
    assert told.code == 0
    assert "does not fit" in told.out
    assert "its weights take" in told.out
    assert "2x H200, 4x A100, 4x H100, 2x B200" in told.out
    [row] = pi("models", AIR, "--gpu", "1x H200", "--json").json
    assert (row["status"], row["plan"]) == ("no", None)
    assert "2x H200" in row["would_fit"]


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (["--gpu", "2x H1000"], "pi does not know the GPU `H1000`", "`H100`"),
        (["--gpu", "0x H100"], "does not name GPUs", "2x H100"),
        (["gpt-os-20b", "--gpu", "1x H100"], "the catalogue has no model `gpt-os-20b`", "`openai/gpt-oss-20b`"),
        (["kimi-k9", "--gpu", "1x H100"], "the Hugging Face Hub was not searched: ", "write it with its owner"),
        ([], "there are no pods yet", '`pi models --gpu "1x H100"`'),
        (["--gpu", "1x H100", "--pod", "dc1"], "exclude each other", "leave one of them out"),
    ],
)
def test_what_makes_no_sense_is_answered_with_what_would(pi: Pi, words: list[str], said: str, hint: str) -> None:
    result = pi("models", *words)
    assert result.code == 2
    assert said in result.err
    assert hint in result.err.partition("hint: ")[2]


def test_a_catalogue_of_the_users_own_adds_and_overrides(pi: Pi) -> None:
    block = '[[hardware]]\ngpus = ["H100"]\ncount = 1\nargs = ["--enforce-eager"]\nsource = "mine"\n```\n'
    own_catalogue(
        '### My model\n\n```toml\nid = "me/mine"\nweights_gb = 10\n'
        + block
        + '\n### gpt-oss\n\n```toml\nid = "openai/gpt-oss-20b"\nweights_gb = 13.8\n'
        + block
    )
    [told] = pi("models", "me/mine", "--gpu", "1x H100", "--json").json
    assert told["configurations"][0]["args"] == ["--enforce-eager"]
    [overridden] = pi("models", "openai/gpt-oss-20b", "--gpu", "1x H100", "--json").json
    assert [each["source"] for each in overridden["configurations"]] == ["mine"]


def test_a_broken_catalogue_of_the_user_is_reported_with_its_line(pi: Pi) -> None:
    path = own_catalogue('### X\n\n```toml\nid = "me/mine"\nweights_gb = "ten"\n```\n')
    result = pi("models", "--gpu", "1x H100")
    assert result.code == 2
    assert f"error: `{path}`, line 5 (`me/mine`): `weights_gb` should be a number" in result.err


def test_piped_it_is_a_line_for_each_model_and_without_colours(pi: Pi) -> None:
    result = pi("models", "--gpu", "1x L4", COLUMNS="40")
    assert "\x1b" not in result.out
    models = [row["model"] for row in json.loads(pi("models", "--gpu", "1x L4", "--json").out)]
    assert sorted(line.split()[0] for line in result.out.splitlines()[1:]) == sorted(models)
