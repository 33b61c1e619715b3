"""A plan and the catalogue on terminals of several widths, and in a pipe."""

import json
import os
from pathlib import Path

import pytest

from tests.conftest import Pi
from tests.view.screen import on_a_terminal

CATALOGUE = """
### [ ] mine

Good for tests.

```toml
id = "me/mine"
params_b = 32.8
weights_gb = 65.5
dtype = "bfloat16"
min_vllm = "0.20.0"
tool_call_parser = "hermes"

[architecture]
name = "Qwen3ForCausalLM"
heads = 64
max_context = 131072
widths = { hidden = 5120, intermediate = 25600, vocabulary = 151936 }
layers = [{ kind = "full", count = 64, kv_heads = 8, head_dim = 128 }]

[[hardware]]
gpus = ["H100"]
count = 2
args = ["--tensor-parallel-size", "2", "--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
notes = "a note"
source = "a test"
```
"""
H100 = {"name": "NVIDIA H100 80GB HBM3", "memory": "80GB"}
DRY_RUN = ("start", "me/mine", "--name", "q", "--dry-run")

COMMAND = "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=0,1 PYTHONPATH=~/.pi/lib SPT_NOENV=1 "
COMMAND += "vllm serve me/mine --served-model-name q --host 0.0.0.0 --port 8001 "
COMMAND += "--middleware require_key.RequireKey --tensor-parallel-size 2 "
COMMAND += "--enable-auto-tool-choice --tool-call-parser hermes\n"

WIDE = """\
me/mine on dc1
GPUS       2x H100 (GPU 0, 1), 92% of the memory
EXPECTED   131,072 tokens of context, 2.3 such requests at once
           297,568 tokens in the KV cache, estimated
WHY        - the catalogue's configuration for 2x H100: 131,072 tokens of context, about 2.3 such requests at once
           - 2x H100 (GPU 0, 1): the fewest that serve its full context to 2 or more requests at once
           - a note
MEMORY     in GiB, of 78.5 on each GPU; the overhead is an estimate until a start measures it, and may differ by 1.0
                                                   █ weights  ▓ KV cache  ▒ overhead  · free
  GPU 0  ████████████████▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▒▒▒···       30.5        36.3         5.4     6.3
  GPU 1  ████████████████▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▒▒▒···       30.5        36.3         5.4     6.3
VLLM       0.20.0 or newer
COMMAND
"""
WIDE += COMMAND
WIDE += """\
POD ADDS   - --safetensors-load-strategy prefetch if the weights are on a network file system, or load faster so
           - --kv-cache-memory-bytes as the last start of the same plan measured it, if the GPUs are as empty as then
           - HF_HUB_OFFLINE=1 if the model is complete on the pod
           - --load-format dummy for a start during the download, which only compiles (`--no-warm-up` turns it off)
"""
NARROW = """\
me/mine on dc1
GPUS       2x H100 (GPU 0, 1), 92% of the memory
EXPECTED   131,072 tokens of context, 2.3 such requests at once
           297,568 tokens in the KV cache, estimated
WHY        - the catalogue's configuration for 2x H100: 131,072 tokens of
             context, about 2.3 such requests at once
           - 2x H100 (GPU 0, 1): the fewest that serve its full context to 2
             or more requests at once
           - a note
MEMORY     in GiB, of 78.5 on each GPU; the overhead is an estimate until a
           start measures it, and may differ by 1.0
                                      █ weights  ▓ KV cache  ▒ overhead  · free
  GPU 0  ██████████▓▓▓▓▓▓▓▓▓▓▓▓▓▒▒··       30.5        36.3         5.4     6.3
  GPU 1  ██████████▓▓▓▓▓▓▓▓▓▓▓▓▓▒▒··       30.5        36.3         5.4     6.3
VLLM       0.20.0 or newer
COMMAND
"""
NARROW += COMMAND
NARROW += """\
POD ADDS   - --safetensors-load-strategy prefetch if the weights are on a
             network file system, or load faster so
           - --kv-cache-memory-bytes as the last start of the same plan
             measured it, if the GPUs are as empty as then
           - HF_HUB_OFFLINE=1 if the model is complete on the pod
           - --load-format dummy for a start during the download, which only
             compiles (`--no-warm-up` turns it off)
"""


@pytest.fixture(autouse=True)
def a_pod_and_a_catalogue() -> None:
    folder = Path(os.environ["PI_CONFIG_DIR"])
    folder.mkdir()
    (folder / "models.md").write_text(CATALOGUE)
    pod = {"ssh": "ssh root@1.2.3.4", "gpus": [{"id": id} | H100 for id in range(4)]}
    (folder / "pods.json").write_text(json.dumps({"pods": {"dc1": pod}, "active": "dc1"}))


def test_in_a_pipe_a_plan_is_complete_with_its_command_on_one_line(pi: Pi) -> None:
    assert pi(*DRY_RUN).out == WIDE


def test_a_plan_fits_a_narrow_terminal() -> None:
    assert on_a_terminal(80, *DRY_RUN) == NARROW


def test_on_an_ascii_terminal_a_plan_is_drawn_in_ascii(pi: Pi) -> None:
    result = pi(*DRY_RUN, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert result.code == 0, result.err
    assert result.out.isascii()
    assert "# weights  = KV cache  + overhead  . free" in result.out


def test_a_plan_without_a_known_kv_cache_says_how_much_memory_is_left(pi: Pi) -> None:
    start = CATALOGUE.index("[architecture]")
    path = Path(os.environ["PI_CONFIG_DIR"], "models.md")
    path.write_text(CATALOGUE[:start] + CATALOGUE[CATALOGUE.index("[[hardware]]") :])
    result = pi(*DRY_RUN)
    assert result.code == 0, result.err
    assert "EXPECTED   it fits; about " in result.out
    assert "GiB of each GPU are left for its KV cache; how much context fits there is not known" in result.out
    assert "WHY        - the catalogue's configuration for 2x H100\n" in result.out
    path.write_text(path.read_text().replace("weights_gb = 65.5", "weights_gb = 153.0"))
    assert "EXPECTED   the catalogue says that it fits; how much context is not known" in pi(*DRY_RUN).out


def test_what_vllm_will_refuse_is_shown_before_a_start(pi: Pi) -> None:
    result = pi(*DRY_RUN, "--vllm", "-tp", "2", "--max-model-len", "131072", "--gpu-memory-utilization", "0.61")
    assert result.code == 0, result.err
    assert "EXPECTED   vLLM will not start: 131,072 tokens of context do not fit, " in result.out
    assert "`--max-model-len auto`" in result.out
    [row] = pi(*DRY_RUN, "--json", "--vllm", "-tp", "2", "--gpu-memory-utilization", "0.61").json
    assert row["fits"] is False
    assert row["obstacles"][0].startswith("131,072 tokens of context do not fit, ")


def test_the_list_of_models_fits_a_narrow_terminal() -> None:
    lines = on_a_terminal(80, "models").splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split() == ["me/mine", "fits", "2x", "H100", "128k", "2.3"]
