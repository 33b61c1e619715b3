"""5: a connection and its first command, inside a process that has loaded everything."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import asyncssh

from pi_cli.ssh import login
from tests.bench.measure import Cost, Figure, figure, in_turns
from tests.bench.place import Place

BEHIND_A_CONNECTION = "true"


def measure(place: Place, rounds: int) -> Iterator[Figure]:
    assert place.idle
    about = {"host": place.idle.address, "key": str(place.idle.key), "known": str(place.home / ".ssh/known_hosts")}
    command = [place.python, "-m", "tests.bench.connecting", str(rounds), json.dumps(about)]
    told = subprocess.run(command, env=place.environ, check=True, capture_output=True, text=True).stdout
    ours, theirs = json.loads(told)
    yield figure("5", "connect and first command, in a running pi", "asyncssh's defaults", ours, theirs, 0.65)


async def by_pi() -> None:
    async with login.connect("pod-1", "ssh pod-1") as session:
        await session.run(BEHIND_A_CONNECTION)


async def by_asyncssh(host: str, key: str, known: str) -> None:
    async with asyncssh.connect(host, username="root", client_keys=[key], known_hosts=known) as connection:
        await connection.run(BEHIND_A_CONNECTION)


def main() -> None:
    rounds, about = int(sys.argv[1]), json.loads(sys.argv[2])

    def timed(work: str) -> Cost:
        began = time.perf_counter()
        asyncio.run(by_pi() if work == "pi" else by_asyncssh(**about))
        return Cost(time.perf_counter() - began)

    costs = in_turns(rounds, lambda: timed("pi"), lambda: timed("asyncssh"))
    print(json.dumps([[each.wall for each in one] for one in costs]))


if __name__ == "__main__":
    main()
