"""A chat whose model is stopped and started again on another port."""

from tests.commands.served import Served
from tests.conftest import Pi, pods_json
from tests.terminal import at_a_terminal


def test_a_chat_finds_its_model_on_another_port(pi: Pi, served: Served) -> None:
    served.started(pi, "q", "--vllm", "--simulate", "rate=200")
    with at_a_terminal("prompt", "q", "-i") as chat:
        chat.asks()
        chat.type("What is 2+2?\r")
        chat.asks(times=2)
        assert pi("stop", "q").code == 0
        for name in ("other", "q"):  # the first takes the port
            result = pi("start", "Qwen/Qwen3-8B", "--name", name, "--pod", "dc1")
            assert result.code == 0, result.err
        assert pods_json()["pods"]["dc1"]["models"]["q"]["port"] != served.entries["q"]["port"]
        chat.type("What is 2+2?\r")
        chat.shows("tok/s", times=2)
        chat.asks(times=3)
        chat.type("\x04")
        assert chat.wait() == 0
