"""pi ends at a random moment of `pi start`, by `kill -9` or Ctrl+C: what runs on the pod is what `pi list` shows.

PI_KILLS says how many times it is killed, and it is interrupted half as often; the default is what CI has time for.
"""

import os
import random
import signal
import subprocess
from collections import Counter

import pytest

from tests.conftest import Pi, pods_json
from tests.lab import prepared
from tests.lab.openssh import OpensshPod
from tests.openssh.at_work import MODEL, begin, downloads, living, records, seconds_until_end, servers
from tests.until import until

KILLS = int(os.environ.get("PI_KILLS", "20"))
LONGEST = 4.5  # seconds; the whole start takes about so long

pytestmark = pytest.mark.timeout(120 + 30 * KILLS)


@pytest.mark.parametrize(("number", "rounds"), [(signal.SIGKILL, KILLS), (signal.SIGINT, KILLS // 2)])
def test_whenever_pi_ends_the_next_list_shows_the_truth(
    pi: Pi, pod: OpensshPod, number: signal.Signals, rounds: int
) -> None:
    """Fault 27."""
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    prepared.pace_downloads(pod, seconds=0.5)
    found: Counter[str] = Counter()
    for round in range(rounds):
        moment = chance.uniform(0, LONGEST)
        where = f"seed {seed}, round {round}, after {moment:.2f} s"
        with begin("start", MODEL, "--name", "q", "--vllm", "--simulate", "slow=1.5") as starting:
            try:
                starting.wait(moment)  # over sooner than the moment came
            except subprocess.TimeoutExpired:
                starting.send_signal(number)
            seconds_until_end(starting, timeout=20)
            assert starting.stderr
            said = starting.stderr.read()
            assert "Traceback" not in said or "pi_cli" not in said, (where, said)
        # Before and after pi it is Python that is ended: with a traceback or by the signal, nothing begun or all done.
        was_over = starting.returncode == -signal.SIGINT and "Traceback" not in said
        if number == signal.SIGINT and starting.returncode and not was_over and "Traceback" not in said:
            assert (starting.returncode, living(pod), records(pod)) == (130, [], []), where
        status = look(pi, pod, where)
        assert status != "starting" or number == signal.SIGKILL or not was_over, (where, said)
        found[status] += 1
        assert pi("stop", "--all").code == 0, where
        until(lambda: living(pod) == [], where)
        assert records(pod) == [], where
        assert pods_json()["pods"]["dc1"]["models"] == {}, where
    last = pi("start", MODEL, "--name", "q", "--vllm", "--simulate", "slow=0.2")
    assert last.code == 0, last.err
    print(f"seed {seed}: {dict(found)}")  # noqa: T201 - shown by `pytest -s`


def look(pi: Pi, pod: OpensshPod, where: str) -> str:
    """Hold `pi list` against the pod once what ends with pi has ended; return how the model is."""
    until(lambda: not downloads(pod) and all("PI_MODEL_UID" in each.environ for each in living(pod)), where)
    result = pi("list", "--json")
    assert result.code == 0, (where, result.err)
    if not servers(pod):
        assert [each for each in result.json if each["status"] != "dead"] == [], where
        return "nothing"
    [listed] = result.json
    assert listed["name"] == "q", where
    assert listed["pid"] in {each.pid for each in servers(pod)}, where
    assert pods_json()["pods"]["dc1"]["models"]["q"]["pid"] == listed["pid"], where
    return str(listed["status"])
