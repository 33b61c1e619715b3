"""What a start takes over from an earlier one of the same plan."""

from pathlib import Path

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.test_fix import launched, that_fails_first
from tests.conftest import Pi

START = ("start", "Qwen/Qwen3-8B", "--name", "q")
KNOWN = "as the start of "
OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"


def furnish(pod: EmbeddedPod) -> Path:
    """Let the pod's vLLM say that it has the option; return the folder of what starts measure."""
    folder = pod.home / "venv"
    folder.mkdir()
    (folder / ".pi-abilities.json").write_text('{"options": [{"names": ["--kv-cache-memory-bytes"]}]}')
    return pod.home / ".pi/starts"


def test_the_second_start_does_not_measure_the_memory_again(pi: Pi, pod: EmbeddedPod) -> None:
    that_fails_first(pod)
    kept = furnish(pod)
    assert KNOWN not in pi(*START).err
    pi("stop", "q")
    again = pi(*START)
    assert again.code == 0, again.err
    assert again.err.count(KNOWN) == 1
    assert "vLLM does not measure again" in again.err
    assert ["--kv-cache-memory-bytes" in line for line in launched(pod)] == [False, True]
    pi("stop", "q")
    other = pi(*START, "--memory", "40%")
    assert other.code == 0, other.err
    assert KNOWN not in other.err
    assert len(list(kept.glob("*.json"))) == 2
    pi("stop", "q")
    cleaned = pi(*START, "--clean-cache")
    assert cleaned.code == 0, cleaned.err
    assert KNOWN not in cleaned.err
    assert len(list(kept.glob("*.json"))) == 1


def test_a_start_that_fails_with_it_is_tried_once_without_it(pi: Pi, pod: EmbeddedPod) -> None:
    kept = furnish(pod)
    assert pi(*START).code == 0
    pi("stop", "q")
    that_fails_first(pod, OUT_OF_MEMORY)
    again = pi(*START)
    assert again.code == 0, again.err
    assert (
        "vLLM failed with the KV cache that an earlier start measured: starting it once more without that" in again.err
    )
    assert ["--kv-cache-memory-bytes" in line for line in launched(pod)] == [True, False]
    assert len(list(kept.glob("*.json"))) == 1, "measured again by the start that was ready"
