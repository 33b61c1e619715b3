"""A real vLLM that compiles while a slow Hub sends the weights."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import TINY_MODEL, Engine
from tests.lab.openssh import Process
from tests.until import until

MODEL = "tiny/slow-chat"
FILLER = 60 * 10**6  # bytes that nothing reads: they make the download long
ARGUMENTS = "--dtype float32 --max-model-len 2048 --max-num-seqs 4 --kv-cache-memory-bytes 128M"
START = ("start", MODEL, "--name", "slow", "--json")
OWN = ("--vllm", *ARGUMENTS.split())

pytestmark = pytest.mark.timeout(900)


def compiled(engine: Engine) -> set[str]:
    """Return the folders of what vLLM has compiled, whose names say what for."""
    folder = "~/.cache/vllm/torch_compile_cache"
    found = engine.pod.run(f"ls -d {folder}/torch_aot_compile/* {folder}/*").stdout.split()
    return {path for path in found if not path.endswith("/torch_aot_compile")}


@pytest.fixture
def slow(engine: Engine) -> Iterator[Engine]:
    """The pod without anything compiled or downloaded, and a Hub that takes ten minutes for the model."""
    files: dict[str, int | bytes] = {path.name: path.read_bytes() for path in Path(TINY_MODEL).iterdir()}
    engine.hub.add_synthetic(MODEL, files | {"onnx/filler.onnx": FILLER})
    engine.pod.check("rm -rf ~/.cache/huggingface/hub ~/.cache/vllm ~/.pi/starts /tmp/torchinductor_root")
    engine.hub.rate = FILLER // 600
    yield engine
    engine.hub.rate = None
    engine.pi("stop", "--all")
    until(lambda: engine.pod.listening() == {22})


def dummies(engine: Engine) -> list[Process]:
    return [process for process in engine.pod.processes() if "dummy" in process.args]


def test_it_compiles_during_the_download_what_the_start_needs(slow: Engine) -> None:
    with slow.popen(*START, *OWN) as starting:
        until(lambda: slow.pi("list", "--json").json[0]["phase"] == "downloading, compiling", seconds=120)
        assert {process.environ["PI_WARM_UP"] for process in dummies(slow)} == {"1"}
        assert all("127.0.0.1" in process.args for process in dummies(slow))
        until(lambda: not dummies(slow), seconds=400)
        before = compiled(slow)
        slow.hub.rate = None
        assert before
        starting.communicate(timeout=600)
    assert starting.returncode == 0
    assert compiled(slow) == before
    assert slow.pi("prompt", "slow", "What is 2+2?").code == 0
