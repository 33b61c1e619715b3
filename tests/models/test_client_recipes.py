"""What known clients get: everything names the model, nothing holds a key, and the user's own words come last."""

import itertools
import json
import tomllib
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from pi_cli.models import client_recipes
from pi_cli.models.client_recipes import RECIPES, Endpoint, Setup

MODEL = Endpoint("http://127.0.0.1:41234/v1", "my.model-1", 16_384)


def setup_of(client: str, model: Endpoint = MODEL) -> Setup:
    recipe = client_recipes.recipe_for(client)
    assert recipe
    return recipe(model)


@pytest.mark.parametrize("client", sorted(RECIPES))
def test_files_and_arguments_are_there_while_the_command_runs(client: str) -> None:
    with client_recipes.prepared([client, "--own", "word"], MODEL) as (words, variables):
        assert words[0] == client
        assert words[-2:] == ["--own", "word"]
        everything = [*words, *variables.values()]
        assert not any(client_recipes.FOLDER in each for each in everything)
        folders = {Path(each) for each in everything if each.startswith("/tmp")}
        for folder in folders:
            assert folder.exists()
    assert not any(folder.exists() for folder in folders)


@pytest.mark.parametrize("client", sorted(RECIPES))
def test_each_client_hears_of_the_model(client: str) -> None:
    setup = setup_of(client)
    everything = [*setup.variables.values(), *setup.arguments, *setup.files.values()]
    assert client == "qwen" or any(MODEL.name in each for each in everything)


def test_other_commands_get_no_more_than_variables() -> None:
    with client_recipes.prepared(["python", "agent.py"], MODEL) as prepared:
        assert prepared == (["python", "agent.py"], {})


def test_claude_uses_the_model_in_every_slot_and_asks_for_no_more_than_fits() -> None:
    variables = setup_of("claude").variables
    assert {value for name, value in variables.items() if name.endswith("_MODEL")} == {MODEL.name}
    assert variables["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "4096"
    assert variables["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] == "1"


def test_codex_gets_a_provider_in_toml() -> None:
    words = setup_of("codex").arguments
    settings = tomllib.loads("\n".join(word for option, word in itertools.pairwise(words) if option == "-c"))
    assert settings["model_providers"]["pi"] == {
        "name": "pi", "base_url": MODEL.url, "env_key": "OPENAI_API_KEY", "wire_api": "responses",
    }  # fmt: skip
    assert (settings["model_provider"], settings["model_context_window"]) == ("pi", 16_384)
    assert words[-2:] == ("-m", MODEL.name)


def test_configurations_are_valid_and_have_the_limits() -> None:
    opencode = json.loads(setup_of("opencode").variables["OPENCODE_CONFIG_CONTENT"])
    assert opencode["provider"]["pi"]["models"][MODEL.name]["limit"] == {"context": 16_384, "output": 4096}
    assert json.loads(setup_of("aider").files["models.json"])[f"openai/{MODEL.name}"]["max_input_tokens"] == 16_384
    [entry] = yaml.safe_load(setup_of("llm").files["extra-openai-models.yaml"])
    assert (entry["model_id"], entry["api_base"]) == (MODEL.name, MODEL.url)
    [model] = yaml.safe_load(setup_of("cn").files["pi.yaml"])["models"]
    assert (model["apiBase"], model["defaultCompletionOptions"]["contextLength"]) == (MODEL.url, 16_384)
    crush = json.loads(setup_of("crush").files["crush.json"])
    assert crush["providers"]["pi"]["models"][0]["context_window"] == 16_384


def test_a_client_that_would_ask_its_vendor_is_refused() -> None:
    assert "its own cloud" in (client_recipes.refusal("/usr/bin/cline") or "")
    assert client_recipes.refusal("python") is None
    assert client_recipes.refusal("pi") is None


def test_another_program_called_pi_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "node_modules/@mariozechner/pi-coding-agent/dist"
    package.mkdir(parents=True)
    (package / "cli.js").write_text("#!/usr/bin/env node\n")
    (package / "cli.js").chmod(0o755)
    (tmp_path / "pi").symlink_to(package / "cli.js")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "sends the prompt to its vendor" in (client_recipes.refusal("pi") or "")
