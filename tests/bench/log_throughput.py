"""10: a whole log of a gibibyte, piped."""

from collections.abc import Iterator

from tests.bench.measure import Figure, figure, in_turns, run
from tests.bench.place import Place

SIZE = 1 << 30
LINE = "(APIServer pid=7) INFO 11-28 13:31:46 [loggers.py:271] Engine 000: Avg prompt throughput: 12.3 tokens/s\n"


def measure(place: Place, rounds: int) -> Iterator[Figure]:
    place.have_models(2)
    place.remember_busy(models=2)
    log, size = place.log("m2"), SIZE if rounds > 1 else SIZE >> 6
    block = (LINE * 10_000).encode()
    with log.open("wb") as file:
        while file.tell() < size:
            file.write(block)
    on_the_pod = "/root/.vllm_logs/m2.log"
    by_hand = place.ssh_line("-c", "aes128-gcm@openssh.com")
    ours, theirs = in_turns(
        rounds,
        lambda: run(place.shell(f"{place.pi} logs m2 -n all --no-follow | cat > /dev/null"), place.environ),
        lambda: run(place.shell(f"{by_hand} cat {on_the_pod} | cat > /dev/null"), place.environ),
    )
    bytes_done = log.stat().st_size / 1e6
    log.write_text("")
    our_rates, their_rates = ([bytes_done / each.wall for each in costs] for costs in (ours, theirs))
    baseline = "`ssh -c aes128-gcm@openssh.com … cat`"
    yield figure("10", "`pi logs` of 1 GiB, piped", baseline, our_rates, their_rates, 0.7, unit="MB/s", at_least=True)
