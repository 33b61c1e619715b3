"""The metrics of the simulated server, by the names of vLLM 0.32; each says that it is simulated."""

import contextlib
from collections.abc import Callable, Iterator

from pi_cli.demo.engine.chat import Completion


class Work:
    """The requests that are being answered, and the counters of all; `on_change` gets the number of active ones."""

    def __init__(self, on_change: Callable[[int], None]) -> None:
        self._on_change = on_change
        self.active: list[Completion] = []
        self._prompt_tokens = 0
        self._generation_tokens = 0
        self._first_tokens: list[float] = []
        self._finished = 0

    @contextlib.contextmanager
    def counted(self, completion: Completion) -> Iterator[None]:
        self.active.append(completion)
        self._on_change(len(self.active))
        self._prompt_tokens += completion.prompt_tokens
        try:
            yield
        finally:
            self.active.remove(completion)
            self._finished += 1
            self._on_change(len(self.active))
            self._generation_tokens += completion.sent
            self._first_tokens += _first_tokens([completion])

    def metrics(self, model: str) -> str:
        """Return all metrics in the text format of Prometheus."""
        first_tokens = self._first_tokens + _first_tokens(self.active)
        families: dict[tuple[str, str], dict[str, float]] = {
            ("num_requests_running", "gauge"): {"": len(self.active)},
            ("num_requests_waiting", "gauge"): {"": 0},
            ("kv_cache_usage_perc", "gauge"): {"": min(len(self.active) * 0.01, 1.0)},
            ("prompt_tokens", "counter"): {"_total": self._prompt_tokens},
            ("generation_tokens", "counter"): {
                "_total": self._generation_tokens + sum(completion.sent for completion in self.active)
            },
            ("request_success", "counter"): {"_total": self._finished},
            ("time_to_first_token_seconds", "histogram"): {"_sum": sum(first_tokens), "_count": len(first_tokens)},
        }
        lines = []
        for (name, kind), values in families.items():
            name += "_total" if kind == "counter" else ""
            lines += [f"# HELP vllm:{name} Simulated.", f"# TYPE vllm:{name} {kind}"]
            for suffix, value in values.items():
                sample = name.removesuffix("_total") + suffix
                lines.append(f'vllm:{sample}{{engine="0",model_name="{model}"}} {float(value)}')
        return "\n".join(lines) + "\n"


def _first_tokens(completions: list[Completion]) -> list[float]:
    return [completion.first_token for completion in completions if completion.first_token is not None]
