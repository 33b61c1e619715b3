"""What pi learns from the Hub about a model, and what it does not transfer for that. The client is the real one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pi_cli.planning.hub import Repository
from tests.lab.hub import Hub, fingerprint
from tests.planning.hub_questions import check, look, refusal

TOKEN = "hf_secretsecretsecret"
CONFIG = {"architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 2}


@pytest.fixture
def stand_in() -> Iterator[Hub]:
    with Hub(gated={"meta/gated": TOKEN}) as stand_in:
        stand_in.add_synthetic("meta/gated", {"config.json": b"{}", "model.safetensors": safetensors({})})
        yield stand_in


@pytest.fixture
def publish(stand_in: Hub) -> Callable[..., Repository]:
    """Put files into a repository and look at it: `publish({"model.safetensors": 1000})`."""

    def run(files: Mapping[str, int | bytes], *, config: bytes | None = json.dumps(CONFIG).encode()) -> Repository:
        stand_in.add_synthetic("some/model", {**files, **({} if config is None else {"config.json": config})})
        return look("some/model", stand_in)

    return run


def safetensors(tensors: Mapping[str, tuple[str, Sequence[int]]], *, note: str = "") -> bytes:
    """A file with these tensors' header and no more of them."""
    header: dict[str, Any] = {name: {"dtype": dtype, "shape": shape} for name, (dtype, shape) in tensors.items()}
    text = json.dumps(header | {"__metadata__": {"note": note}}).encode()
    return len(text).to_bytes(8, "little") + text


def index(*files: str) -> bytes:
    return json.dumps({"weight_map": {f"layer.{number}": file for number, file in enumerate(files)}}).encode()


# What a model is made of


def test_shards_are_added_up(publish: Callable[..., Repository]) -> None:
    files = {f"model-0000{number}-of-00002.safetensors": 4_000_000_000 + number for number in (1, 2)}
    found = publish({**files, "model.safetensors.index.json": index(*files), "README.md": b"# Model"})
    assert found.weights == 8_000_000_003
    assert found.files == 8_000_000_003 + len(index(*files)) + len(b"# Model") + len(json.dumps(CONFIG))


def test_copies_in_other_formats_and_folders_are_not_weights_but_are_downloaded(
    publish: Callable[..., Repository],
) -> None:
    copies = {"pytorch_model.bin": 1_001, "original/consolidated.00.pth": 1_002, "onnx/model.safetensors": 1_003}
    found = publish({"model.safetensors": 1_000, **copies}, config=None)
    assert (found.weights, found.files) == (1_000, 1_000 + 1_001 + 1_002 + 1_003)


def test_of_two_sets_of_safetensors_the_one_in_the_index_counts(
    publish: Callable[..., Repository], stand_in: Hub
) -> None:
    shards = {"model-1-of-2.safetensors": 10_000, "model-2-of-2.safetensors": 20_000}
    found = publish({**shards, "adapter.safetensors": 7, "model.safetensors.index.json": index(*shards)})
    assert found.weights == 30_000
    assert len(stand_in.asked("GET", "index.json")) == 1


def test_two_sets_without_an_index_are_both_loaded(publish: Callable[..., Repository]) -> None:
    assert publish({"model-1-of-1.safetensors": 10_000, "vision.safetensors": 7_000}).weights == 17_000


def test_an_index_is_not_asked_for_where_there_is_nothing_to_choose(
    publish: Callable[..., Repository], stand_in: Hub
) -> None:
    publish({"model-1-of-1.safetensors": 10_000, "model.safetensors.index.json": b"{}"})
    assert stand_in.asked("GET", "index.json") == []


def test_mistrals_own_format_is_taken_where_it_is_there_as_vllm_does(publish: Callable[..., Repository]) -> None:
    shards = {"model-1-of-2.safetensors": 10_000, "model-2-of-2.safetensors": 20_000}
    both = {**shards, "model.safetensors.index.json": index(*shards), "consolidated.safetensors": 29_999}
    assert publish(both).weights == 29_999


@pytest.mark.parametrize(
    ("files", "weights"),
    [
        ({"pytorch_model-1-of-2.bin": 5, "pytorch_model-2-of-2.bin": 6, "training_args.bin": 100}, 11),
        ({"model.pt": 5, "optimizer.pt": 100}, 5),
        ({"model-Q4.gguf": 5, "mmproj-F16.gguf": 100}, 5),
        ({"model-Q8-1-of-2.gguf": 5, "model-Q8-2-of-2.gguf": 6}, 11),
        ({"model-Q4.gguf": 5, "model-Q8.gguf": 6}, None),
        ({"consolidated.00.pth": 5}, None),
        ({"README.md": 5}, None),
    ],
)
def test_weights_that_are_no_safetensors(
    publish: Callable[..., Repository], files: dict[str, int], weights: int | None
) -> None:
    found = publish(files)
    assert (found.weights, found.dtypes) == (weights, {})


def test_parameters_are_counted_by_type(publish: Callable[..., Repository], stand_in: Hub) -> None:
    shards = {
        "model-1-of-2.safetensors": safetensors({"a": ("BF16", [3, 4]), "b": ("F8_E4M3", [100])}),
        "model-2-of-2.safetensors": safetensors({"c": ("BF16", [8])}),
    }
    found = publish({**shards, "model.safetensors.index.json": index(*shards)})
    assert found.dtypes == {"BF16": 20, "F8_E4M3": 100}
    assert stand_in.asked("GET", "-of-2.safetensors") == []


def test_where_the_hub_has_not_counted_them_the_headers_tell(publish: Callable[..., Repository], stand_in: Hub) -> None:
    shards = {
        "w-1-of-2.safetensors": safetensors({"a": ("BF16", [3, 4])}) + bytes(1_000_000),
        "w-2-of-2.safetensors": safetensors({"b": ("F32", [])}, note="long" * 40_000) + bytes(1_000_000),
    }
    assert publish(shards).dtypes == {"BF16": 12, "F32": 1}
    ranges = [request.headers["range"] for request in stand_in.requests if "range" in request.headers]
    assert [text.partition("-")[0] for text in ranges] == ["bytes=0", "bytes=0", "bytes=8"]
    assert stand_in.bytes_sent < 500_000


def test_headers_that_are_none_tell_nothing(publish: Callable[..., Repository], stand_in: Hub) -> None:
    found = publish({"model.safetensors": 80_000_000_000})
    assert (found.weights, found.dtypes) == (80_000_000_000, {})
    assert stand_in.bytes_sent < 200_000


def test_the_configuration_is_handed_on(publish: Callable[..., Repository]) -> None:
    assert publish({}).config == CONFIG


@pytest.mark.parametrize("config", [None, b"{", b"[]"])
def test_a_repository_may_have_no_configuration(
    publish: Callable[..., Repository], stand_in: Hub, config: bytes | None
) -> None:
    assert publish({"model.safetensors": 5}, config=config).config is None
    for stand_in.is_mirror in (False, True):
        check("some/model", stand_in)


def test_a_model_that_was_renamed_is_called_by_its_new_name(publish: Callable[..., Repository], stand_in: Hub) -> None:
    publish({"model.safetensors": 5})
    stand_in.renamed["old/name"] = "some/model"
    assert look("old/name", stand_in).id == "some/model"
    check("old/name", stand_in)


def test_a_gated_model_is_seen_with_a_token_that_has_access(stand_in: Hub) -> None:
    found = look("meta/gated", stand_in, TOKEN)
    assert found.is_gated
    assert found.config == {}
    check("meta/gated", stand_in, TOKEN)


# What goes over the wire, and what stays


def test_no_token_but_the_one_given_is_sent(stand_in: Hub) -> None:
    look("meta/gated", stand_in, TOKEN)
    assert {request.headers.get("authorization") for request in stand_in.requests} == {fingerprint(TOKEN)}
    stand_in.requests.clear()
    refusal(look, "meta/gated", stand_in)  # HF_TOKEN is set in the environment of every test
    assert {request.headers.get("authorization") for request in stand_in.requests} == {None}


def test_nothing_is_kept_and_nothing_heavy_is_downloaded(stand_in: Hub, tmp_path: Path) -> None:
    shards = {f"model-{number}-of-3.safetensors": 5_000_000_000 for number in (1, 2, 3)}
    stand_in.add_synthetic(
        "big/model", {"config.json": b"{}", "model.safetensors.index.json": index(*shards), **shards}
    )
    (home := tmp_path / "empty").mkdir()
    program = (
        "import asyncio; from pi_cli.planning import hub\n"
        f"ask = dict(token='hf_token', endpoint={stand_in.url!r})\n"
        "weights = asyncio.run(hub.describe('big/model', **ask)).weights\n"
        "print(weights, asyncio.run(hub.check_access('big/model', **ask)))"
    )
    environment = os.environ | {"HOME": str(home), "HF_HOME": str(home / "hf")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.stdout, done.stderr) == ("15000000000 None\n", "")
    assert list(home.rglob("*")) == []
    assert stand_in.bytes_sent < 200_000
