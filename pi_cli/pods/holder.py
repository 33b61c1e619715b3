"""The process that holds links (`hold.process`), with the agent for its pods. `hold.client` starts it."""

import gc
import json
import sys
from pathlib import Path

from pi_cli.hold import process
from pi_cli.hold.link import Agent
from pi_cli.pods import agent_link, agent_program, sending, shell

GC_THRESHOLD = 100_000  # as of pi itself


def main() -> None:
    gc.set_threshold(GC_THRESHOLD)
    given = json.loads(sys.stdin.buffer.read())
    agent = Agent(shell.AGENT, sending.with_size(agent_program.waiting()), shell.KEPT_AGENT, shell.NOT_KEPT)
    process.serve(given["pods"], Path(given["announced"]), agent, agent_link.VERSION)


if __name__ == "__main__":
    main()
