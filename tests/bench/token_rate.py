"""14: tokens per second of a stream that comes as fast as it can, first to last: through pi, and to the SDK direct.

To the same client of the SDK, the asynchronous one, which is a tenth slower than the other.
"""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence

from tests.bench.measure import Cost, Figure, figure, in_turns
from tests.bench.place import FIRST_PORT, Place

SCRIPT = """
import asyncio, sys
from openai import AsyncOpenAI
async def main():
    client = AsyncOpenAI(base_url=sys.argv[1], api_key="a-key-for-a-benchmark")
    messages = [{"role": "user", "content": "Hi"}]
    async for chunk in await client.chat.completions.create(model="m1", messages=messages, stream=True):
        if chunk.choices and chunk.choices[0].delta.content:
            sys.stdout.write(chunk.choices[0].delta.content)
            sys.stdout.flush()
asyncio.run(main())
"""
TOKENS = 5000
TOKEN = b"token "


def span(command: Sequence[str], environ: Mapping[str, str]) -> Cost:
    """Return the time from the first token to the last."""
    with subprocess.Popen(
        command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    ) as process:
        assert process.stdout
        count = len(process.stdout.read(1))
        began = last = time.perf_counter()
        while chunk := process.stdout.read(1 << 16):
            count, last = count + len(chunk), time.perf_counter()
    if count < TOKENS * len(TOKEN):
        raise RuntimeError(f"only {count} characters came")
    return Cost(last - began)


def measure(place: Place, rounds: int) -> Iterator[Figure]:
    place.have_models(1)
    place.remember_busy(models=1)
    direct = f"http://{place.busy.address}:{FIRST_PORT}/v1"
    ours, theirs = in_turns(
        rounds,
        lambda: span([place.pi, "prompt", "m1", "--no-tools", "--no-save", "Hi"], place.environ),
        lambda: span([place.python, "-c", SCRIPT, direct], place.environ),
    )
    our_rates, their_rates = ([TOKENS / each.wall for each in costs] for costs in (ours, theirs))
    what, baseline = "tokens/s of an answer, through SSH", "`AsyncOpenAI`, direct"
    yield figure("14", what, baseline, our_rates, their_rates, 0.9, unit="tokens/s", at_least=True)
