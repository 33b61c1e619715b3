"""12: the log of a start, read and understood from end to end: on the pod, through SSH, by a whole `pi start`."""

from collections.abc import Iterator

from tests.bench.measure import Figure, absolute, in_turns, run
from tests.bench.place import Place

LINES = 1_000_000
GOAL = 100_000
LINE = "(EngineCore pid=7) INFO 11-28 13:31:46 [core.py:271] a line that tells of no phase, as most of them do\n"
PHASES = (
    "(EngineCore pid=7) INFO 11-28 13:31:46 [core.py:1] Initializing a V1 LLM engine (v0.32.0)\n",
    "(EngineCore pid=7) INFO 11-28 13:31:46 [core.py:1] Starting to load model tiny/model...\n",
    "(EngineCore pid=7) INFO 11-28 13:31:46 [core.py:1] Model loading took 1.0 GiB and 1.0 seconds\n",
)


def measure(place: Place, rounds: int) -> Iterator[Figure]:
    place.have_models(4)
    place.remember_busy(models=4)
    lines = LINES if rounds > 1 else LINES >> 6
    log = place.log("m4")
    part = LINE * (lines // len(PHASES))
    log.write_text("".join(phase + part for phase in PHASES))
    whole = sum(1 + lines // len(PHASES) for _ in PHASES)
    [ours] = in_turns(rounds, lambda: run([place.pi, "start", "--attach", "m4", "--json"], place.environ))
    log.write_text("")
    rates = [whole / each.wall for each in ours]
    what = "log of a start, watched to its end by `pi start --attach`"
    yield absolute("12", what, rates, GOAL, "lines/s", at_least=True)
