"""9: the health of 64 models over open connections: pi's look at them, against curl through ssh for each."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator

from pi_cli.models import listing
from pi_cli.models.public_ports import PublicPorts
from pi_cli.ssh import login
from pi_cli.store import state
from tests.bench.measure import Cost, Figure, figure, in_turns
from tests.bench.place import FIRST_PORT, Place

MODELS = 64


def measure(place: Place, rounds: int) -> Iterator[Figure]:
    place.have_models(MODELS)
    place.remember_busy(models=MODELS)
    shared = str(place.home / "master")
    master = subprocess.Popen([*place.ssh("-N", "-M", "-S", shared)], env=place.environ)
    try:
        last = FIRST_PORT + MODELS - 1
        ssh = place.ssh_line("-S", shared)
        curl = f"seq {FIRST_PORT} {last} | xargs -P{MODELS} -I{{}} {ssh} curl -sf -o /dev/null http://127.0.0.1:{{}}/health"
        command = [place.python, "-m", "tests.bench.probes", str(rounds), curl]
        told = subprocess.run(command, env=place.environ, check=True, capture_output=True, text=True).stdout
    finally:
        master.terminate()
        master.wait()
    ours, theirs = json.loads(told)
    what = f"health, requests and GPU memory of {MODELS} models, connection open"
    yield figure("9", what, "`ssh … curl …/health` for each at once, connection open", ours, theirs, 0.3)


async def both(rounds: int, curl: str) -> list[list[float]]:
    entry, ports = state.load().pod("busy"), PublicPorts()
    async with login.connect("busy", entry.ssh) as session:

        async def look() -> None:
            found = await listing.survey(session, entry, lambda _: None, ports)
            assert [each.status for each in found] == ["ready"] * MODELS

        async def probe() -> None:
            assert await (await asyncio.create_subprocess_shell(curl)).wait() == 0

        loop = asyncio.get_running_loop()

        def timed(work: str) -> Cost:
            began = time.perf_counter()
            loop_work = look() if work == "pi" else probe()
            asyncio.run_coroutine_threadsafe(loop_work, loop).result()
            return Cost(time.perf_counter() - began)

        costs = await asyncio.to_thread(in_turns, rounds, lambda: timed("pi"), lambda: timed("curl"))
    return [[each.wall for each in one] for one in costs]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(both(int(sys.argv[1]), sys.argv[2]))))
