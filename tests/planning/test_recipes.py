"""The published recipes, as pi reads, refuses, merges and stores them."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_cli.errors import BadUsage
from pi_cli.planning import (
    candidates,
    catalogue,
    gpu_space,
    gpu_types,
    lookup,
    merging,
    names,
    plan,
    recipe_snapshot,
    recipes,
)
from pi_cli.planning.candidates import Constraints
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import KnownModel
from pi_cli.planning.recipe_arguments import NotAllowed
from pi_cli.planning.recipes import Malformed
from pi_cli.store import paths
from pi_cli.vllm import vllm_arguments
from tests.conftest import NO_HUB
from tests.hub.published import TOOLS, document
from tests.lab.hub import Hub
from tests.properties import PROPERTY

MODEL = "Qwen/Qwen3-32B"  # of our catalogue
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 64, "num_attention_heads": 64, "num_key_value_heads": 8,
    "head_dim": 128, "hidden_size": 5120, "max_position_embeddings": 40960, "torch_dtype": "bfloat16",
}  # fmt: skip


def fetched(*documents: dict[str, Any]) -> None:
    """Store these recipes as an update does."""
    file = paths.config_dir() / "site.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(documents))
    recipe_snapshot.store(recipe_snapshot.read(file))


def test_a_recipe_is_read_as_published() -> None:
    arguments = ("--trust-remote-code", "--max-num-seqs", "512", *TOOLS)
    recipe = recipes.parse(document("me/model", *arguments, gpus=2, env={"VLLM_USE_DEEP_GEMM": "0"}))
    assert (recipe.id, recipe.page, recipe.updated) == ("me/model", "me/model", "2026-11-20")
    assert (recipe.gpu, recipe.count, recipe.min_vllm) == ("H200", 2, "0.11.0")
    assert recipe.args == ("--tensor-parallel-size", "2", "--max-num-seqs", "512", *TOOLS)
    assert recipe.general == TOOLS
    assert recipe.env == recipe.general_env == {"VLLM_USE_DEEP_GEMM": "0"}
    assert recipe.left_out == ("--trust-remote-code",)
    assert "runs code from the model's repository" in recipe.notes
    assert recipes.from_json(json.loads(json.dumps(recipes.as_json(recipe)))) == recipe


def test_what_a_recipe_sets_for_its_hardware_only_is_not_about_the_model() -> None:
    overrides = {"hopper": {"extra_args": ["--moe-backend", "triton"], "extra_env": {"VLLM_USE_DEEP_GEMM": "0"}}}
    settings = {"VLLM_USE_DEEP_GEMM": "0", "OMP_NUM_THREADS": "1"}
    recipe = recipes.parse(document("me/model", *TOOLS, "--moe-backend", "triton", overrides=overrides, env=settings))
    assert recipe.args == (*TOOLS, "--moe-backend", "triton")
    assert recipe.general == TOOLS
    assert recipe.general_env == {"OMP_NUM_THREADS": "1"}


def test_a_recipe_that_serves_another_form_is_for_that_form() -> None:
    recipe = recipes.parse(document("zai-org/GLM-9", serves="zai-org/GLM-9-FP8"))
    assert (recipe.id, recipe.page) == ("zai-org/GLM-9-FP8", "zai-org/GLM-9")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hf_id": "../../etc"}, "`hf_id` is not the id of a model"),
        ({"hf_id": 7}, "`hf_id` is not a line of text"),
        ({"meta": []}, "`meta` is not an object"),
        ({"meta": {"date_updated": "tomorrow"}}, "`date_updated` is not a date"),
        ({"meta": {"date_updated": "2026-11-20", "description": ["x"]}}, "`description` is not a text"),
        ({"meta": {"date_updated": "2026-11-20", "description": "\x1b[2J"}}, "`description` is not a text"),
        ({"model": {"min_vllm_version": "nightly"}}, "`min_vllm_version` is not a version"),
        ({"model": {"min_vllm_version": 1}}, "`min_vllm_version` is not a version"),
        ({"recommended_command": None}, "it has no command for `vllm serve`"),
        ({"recommended_command": "vllm serve"}, "`recommended_command` is not an object"),
        ({"command": {"node_count": 2}}, "it needs several machines"),
        ({"command": {"deploy_type": "pd_cluster"}}, "it needs several machines"),
        ({"command": {"hardware_profile": {"brand": "AMD"}}}, "it is for other GPUs than NVIDIA's"),
        ({"command": {"hardware": "x100"}}, "it is for the hardware `x100`, which pi does not know"),
        ({"command": {"argv": "vllm serve a/b"}}, "`argv` is not a list of texts"),
        ({"command": {"argv": ["sh", "-c", "reboot"]}}, "`argv` is not a command of `vllm serve`"),
        ({"command": {"argv": []}}, "`argv` is not a command of `vllm serve`"),
        ({"command": {"argv": ["vllm", "serve", "/etc"]}}, "`argv` is not a command of `vllm serve`"),
        ({"command": {"argv": ["vllm", "serve", "a/b", "--middleware", "x"]}}, "it needs `--middleware`"),
        ({"command": {"argv": ["vllm", "serve", "a/b", "--port", "1"]}}, "it needs `--port`"),
        ({"command": {"argv": ["vllm", "serve", "a/b", "--data-parallel-size", "99"]}}, "it uses 99 GPUs"),
        ({"command": {"env": {"LD_PRELOAD": "x"}}}, "it sets the variable `LD_PRELOAD`"),
        ({"command": {"env": {"VLLM_USE_DEEP_GEMM": 0}}}, "`env` is not a table of texts"),
        ({"command": {"env": ["a"]}}, "`env` is not a table of texts"),
    ],
)
def test_a_document_that_pi_cannot_use_is_refused_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises((Malformed, NotAllowed)) as caught:
        recipes.parse(document("me/model", **changes))
    assert str(caught.value) == reason


def test_unknown_keys_are_ignored() -> None:
    assert recipes.parse(document("me/model", new_key={"a": 1}, command={"another": []})) == recipes.parse(
        document("me/model")
    )


EMPTY: dict[str, Any] = {"hf_id": "a/b", "meta": {}, "model": {}, "recommended_command": {}}


@pytest.mark.parametrize("value", [None, [], "x", 1, {}, EMPTY])
def test_what_is_not_a_recipe_is_refused(value: object) -> None:
    with pytest.raises((Malformed, NotAllowed)):
        recipes.parse(value)


JUNK = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.sampled_from(["--port", "/x", "2026-13-01"]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)


def published() -> Any:
    overrides = {"hopper": {"extra_args": ["--enforce-eager"], "extra_env": {"OMP_NUM_THREADS": "1"}}}
    return json.loads(json.dumps(document("me/model", overrides=overrides, env={"OMP_NUM_THREADS": "1"})))


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the keys that lead to each value in a document."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*before, key)
        yield from places(value[key], (*before, key))


@PROPERTY
@given(st.sampled_from(sorted(places(published()), key=str)), JUNK)
def test_a_document_with_any_value_anywhere_is_read_or_refused(place: tuple[Any, ...], junk: object) -> None:
    *path, last = place
    changed = at = published()
    for key in path:
        at = at[key]
    at[last] = junk
    try:
        recipe = recipes.parse(changed)
    except (Malformed, NotAllowed) as error:
        reason = str(error)
    else:
        reason = ""
        assert recipes.from_json(json.loads(json.dumps(recipes.as_json(recipe)))) == recipe
    assert "\n" not in reason


# With our catalogue


def test_a_newer_recipe_gives_our_entry_its_arguments_and_leaves_it_weights_and_architecture() -> None:
    before = catalogue.find(MODEL)
    fetched(document(MODEL, "--max-num-seqs", "64", "--tool-call-parser", "new_parser", min_vllm="0.33.0"))
    entry = catalogue.find("qwen/qwen3-32b")
    assert before
    assert entry
    assert (entry.weights_gb, entry.architecture, entry.dtype) == (before.weights_gb, before.architecture, before.dtype)
    assert (entry.tool_call_parser, entry.min_vllm) == ("new_parser", "0.33.0")
    assert entry.hardware[0].args == ("--max-num-seqs", "64", "--tool-call-parser", "new_parser")
    assert (entry.hardware[0].gpus, entry.hardware[0].count) == (("H200",), 1)
    for ours, now in zip(before.hardware, entry.hardware[1:], strict=True):
        assert (now.gpus, now.count) == (ours.gpus, ours.count)
        assert "new_parser" in now.args
        assert "hermes" not in now.args
        assert recipe_of(MODEL).source in now.source
    assert entry.origin.startswith(f"arguments: vllm-project/recipes, {MODEL}, updated 2026-11-20; weights")
    assert [each.id for each in catalogue.entries()].count(MODEL) == 1
    assert catalogue.search(MODEL)[0] == entry


def recipe_of(model: str) -> recipes.Recipe:
    recipe = recipes.find(model)
    assert recipe
    return recipe


def test_an_older_recipe_changes_nothing() -> None:
    before = catalogue.entries()
    fetched(document(MODEL, "--enforce-eager", updated=recipes.SHIPPED))
    assert catalogue.entries() == before


def test_the_users_own_entry_comes_before_a_recipe() -> None:
    fetched(document(MODEL, "--enforce-eager"))
    block = f'```toml\nid = "{MODEL}"\nweights_gb = 1\n\n[[hardware]]\ngpus = ["any"]\ncount = 1\nargs = []\n```\n'
    (paths.config_dir() / "models.md").write_text(block)
    entry = catalogue.find(MODEL)
    assert entry
    assert [configuration.args for configuration in entry.hardware] == [()]
    assert entry.origin == "your own `models.md`"


def test_code_of_a_repository_runs_only_where_our_catalogue_allows_it() -> None:
    entries = catalogue.entries()
    ours = next(each for each in entries if any("--trust-remote-code" in row.args for row in each.hardware))
    other = next(each for each in entries if not any("--trust-remote-code" in row.args for row in each.hardware))
    for entry, is_trusted in ((ours, True), (other, False)):
        merged = merging.merged(entry, recipes.parse(document(entry.id, "--trust-remote-code", *TOOLS)))
        assert all(("--trust-remote-code" in row.args) == is_trusted for row in merged.hardware)
        assert bool(merged.hardware[0].notes) != is_trusted


def test_plans_of_every_merged_entry_request_as_many_gpus_as_they_get() -> None:
    fetched(*(document(entry.id, gpus=8) for entry in catalogue.entries()))
    spaces = gpu_space.measure(gpu_types.parse("8x H200"), {}, {})
    planned = 0
    for entry in catalogue.entries():
        assert entry.general
        profile = lookup.from_catalogue(entry)
        for candidate in candidates.possible(profile, None, spaces):
            assert vllm_arguments.gpus_requested(candidate.arguments) == candidate.count
            planned += 1
    assert planned > 100


# Models that only the recipes have


def test_a_model_of_the_recipes_is_planned_from_its_description_and_their_arguments() -> None:
    fetched(document("me/new-model", "--max-num-seqs", "64", *TOOLS, min_vllm="0.33.0", gpus=8))
    with Hub() as hub:
        files: dict[str, int | bytes] = {
            "config.json": json.dumps(CONFIG).encode(),
            "model.safetensors": 65_500_000_000,
        }
        hub.add_synthetic("me/new-model", files)
        profile = asyncio.run(lookup.find("me/new-model", token=None, endpoint=hub.url))
    assert names.called("New Model") == ["me/new-model"]
    assert isinstance(profile, KnownModel)
    assert profile.entry
    arguments, _, rest = profile.entry.origin.partition("; ")
    assert arguments == "arguments: vllm-project/recipes, me/new-model, updated 2026-11-20"
    assert rest == "weights and architecture: the Hugging Face Hub"
    for gpus, count in (("8x H200", 1), ("4x H100", 2)):
        made = planned(profile, gpus, Constraints())
        assert len(made.gpus) == count
        assert " ".join(TOOLS) in " ".join(made.arguments)
        assert made.min_vllm == "0.33.0"
    listed = planned(profile, "8x H200", Constraints(gpus=8))
    assert listed.arguments == ("--tensor-parallel-size", "8", "--max-num-seqs", "64", *TOOLS)


def planned(profile: KnownModel, gpus: str, constraints: Constraints) -> Plan:
    spaces = gpu_space.measure(gpu_types.parse(gpus), {}, {})
    return plan.make(profile, constraints, spaces, pod="dc1", is_cpu=False)


def test_without_the_hub_a_model_of_the_recipes_is_unknown() -> None:
    fetched(document("me/new-model"))
    profile = asyncio.run(lookup.find("me/new-model", token=None, endpoint=NO_HUB))
    assert not isinstance(profile, KnownModel)


# The stored file


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": 1}', '{"format": 1, "documents": []}', '{"format": 1, "documents": {"/a/b.json": 1}}'],
)
def test_a_damaged_file_is_reported_with_the_way_out(text: str) -> None:
    recipes.path().parent.mkdir(parents=True)
    recipes.path().write_text(text)
    with pytest.raises(BadUsage) as caught:
        recipes.find("a/b")
    assert caught.value.hint == (
        "fetch them again with `pi models update`, or remove them with `pi models update --remove`"
    )


def test_what_a_newer_pi_would_refuse_is_refused_when_it_is_read() -> None:
    """Also what was changed in the file by hand."""
    fetched(document("me/model"))
    data = json.loads(recipes.path().read_text())
    data["documents"]["/me/model.json"]["recipe"]["args"] += ["--middleware", "evil"]
    recipes.path().write_text(json.dumps(data))
    assert recipes.find("me/model") is None
    again = recipe_snapshot.stored()
    assert again
    assert again.refused == {"me/model": "it needs `--middleware`"}


def test_a_recipe_of_the_models_own_name_comes_before_another_that_serves_it() -> None:
    other = document("me/model", "--max-num-seqs", "2", serves="me/model-FP8")
    fetched(document("me/model-FP8", "--max-num-seqs", "1"), other)
    assert recipe_of("me/model-fp8").args == ("--max-num-seqs", "1")


def test_a_folder_that_is_laid_out_as_the_site_is_read(tmp_path: Path) -> None:
    (tmp_path / "me").mkdir()
    index = [{"hf_id": name, "json": f"/{name}.json"} for name in ("me/model", "me/missing")]
    (tmp_path / "models.json").write_text(json.dumps([*index, {"hf_id": "x", "json": "/../x.json"}, 7]))
    (tmp_path / "me" / "model.json").write_text(json.dumps(document("me/model")))
    snapshot = recipe_snapshot.read(tmp_path)
    assert list(snapshot.by_model) == ["me/model"]
    assert snapshot.refused == {"me/missing": "the recipe is not an object"}
