"""`pi demo`: the whole tour on an embedded pod."""

from typing import Annotated

import typer


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the pod running, to try commands in another terminal.")
    ] = False,
) -> None:
    """Show pi at work on a pod inside this command.

    No GPU, account or network is needed, and nothing is left behind.

    SSH, files and processes are real; the GPUs, the download and the model behind vLLM's interface are simulated.

    \b
    Examples:
      pi demo
      pi demo --keep
    """
    from pi_cli.demo import tour

    tour.keep() if keep else tour.run()
