"""What is refused after `--vllm`, and what is left to the pod because its vLLM may know more."""

import re
import shlex
from collections.abc import Sequence

import pytest
from hypothesis import given

from pi_cli.errors import BadUsage
from pi_cli.planning import catalogue
from pi_cli.store import paths
from pi_cli.vllm import abilities, own_arguments, vllm_arguments, vllm_options
from pi_cli.vllm.own_arguments import REMOVED, RENAMED
from tests.every import every
from tests.properties import PROPERTY
from tests.vllm.option_lines import lines

KNOWN = abilities.shipped()


def again(arguments: Sequence[str]) -> Sequence[str]:
    return ("pi", "start", "m/m", "--name", "q", "--vllm", *arguments)


def refuse(line: str, *, is_certain: bool = False, is_same: bool = True) -> str:
    """Return the hint of the refusal; empty if the line is accepted."""
    try:
        own_arguments.refuse(line.split(), KNOWN, again, pod="dc1", is_certain=is_certain, is_same=is_same)
    except BadUsage as error:
        return error.hint or "refused without a hint"
    return ""


def test_names_of_former_versions_are_gone_and_their_new_names_exist() -> None:
    names = {name for option in KNOWN.options for name in option.names}
    assert not names & (RENAMED.keys() | REMOVED.keys())
    assert {new.partition(".")[0] for new in RENAMED.values()} <= names
    refused = vllm_arguments.REFUSED.keys() | set(own_arguments.OF_SEVERAL_MACHINES)
    assert refused <= names


@pytest.mark.parametrize(
    ("line", "corrected"),
    [
        ("--disable-log-requests -tp 2", "--no-enable-log-requests -tp 2"),
        ("--guided-decoding-backend=xgrammar", "--structured-outputs-config.backend xgrammar"),
        ("--speculative-model x/y", "--speculative-config.model x/y"),
        ("--task score", "--runner pooling"),
        ("--task generate", "--runner generate"),
        ("--swap-space 4 --seed 1", "--seed 1"),
        ("--gpu-memory-utilisation=0.5", "--gpu-memory-utilization=0.5"),
        ("--dtype flot16", "--dtype float16"),
        ("--max 8", "--max-model-len 8"),
        ("-dp 16 -dpl 8", "--data-parallel-size 8"),
        ("--nnodes 2 -tp 16", "--tensor-parallel-size 8"),
        ("-tp4", "-tp 4"),
        ("--device-ids 0,1,2", "--tensor-parallel-size 3"),
        ("--device-ids 1 -tp 1", "-tp 1"),
        ("--port 1 --host=x --seed 1", "--seed 1"),
        ("--tool-call-parser hermes --enforce-eager=0", "--tool-call-parser hermes --no-enforce-eager"),
    ],
)
def test_the_hint_has_the_corrected_command(line: str, corrected: str) -> None:
    assert f"`pi start m/m --name q --vllm {corrected}`" in refuse(line)
    assert refuse(corrected) == ""


@pytest.mark.parametrize(
    "line",
    [
        "--an-option-of-tomorrow 3",
        "--max-num-seqs-per-adapter 3",
        "--all2all-backend deepep_v3",
        "--kv-cache-dtype nvfp5",
        "--moe-backend flashinfer-cutlass",
    ],
)
def test_what_a_newer_vllm_may_have_is_left_to_the_pod(line: str) -> None:
    assert refuse(line) == ""


@pytest.mark.parametrize("line", ["--an-option-of-tomorrow 3", "--kv-cache-dtype nvfp5"])
def test_what_the_pods_own_vllm_does_not_have_is_refused(line: str) -> None:
    assert refuse(line, is_certain=True)


@pytest.mark.parametrize(
    "line", ["--disable-log-requests", "--swap-space 4", "--max-modle-len 8", "--limit-mm-per-prompt image=2"]
)
def test_another_version_on_the_pod_may_have_other_names(line: str) -> None:
    assert refuse(line)
    assert refuse(line, is_same=False) == ""


@pytest.mark.parametrize("line", ["--nnodes 1 --node-rank 0", "-dp 4 -dpl 4", "--no-enable-ssl-refresh", "--hf-token"])
def test_what_changes_nothing_is_accepted(line: str) -> None:
    assert refuse(line) == ""


def test_remarks_name_what_was_typed_and_what_it_means() -> None:
    assert list(own_arguments.remarks(["--max-model=8", "-tp", "2"], KNOWN)) == [
        "`--max-model` is read as `--max-model-len`"
    ]
    assert vllm_options.spelled_out(["--max-model=8"], KNOWN.options) == ("--max-model-len=8",)


def lines_of_the_catalogue() -> list[str]:
    entries = catalogue.parse(paths.asset("models.md").read_text(encoding="utf-8"))
    return [shlex.join(configuration.args) for entry in entries for configuration in entry.hardware]


@every(lines_of_the_catalogue)
def test_every_line_of_the_catalogue_is_accepted_and_unchanged(line: str) -> None:
    words = tuple(shlex.split(line))
    own_arguments.refuse(words, KNOWN, again, pod="dc1", is_certain=True)
    assert vllm_options.spelled_out(words, KNOWN.options) == words


@PROPERTY
@given(lines(KNOWN.options))
def test_corrected_commands_lead_to_one_that_is_accepted_or_to_a_hint_in_words(arguments: list[str]) -> None:
    seen = []
    while arguments not in seen:
        seen.append(arguments)
        try:
            own_arguments.refuse(arguments, KNOWN, again, pod="dc1")
        except BadUsage as error:
            corrected = re.findall(r"`(pi start m/m [^`]*)`", error.hint or "")
            if not corrected:
                return
            arguments = shlex.split(corrected[0])[len(again([])) :]
        else:
            return
    pytest.fail(f"the hint offers what was refused: {seen}")
