"""What a vLLM can do: what it said about itself, or the copy for the release."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_cli.store import vllm_files
from pi_cli.vllm import abilities
from pi_cli.vllm.abilities import Option, Vllm
from tests.properties import PROPERTY


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))
    return tmp_path / "abilities"


def said(version: str, **parts: Any) -> str:
    """Store what a vLLM said, and return its digest."""
    text = json.dumps({"format": 1, "version": version} | parts)
    vllm_files.write(text)
    return vllm_files.digest_of(text)


def test_the_release_is_known_with_all_its_parts() -> None:
    release = abilities.shipped()
    assert release.version == "0.32.0"
    assert release.architectures["Qwen3ForCausalLM"] == "generation"
    assert release.quantisations["fp8"] == (7, 5)
    assert release.schemes["CompressedTensorsW8A8Fp8"] == (8, 9)
    assert release.sparse_attention[8, 0] is False
    assert release.sparse_attention[9, 0] is True
    assert "hermes" in release.tool_call_parsers
    assert "qwen3" in release.reasoning_parsers
    assert {"--tensor-parallel-size", "-tp", "--no-enable-prefix-caching"} <= release.option_names
    assert "VLLM_USE_DEEP_GEMM" in release.variables


def test_what_the_vllm_of_a_pod_said_counts_for_it() -> None:
    digest = said("0.31.0", quantisations={"fp8": 89}, options=[{"names": ["--model"], "value": "yes"}])
    vllm = abilities.of("0.31.0+cu129", digest)
    assert (vllm.version, vllm.is_certain) == ("0.31.0+cu129", True)
    assert vllm.abilities.quantisations == {"fp8": (8, 9)}
    assert vllm.abilities.options == (Option(("--model",)),)


@pytest.mark.parametrize(
    ("version", "is_certain"),
    [("0.32.0", True), ("0.32.0+cu129", True), ("0.32.0+cpu", True), ("0.31.0", False), (None, False)],
)
def test_without_its_own_word_the_release_stands_for_a_vllm(version: str | None, is_certain: bool) -> None:
    assert abilities.of(version, None) == Vllm(version or "", abilities.shipped(), is_certain)
    assert abilities.of(version, "0" * 64).is_certain == is_certain


def test_what_another_vllm_said_does_not_count() -> None:
    vllm = abilities.of("0.33.0", said("0.31.0"))
    assert vllm == Vllm("0.33.0", abilities.shipped(), is_certain=False)


@pytest.mark.parametrize("damage", ["", "{", '{"format":1,"version":"9.9.9"}'])
def test_a_damaged_file_counts_as_missing(folder: Path, damage: str) -> None:
    digest = said("0.31.0")
    assert vllm_files.digests() == [digest]
    (folder / f"{digest}.json").write_text(damage)
    assert vllm_files.digests() == []
    assert not abilities.of("0.31.0", digest).is_certain


def test_a_model_that_needs_a_newer_vllm_is_not_refused_for_what_this_one_cannot_do() -> None:
    old = Vllm("0.31.0", abilities.Abilities("0.31.0"))
    assert old.for_model("0.31.0") is old
    assert old.for_model(None) is old
    assert old.for_model("0.33.0") == Vllm("0.33.0", abilities.shipped(), is_certain=False)
    assert old.for_model("0.32.0").is_certain


NONSENSE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
KEYS = st.sampled_from(sorted(json.loads(abilities.SHIPPED.read_text())))


@PROPERTY
@given(st.dictionaries(KEYS, NONSENSE))
def test_nonsense_is_not_understood_and_nothing_else_happens(parts: dict[str, object]) -> None:
    read = abilities.understood(json.dumps({"format": 1} | parts))
    assert read is None or all(name.isprintable() for name in (read.version, *read.architectures, *read.quantisations))


@pytest.mark.parametrize(
    "text",
    ["", "null", pytest.param("[" * 100_000, id="nested"), '{"format":2}', '{"format":1,"version":"\\u001b[2J"}'],
)
def test_a_text_that_is_not_of_vllm_is_not_understood(text: str) -> None:
    assert abilities.understood(text) is None
