"""What several commands print as data: the fields of a model in `--json`, and names for `--quiet`."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pi_cli.errors import BadUsage

if TYPE_CHECKING:
    from pi_cli.store.records import Model


def as_json(pod: str, name: str, model: "Model") -> dict[str, object]:
    """Return the fields of a model that every `--json` shows; `gpu` is `gpus` as earlier versions wrote them."""
    fields = {"model": model.model, "port": model.port, "gpus": model.gpus, "gpu": model.gpu, "pid": model.pid}
    return {"pod": pod, "name": name} | fields


def show_names(names: Iterable[str], *, as_json: bool) -> None:
    """Print names for scripts, one per line and nothing else: `pi stop $(pi list -q)`."""
    if as_json:
        raise BadUsage("`--quiet` and `--json` exclude each other", hint="leave one of them out")
    sys.stdout.write("".join(f"{name}\n" for name in names))
