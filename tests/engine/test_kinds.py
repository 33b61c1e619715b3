"""A real vLLM with a model that embeds: the tiny model, converted by vLLM's own option."""

from tests.engine.conftest import Engine
from tests.engine.test_arguments import SMALL


def test_an_embedding_model_is_ready_when_it_embeds_and_is_checked_as_one(engine: Engine) -> None:
    assert engine.setup.code == 0, engine.setup.err
    own = ("--runner", "pooling", "--convert", "embed", *SMALL.split())
    started = engine.pi("start", "tiny/qwen3-chat", "--name", "e", "--vllm", *own, timeout=600)
    try:
        assert started.code == 0, started.err
        checked = engine.pi("check", "e")
        assert checked.code == 0, checked.out + checked.err
        assert "✓ embedding " in checked.out
        prompted = engine.pi("prompt", "e", "Hi")
        assert (prompted.code, prompted.out) == (1, "")
        assert "error: `e` is an embedding model: it does not answer prompts\n" in prompted.err
    finally:
        engine.pi("stop", "e")
