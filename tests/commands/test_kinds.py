"""Models that embed, rank, classify or transcribe: `pi start`, `pi check` and `pi prompt` know what they are for."""

import os
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.vllm import kinds
from pi_cli.vllm.kinds import Kind
from tests.commands.served import Served
from tests.conftest import Pi

pytestmark = pytest.mark.xdist_group("test_kinds")


class Called(NamedTuple):
    """The name of a running model, and what pi calls it and says about its route."""

    name: str
    what: str
    route: str


OWN = ("--private", "--vllm", "--max-model-len", "8192")
CHECKED = {
    "Qwen/Qwen3-Embedding-0.6B": """\
✓ key required              <s> s
✓ key accepted              <s> s  a context of 8192 tokens
✓ embedding                 <s> s  64 dimensions
✓ several embeddings        <s> s
✓ similar texts             <s> s  cosine <n> for related texts, <n> for others
""",
    "BAAI/bge-reranker-v2-m3": """\
✓ key required              <s> s
✓ key accepted              <s> s  a context of 8192 tokens
✓ ranking                   <s> s  <n> for the relevant document, <n> for the other
""",
    "someone/text-classifier": """\
✓ key required              <s> s
✓ key accepted              <s> s  a context of 8192 tokens
✓ classes                   <s> s  LABEL_0 of 2
""",
    "openai/whisper-large-v3": """\
✓ key required              <s> s
✓ key accepted              <s> s  a context of 8192 tokens
✓ transcription             <s> s  a second of silence
""",
}
CALLED = {
    "Qwen/Qwen3-Embedding-0.6B": Called("embed", "an embedding model", "/v1/embeddings"),
    "BAAI/bge-reranker-v2-m3": Called("rank", "a reranker", "/v1/rerank"),
    "someone/text-classifier": Called("classify", "a classifier", "/classify"),
    "openai/whisper-large-v3": Called("hear", "a model that transcribes speech", "/v1/audio/transcriptions"),
}
OWN_ENTRY = """
```toml
id = "me/mine"
weights_gb = 1.0
kind = "{kind}"
[[hardware]]
gpus = ["any"]
count = 1
args = []
```
"""
BROKEN = """
class Broken:
    \"\"\"Refuses to embed.\"\"\"

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope.get("path") != "/v1/embeddings":
            return await self.app(scope, receive, send)
        await send({"type": "http.response.start", "status": 400, "headers": [(b"content-length", b"18")]})
        await send({"type": "http.response.body", "body": b"no embedding today"})
"""


@pytest.mark.parametrize("model", CHECKED)
def test_a_model_is_asked_for_what_it_is_for(pi: Pi, served: Served, model: str) -> None:
    served.started(pi, CALLED[model].name, *OWN, model=model)
    checked = pi("check", CALLED[model].name)
    assert (checked.code, seen(checked.out), checked.err) == (0, CHECKED[model], "")
    name, what, route = CALLED[model]
    prompted = pi("prompt", name, "Hi")
    assert prompted.code == 1
    assert prompted.out == ""
    assert prompted.err.splitlines() == [
        f"error: `{name}` is {what}: it does not answer prompts",
        f"hint: open a local port for its clients with `pi forward {name}`; they send requests to {route}",
    ]


@pytest.mark.usefixtures("pod")
def test_a_start_offers_a_check_instead_of_a_prompt(pi: Pi) -> None:
    result = pi("start", "Qwen/Qwen3-Embedding-0.6B", "--name", "e", *OWN)
    assert result.code == 0, result.err
    assert result.out.endswith("\ntry it with `pi check e`\n")


def test_an_embedding_model_that_embeds_nothing_is_not_ready(pi: Pi, pod: EmbeddedPod) -> None:
    (pod.home / ".pi" / "lib").mkdir(parents=True, exist_ok=True)
    (pod.home / ".pi" / "lib" / "broken.py").write_text(BROKEN)
    result = pi("start", "Qwen/Qwen3-Embedding-0.6B", "--name", "e", *OWN, "--middleware", "broken.Broken")
    assert result.code == 4
    assert "error: `e` is up, but a request failed: 400 no embedding today\n" in result.err
    assert pi("list", "--json").json == []


def seen(screen: str) -> str:
    return re.sub(r"\b\d\.\d{2,3}\b", "<n>", re.sub(r"\d+\.\d s\b", "<s> s", screen))


@pytest.mark.usefixtures("pod")
@pytest.mark.parametrize("kind", [kind for kind in kinds.ROUTES if kind != "generation"])
def test_a_model_of_each_kind_in_ones_own_catalogue_is_shown_as_what_it_is(pi: Pi, kind: Kind) -> None:
    Path(os.environ["PI_CONFIG_DIR"], "models.md").write_text(OWN_ENTRY.format(kind=kind))
    shown = pi("models", "me/mine")
    assert shown.code == 0, shown.err
    said = re.escape(f"{kind}: {kinds.described(kind)}")
    assert re.search(rf"^KIND +{said}$", shown.out, re.MULTILINE)
