"""What pi reads about a model from the Hub, and how little it downloads for that. The client is the real one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pi_cli.hub.repository import Repository
from tests.hub.hub_questions import check, describe, refusal
from tests.lab.hub import Hub, fingerprint

TOKEN = "hf_secretsecretsecret"
CONFIG = {"architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 2}


@pytest.fixture
def stand_in() -> Iterator[Hub]:
    with Hub(gated={"meta/gated": TOKEN}) as stand_in:
        stand_in.add_synthetic("meta/gated", {"config.json": b"{}", "model.safetensors": safetensors({})})
        yield stand_in


@pytest.fixture
def publish(stand_in: Hub) -> Callable[..., Repository]:
    """Put files into a repository and describe it: `publish({"model.safetensors": 1000})`."""

    def run(files: Mapping[str, int | bytes], *, config: bytes | None = json.dumps(CONFIG).encode()) -> Repository:
        stand_in.add_synthetic("some/model", {**files, **({} if config is None else {"config.json": config})})
        return describe("some/model", stand_in)

    return run


def safetensors(tensors: Mapping[str, tuple[str, Sequence[int]]], *, note: str = "") -> bytes:
    """Return the header of a file with these tensors, without their data."""
    header: dict[str, Any] = {name: {"dtype": dtype, "shape": shape} for name, (dtype, shape) in tensors.items()}
    text = json.dumps(header | {"__metadata__": {"note": note}}).encode()
    return len(text).to_bytes(8, "little") + text


def index(*files: str) -> bytes:
    return json.dumps({"weight_map": {f"layer.{number}": file for number, file in enumerate(files)}}).encode()


# Sizes, types, configuration


def test_the_sizes_of_shards_are_added_up(publish: Callable[..., Repository]) -> None:
    files = {f"model-0000{number}-of-00002.safetensors": 4_000_000_000 + number for number in (1, 2)}
    repository = publish({**files, "model.safetensors.index.json": index(*files), "README.md": b"# Model"})
    assert repository.weights == 8_000_000_003
    assert repository.files == 8_000_000_003 + len(index(*files)) + len(b"# Model") + len(json.dumps(CONFIG))


def test_copies_in_other_formats_and_folders_count_as_download_but_not_as_weights(
    publish: Callable[..., Repository],
) -> None:
    copies = {"pytorch_model.bin": 1_001, "original/consolidated.00.pth": 1_002, "onnx/model.safetensors": 1_003}
    repository = publish({"model.safetensors": 1_000, **copies}, config=None)
    assert (repository.weights, repository.files) == (1_000, 1_000 + 1_001 + 1_002 + 1_003)


def test_of_two_sets_of_safetensors_the_one_in_the_index_counts(
    publish: Callable[..., Repository], stand_in: Hub
) -> None:
    shards = {"model-1-of-2.safetensors": 10_000, "model-2-of-2.safetensors": 20_000}
    repository = publish({**shards, "adapter.safetensors": 7, "model.safetensors.index.json": index(*shards)})
    assert repository.weights == 30_000
    assert len(stand_in.asked("GET", "index.json")) == 1


def test_without_an_index_both_sets_are_loaded(publish: Callable[..., Repository]) -> None:
    assert publish({"model-1-of-1.safetensors": 10_000, "vision.safetensors": 7_000}).weights == 17_000


def test_the_index_of_a_single_set_is_not_requested(publish: Callable[..., Repository], stand_in: Hub) -> None:
    publish({"model-1-of-1.safetensors": 10_000, "model.safetensors.index.json": b"{}"})
    assert stand_in.asked("GET", "index.json") == []


def test_mistrals_own_format_is_preferred_as_in_vllm(publish: Callable[..., Repository]) -> None:
    shards = {"model-1-of-2.safetensors": 10_000, "model-2-of-2.safetensors": 20_000}
    both = {**shards, "model.safetensors.index.json": index(*shards), "consolidated.safetensors": 29_999}
    assert publish(both).weights == 29_999


@pytest.mark.parametrize(
    ("files", "weights"),
    [
        ({"pytorch_model-1-of-2.bin": 5, "pytorch_model-2-of-2.bin": 6, "training_args.bin": 100}, 11),
        ({"model.pt": 5, "optimizer.pt": 100}, 5),
        ({"model-Q4.gguf": 5}, None),
        ({"openvino_model.bin": 5}, None),
        ({"adapter_model.safetensors": 5}, None),
        ({"consolidated.00.pth": 5}, None),
        ({"README.md": 5}, None),
    ],
)
def test_weights_in_other_formats_have_a_size_but_no_types(
    publish: Callable[..., Repository], files: dict[str, int], weights: int | None
) -> None:
    repository = publish(files)
    assert (repository.weights, repository.dtypes) == (weights, {})


def test_parameters_are_counted_by_type(publish: Callable[..., Repository], stand_in: Hub) -> None:
    shards = {
        "model-1-of-2.safetensors": safetensors({"a": ("BF16", [3, 4]), "b": ("F8_E4M3", [100])}),
        "model-2-of-2.safetensors": safetensors({"c": ("BF16", [8])}),
    }
    repository = publish({**shards, "model.safetensors.index.json": index(*shards)})
    assert repository.dtypes == {"BF16": 20, "F8_E4M3": 100}
    assert stand_in.asked("GET", "-of-2.safetensors") == []


def test_parameters_are_counted_from_headers_where_the_hub_has_not_counted_them(
    publish: Callable[..., Repository], stand_in: Hub
) -> None:
    shards = {
        "w-1-of-2.safetensors": safetensors({"a": ("BF16", [3, 4])}) + bytes(1_000_000),
        "w-2-of-2.safetensors": safetensors({"b": ("F32", [])}, note="long" * 40_000) + bytes(1_000_000),
    }
    assert publish(shards).dtypes == {"BF16": 12, "F32": 1}
    ranges = [request.headers["range"] for request in stand_in.requests if "range" in request.headers]
    assert [text.partition("-")[0] for text in ranges] == ["bytes=0", "bytes=0", "bytes=8"]
    assert stand_in.bytes_sent < 500_000


def test_invalid_headers_leave_the_types_unknown(publish: Callable[..., Repository], stand_in: Hub) -> None:
    repository = publish({"model.safetensors": 80_000_000_000})
    assert (repository.weights, repository.dtypes) == (80_000_000_000, {})
    assert stand_in.bytes_sent < 200_000


def test_the_configuration_is_returned(publish: Callable[..., Repository]) -> None:
    assert publish({}).config == CONFIG


@pytest.mark.parametrize("config", [None, b"{", b"[]"])
def test_a_repository_may_have_no_configuration(
    publish: Callable[..., Repository], stand_in: Hub, config: bytes | None
) -> None:
    assert publish({"model.safetensors": 5}, config=config).config is None
    for stand_in.is_mirror in (False, True):
        check("some/model", stand_in)


def test_a_renamed_model_has_its_new_name(publish: Callable[..., Repository], stand_in: Hub) -> None:
    publish({"model.safetensors": 5})
    stand_in.renamed["old/name"] = "some/model"
    assert describe("old/name", stand_in).id == "some/model"
    check("old/name", stand_in)


def test_a_gated_model_is_described_to_a_token_with_access(stand_in: Hub) -> None:
    repository = describe("meta/gated", stand_in, TOKEN)
    assert repository.is_gated
    assert repository.config == {}
    check("meta/gated", stand_in, TOKEN)


# What is sent and what is stored


def test_only_the_given_token_is_sent(stand_in: Hub) -> None:
    describe("meta/gated", stand_in, TOKEN)
    assert {request.headers.get("authorization") for request in stand_in.requests} == {fingerprint(TOKEN)}
    stand_in.requests.clear()
    refusal(describe, "meta/gated", stand_in)  # HF_TOKEN is set in the environment of every test
    assert {request.headers.get("authorization") for request in stand_in.requests} == {None}


def test_nothing_is_stored_and_no_weights_are_downloaded(stand_in: Hub, tmp_path: Path) -> None:
    shards = {f"model-{number}-of-3.safetensors": 5_000_000_000 for number in (1, 2, 3)}
    stand_in.add_synthetic(
        "big/model", {"config.json": b"{}", "model.safetensors.index.json": index(*shards), **shards}
    )
    (home := tmp_path / "empty").mkdir()
    program = (
        "import asyncio; from pi_cli.hub import hub_api\n"
        f"ask = dict(token='hf_token', endpoint={stand_in.url!r})\n"
        "weights = asyncio.run(hub_api.describe('big/model', **ask)).weights\n"
        "print(weights, asyncio.run(hub_api.check_access('big/model', **ask)))"
    )
    environment = os.environ | {"HOME": str(home), "HF_HOME": str(home / "hf")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.stdout, done.stderr) == ("15000000000 None\n", "")
    assert list(home.rglob("*")) == []
    assert stand_in.bytes_sent < 200_000
