"""`pi prompt --batch`: ask a model the questions of a file, many at once."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pi_cli.errors import BadUsage, PiError

if TYPE_CHECKING:
    from pi_cli.chat.batch import Answer
    from pi_cli.chat.batch_items import Item
    from pi_cli.chat.batch_results import Results
    from pi_cli.chat.turn import Sampling
    from pi_cli.commands.prompt_target import Target

PARALLEL = 16  # requests at the same time; vLLM batches them, and 16 fit every KV cache that pi plans


def ask(
    target: "Target",
    path: str,
    out: str | None,
    sampling: "Sampling",
    *,
    system: str | None,
    parallel: int,
    others: Mapping[str, object],
) -> None:
    """Ask all questions of a file, and write the answers to stdout or to the file `out`.

    Exits with 1 if some were not answered. `others` are words of the command that a batch does not have.
    """
    for word, value in others.items():
        if value:
            raise BadUsage(f"`{word}` cannot be combined with `--batch`", hint="leave it out: the file has the prompts")
    from pi_cli.chat import batch_items, batch_results

    items = batch_items.read(_text(path), sampling, system)
    digests = {item.number: batch_results.digest(target.name, item) for item in items}
    if out is None:
        failed = _run(target, items, batch_results.InOrder(sys.stdout, items, digests), parallel)
    else:
        with batch_results.kept(Path(out), items, digests) as results:
            failed = _run(target, items, results, parallel)
            results.finish()
    if failed:
        raise typer.Exit(1)


def _run(target: "Target", items: "list[Item]", results: "Results", parallel: int) -> int:
    """Ask what has no answer yet; return how many failed."""
    from pi_cli import interrupts
    from pi_cli.chat.batch import Batch
    from pi_cli.view import batch as view

    left = [item for item in items if item.number not in results.done]
    with view.following(len(items), answered=len(items) - len(left)) as progress:

        def take(answer: "Answer") -> None:
            results.add(answer)
            progress.add(answer.completion_tokens, failed=answer.error is not None)

        interrupts.run(Batch(target.served(), left, take, parallel).run(target.connected))
        return progress.failed


def _text(path: str) -> str:
    from pi_cli.chat.batch_items import MAX_BATCH

    try:
        if path == "-":
            data = sys.stdin.buffer.read(MAX_BATCH + 1)
        else:
            with Path(path).expanduser().open("rb") as file:
                data = file.read(MAX_BATCH + 1)
        if len(data) > MAX_BATCH:
            raise BadUsage("the batch has more than 1 GB", hint="split the file")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadUsage(
            f"`{path}` is not UTF-8 (byte {error.start})", hint="convert it, for example with `iconv`"
        ) from error
    except OSError as error:
        raise PiError(
            f"cannot read `{path}`: {error.strerror or error}", hint="give a JSONL file, or `-` for stdin"
        ) from error
