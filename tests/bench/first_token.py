"""13: the first token of an answer in a fresh process, through SSH."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from tests.bench.measure import Cost, Figure, figure, in_turns
from tests.bench.place import FIRST_PORT, Place

LOCAL_PORT = 18_431
SCRIPT = """
import sys
from openai import OpenAI
client = OpenAI(base_url=sys.argv[1], api_key="a-key-for-a-benchmark")
for chunk in client.chat.completions.create(model="m1", messages=[{"role": "user", "content": "Hi"}], stream=True):
    if chunk.choices and chunk.choices[0].delta.content:
        sys.stdout.write(chunk.choices[0].delta.content)
        sys.stdout.flush()
"""
BASELINE = "`ssh -L`, and a script with the openai SDK"
BY_HAND = """
ssh=$1 python=$2 script=$3 port=$4
$ssh -N -o ExitOnForwardFailure=yes -L $port:127.0.0.1:8001 busy & tunnel=$!
trap 'kill $tunnel' EXIT
until (exec 3<> /dev/tcp/127.0.0.1/$port) 2> /dev/null; do sleep 0.02; done
"$python" -c "$script" http://127.0.0.1:$port/v1
"""


def first_output(command: Sequence[str], environ: Mapping[str, str]) -> Cost:
    """Return the time until a command prints something; it may end as it likes then."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout
        if not process.stdout.read(1):
            sys.exit(f"{' '.join(command)} printed nothing")
        wall = time.perf_counter() - began
        process.stdout.read()
    return Cost(wall)


def prompt(place: Place) -> list[str]:
    return [place.pi, "prompt", "m1", "--no-tools", "--no-save", "Hi"]


def by_hand(place: Place) -> list[str]:
    assert FIRST_PORT == 8001
    ssh = f"ssh -F {place.home}/.ssh/config"
    return ["bash", "-c", BY_HAND, "by-hand", ssh, place.python, SCRIPT, str(LOCAL_PORT)]


def measure(place: Place, rounds: int) -> Iterator[Figure]:
    place.have_models(1)
    place.remember_busy(models=1)
    ours, theirs = in_turns(
        rounds,
        lambda: first_output(prompt(place), place.environ),
        lambda: first_output(by_hand(place), place.environ),
    )
    what = "`pi prompt`, fresh process → first token"
    yield figure("13", what, BASELINE, [each.wall for each in ours], [each.wall for each in theirs], 0.9)
