"""What the real vLLM says about itself after setup, and that pi's copy for the release says the same."""

import json
from pathlib import Path

import pytest

from pi_cli.vllm import abilities
from pi_cli.vllm.abilities import Abilities
from tests.engine.conftest import Engine


@pytest.fixture(scope="module")
def said(engine: Engine) -> Abilities:
    assert engine.setup.code == 0, engine.setup.err
    read = abilities.understood(engine.pod.run("cat ~/venv/.pi-abilities.json").stdout)
    assert read is not None
    return read


def test_setup_writes_what_its_vllm_can_do_and_pi_keeps_it(engine: Engine, said: Abilities) -> None:
    assert said.version.partition("+")[0] == "0.32.0"
    folder = Path(engine.settings["PI_CONFIG_DIR"])
    digest = json.loads((folder / "pods.json").read_text())["pods"]["dc1"]["abilities"]
    assert abilities.understood((folder / "abilities" / f"{digest}.json").read_text()) == said


@pytest.mark.parametrize(
    "part",
    [
        *("architectures", "former", "quantisations", "schemes", "sparse_attention"),
        *("tool_call_parsers", "reasoning_parsers", "option_names", "variables"),
    ],
)
def test_the_copy_for_the_release_says_what_the_release_says(said: Abilities, part: str) -> None:
    """`transformers` is left out: it depends on the version of that library, which vLLM does not fix."""
    copy, real = getattr(abilities.shipped(), part), getattr(said, part)
    assert copy == real
    assert real
