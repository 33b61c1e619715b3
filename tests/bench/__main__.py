"""Measure everything, or what is named, and print a table: `python -m tests.bench [--once] [NAME…]`.

With `--once` each is run one time only, to see that it works.
"""

import sys

from tests.bench import (
    completion,
    connecting,
    distances,
    fan_out,
    far_commands,
    far_pods,
    far_prompt,
    first_token,
    growth,
    help_text,
    log_latency,
    log_throughput,
    memory,
    model_list,
    one_command,
    pod_list,
    probes,
    real_start,
    start_log,
    token_rate,
)
from tests.bench.distances import AtDistances
from tests.bench.measure import Figure, ratio, table
from tests.bench.place import Place
from tests.lab.wire import why_not

ROUNDS = 11
EACH = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        help_text, pod_list, completion, one_command, connecting, fan_out, model_list, memory, probes, log_throughput,
        log_latency, start_log, first_token, token_rate, real_start, growth, far_commands, far_prompt, far_pods,
    )
}  # fmt: skip


def main() -> None:
    words = sys.argv[1:]
    rounds = 1 if "--once" in words else ROUNDS
    names = [word for word in words if word in EACH] or list(EACH)
    if reason := why_not():
        sys.exit(reason)
    figures: list[Figure] = []
    far: list[AtDistances] = []
    with Place() as place:
        for name in names:
            for each in EACH[name].measure(place, rounds):
                if isinstance(each, AtDistances):
                    far.append(each)
                    said = distances.told(each)
                else:
                    figures.append(each)
                    said = f"{each.number}  {each.what}: {each.ours}, {ratio(each)}"
                print(said, file=sys.stderr, flush=True)
    if figures:
        print(table(figures))
    if far:
        print(distances.table(far))


if __name__ == "__main__":
    main()
