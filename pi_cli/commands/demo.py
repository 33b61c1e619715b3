"""`pi demo`: a tour of pi on an embedded pod."""

from typing import Annotated

import typer


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the pod running, to try commands in another terminal.")
    ] = False,
) -> None:
    """Run a tour of pi on a simulated pod.

    The pod runs inside this command: it needs no GPU, account or network, and leaves nothing behind.

    SSH, files and processes are real; the GPUs, the download, vLLM and the model are simulated.

    \b
    Examples:
      pi demo
      pi demo --keep
    """
    from pi_cli.demo import tour

    tour.keep() if keep else tour.run()
