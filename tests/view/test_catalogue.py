"""How the catalogue fits given GPUs, on the screen: a line for each model, and the details of one."""

import json
import os
from pathlib import Path

import pytest

from tests.conftest import Pi
from tests.terminal import at_a_terminal
from tests.view.screen import on_a_terminal

SHAPE = """
[architecture]
name = "Qwen3ForCausalLM"
heads = 64
max_context = 131072
widths = { hidden = 5120, intermediate = 25600, vocabulary = 151936 }
layers = [{ kind = "full", count = 64, kv_heads = 8, head_dim = 128 }]
"""
CONFIGURATION = """
[[hardware]]
gpus = ["H100"]
count = 2
args = ["--tensor-parallel-size", "2"]
env = { LAB = "a b" }
source = "a test"
```
"""
MEASURED = {
    "model": "me/large", "gpu": "H100", "count": 2, "tensor": 2, "vllm": "0.32.0",
    "not_kv_cache": 34.5, "kv_cache": 37.7, "tokens": 300000, "predicted_tokens": 309000,
}  # fmt: skip


def block(name: str, weights: float, more: str = "") -> str:
    about = f"### [x] {name}\n\nGood for tests.\n\n```toml\n"
    return f'{about}id = "me/{name}"\nweights_gb = {weights}\ndtype = "bfloat16"\n{more}{SHAPE}{CONFIGURATION}\n'


CATALOGUE = (
    block("large", 65.5, 'params_b = 32.8\nactive_params_b = 3.0\nmin_vllm = "0.20.0"\ngated = true\n')
    + block("larger", 105)
    + block("a-model-with-quite-a-long-name-that-is-too-large", 300)
)

FITTING = """\
MODEL      FITS   ON       CONTEXT  AT ONCE
me/large   fits   2x H100     128k      2.3
me/larger  tight  2x H100     128k      1.1
"""
WIDE = f"""\
{FITTING}\
me/a-model-with-quite-a-long-name-that-is-too-large  no  needs 290 GiB, has 144
"""
AT_60 = f"""\
{FITTING}\
me/a-model-with-quite-a-long-name-that-is-too-large
  no  needs 290 GiB, has 144
"""
AT_20 = """\
me/large
  fits  2x H100, 128k of context, 2.3 requests at once
me/larger
  tight  2x H100, 128k of context, 1.1 requests at once
me/a-model-with-quite-a-long-name-that-is-too-large
  no  needs 290 GiB, has 144
"""
ONE = """\
me/large
ABOUT      Good for tests.
SIZE       65.5 GB of weights in bfloat16; 32.8 billion parameters, 3 billion
           active per token
CONTEXT    at most 131,072 tokens (128k)
TOOLS      no tool-call parser
VLLM       0.20.0 or newer
LICENCE    accept it at https://huggingface.co/me/large with the account of
           HF_TOKEN
FROM       your own `models.md`
VERIFIED   tested with pi
ON         2x H100: fits
GPUS       2x H100 (GPU 0, 1), 92% of the memory
EXPECTED   131,072 tokens of context, 2.4 such requests at once
           308,640 tokens in the KV cache, from the memory measured here
WHY        - the catalogue's configuration for 2x H100: 131,072 tokens of
             context, about 2.4 such requests at once
           - 2x H100 (GPU 0, 1): the fewest that serve its full context to 2
             or more requests at once
           - its memory was measured at an earlier start
MEMORY     in GiB, of 78.5 on each GPU
                                      █ weights  ▓ KV cache  ▒ overhead  · free
  GPU 0  ██████████▓▓▓▓▓▓▓▓▓▓▓▓▓▒▒··       30.5        37.7         4.0     6.3
  GPU 1  ██████████▓▓▓▓▓▓▓▓▓▓▓▓▓▒▒··       30.5        37.7         4.0     6.3
ENV        LAB=a b
CONFIGURATIONS  * for these GPUs
* 2x       H100
           LAB='a b' --tensor-parallel-size 2
           source: a test
MEASURED  tokens of KV cache at earlier starts
  GPUS     VLLM    PREDICTED     REAL  ERROR
  2x H100  0.32.0    309,000  300,000  +3.0%
START IT
pi start me/large --name large --dry-run
pi start me/large --name large
"""


@pytest.fixture(autouse=True)
def a_catalogue() -> None:
    folder = Path(os.environ["PI_CONFIG_DIR"])
    folder.mkdir()
    (folder / "models.md").write_text(CATALOGUE)


def remember(*models: str) -> None:
    """Register a pod with two GPUs, and these models on both of them."""
    gpus = [{"id": id, "name": "NVIDIA H100 80GB HBM3", "memory": "80GB"} for id in range(2)]
    running = {name: {"model": "m/m", "port": 8001, "gpu": "0,1", "pid": 7} for name in models}
    state = {"pods": {"dc1": {"ssh": "ssh root@1.2.3.4", "gpus": gpus, "models": running}}, "active": "dc1"}
    Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))


@pytest.mark.parametrize(("columns", "screen"), [(160, WIDE), (80, WIDE), (60, AT_60), (20, AT_20)])
def test_the_list_fits_terminals_of_all_widths(columns: int, screen: str) -> None:
    assert on_a_terminal(columns, "models", "me/", "--gpu", "2x H100") == screen


def test_in_a_pipe_each_model_is_one_line(pi: Pi) -> None:
    result = pi("models", "me/", "--gpu", "2x H100", COLUMNS="20")
    assert result.out == WIDE
    assert result.err == "note: 2x H100: 1 of 3 fit, 1 more tightly; details of one: `pi models MODEL`\n"


def test_the_details_of_a_model_include_measurements_of_earlier_starts() -> None:
    Path(os.environ["PI_CONFIG_DIR"], "measured.json").write_text(json.dumps([MEASURED]))
    assert on_a_terminal(80, "models", "me/large", "--gpu", "2x H100") == ONE


def test_speculative_decoding_is_offered_as_a_start_of_its_own(pi: Pi) -> None:
    drafts = '{"method":"mtp","num_speculative_tokens":3}'
    catalogue = block("drafting", 65.5, f"speculative = '{drafts}'\n")
    Path(os.environ["PI_CONFIG_DIR"], "models.md").write_text(catalogue)
    told = pi("models", "me/drafting", "--gpu", "2x H100").out
    assert f"DRAFTS     --speculative-config '{drafts}'\n" in told
    plain, faster = told.splitlines()[-3], told.splitlines()[-1]
    assert plain == "pi start me/drafting --name drafting"
    assert faster == f"{plain} --vllm --tensor-parallel-size 2 --speculative-config '{drafts}'"


@pytest.mark.parametrize(
    ("kind", "path"),
    [("embedding", "/v1/embeddings"), ("reranker", "/v1/rerank"), ("speech", "/v1/audio/transcriptions")],
)
def test_a_model_that_does_not_chat_shows_what_it_is_instead_of_its_parser(pi: Pi, kind: str, path: str) -> None:
    catalogue = block("other", 2.3, f'kind = "{kind}"\n')
    Path(os.environ["PI_CONFIG_DIR"], "models.md").write_text(catalogue)
    [line] = [line for line in pi("models", "me/other", "--gpu", "2x H100").out.splitlines() if line.startswith("KIND")]
    assert line.startswith(f"KIND       {kind}: ")
    assert path in line
    assert "TOOLS" not in pi("models", "me/other", "--gpu", "2x H100").out


def test_measurements_and_their_errors_are_in_the_json(pi: Pi) -> None:
    Path(os.environ["PI_CONFIG_DIR"], "measured.json").write_text(json.dumps([MEASURED]))
    [row] = pi("models", "me/large", "--gpu", "2x H100", "--json").json
    [measured] = row["measured"]
    assert (measured["predicted_tokens"], measured["tokens"], round(measured["error"], 3)) == (309000, 300000, 0.03)
    assert row["plan"]["measured"] is True


def test_a_model_whose_memory_is_in_use_names_the_user_and_suggests_no_other_gpus(pi: Pi) -> None:
    remember("coder")
    told = pi("models", "me/larger").out
    assert "ON         dc1 (2x H100): fits, but its memory is in use\n" in told
    assert "GPU 0: 73.3 of 79.6 GiB are used by `coder`" in told
    assert "WOULD FIT" not in told
    lines = pi("models", "me/").out.splitlines()
    assert [line.split()[0] for line in lines if line.endswith("no room  used by `coder`")] == ["me/large", "me/larger"]


def test_start_without_a_model_shows_those_that_fit(pi: Pi) -> None:
    remember()
    started, listed = pi("start"), pi("models", "--fits")
    assert (started.code, started.out, started.err) == (0, listed.out, listed.err)
    assert " no " not in started.out


def test_on_a_terminal_start_without_a_model_shows_a_few_and_where_the_others_are() -> None:
    remember()
    with at_a_terminal("start", columns=200) as terminal:
        assert terminal.wait() == 0
        terminal.shows("; the first 15 are shown, all with `pi models --fits`; ")
    assert len(terminal.text.splitlines()) == 1 + 15 + 1


def test_models_that_fit_are_above_those_that_do_not(pi: Pi) -> None:
    folder = Path(os.environ["PI_CONFIG_DIR"])
    (folder / "models.md").write_text(block("too-large", 300) + block("tight", 105) + block("large", 65.5))
    assert [line.split()[:2] for line in pi("models", "me/", "--gpu", "2x H100").out.splitlines()[1:]] == [
        ["me/large", "fits"],
        ["me/tight", "tight"],
        ["me/too-large", "no"],
    ]


def test_only_models_that_fit_are_listed_with_fits(pi: Pi) -> None:
    words = ["models", "me/", "--gpu", "2x H100", "--fits"]
    assert pi(*words).out == FITTING
    assert [row["model"] for row in pi(*words, "--json").json] == ["me/large", "me/larger"]


def test_ids_of_models_are_printed_alone_for_scripts(pi: Pi) -> None:
    words = ["models", "me/", "--gpu", "2x H100", "-q"]
    long = "me/a-model-with-quite-a-long-name-that-is-too-large"
    listed, fitting = pi(*words), pi(*words, "--fits")
    assert (listed.out, listed.err) == (f"me/large\nme/larger\n{long}\n", "")
    assert fitting.out == "me/large\nme/larger\n"
    assert pi("models", "me/larger", "--gpu", "2x H100", "-q").out == "me/larger\n"
    assert pi(*words, "--json").err.startswith("error: `--quiet` and `--json` exclude each other")


def test_where_the_context_is_unknown_the_list_says_so_in_words(pi: Pi) -> None:
    unknown = block("other", 20).replace(SHAPE, "")
    Path(os.environ["PI_CONFIG_DIR"], "models.md").write_text(unknown)
    listed = pi("models", "me/", "--gpu", "2x H100", "--fits")
    assert listed.out.splitlines()[1].split() == ["me/other", "fits", "2x", "H100", "unknown", "unknown"]
    assert "where it is unknown, vLLM decides at the start how much context fits" in listed.err
