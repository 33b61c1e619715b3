"""The options of `pi prompt`."""

from enum import StrEnum
from typing import Annotated

import typer


class Api(StrEnum):
    """The API to use: `/v1/chat/completions` or `/v1/responses`."""

    chat = "chat"
    responses = "responses"


class Effort(StrEnum):
    """Efforts of reasoning, as vLLM has them (`chat.requirements.EFFORTS`)."""

    none = "none"
    low = "low"
    medium = "medium"
    high = "high"


Prompts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PROMPT]…",
        help="Questions, asked one after the other. Without any: a chat on a terminal, else stdin is the prompt.",
    ),
]
Interactive = Annotated[bool, typer.Option("--interactive", "-i", help="Chat until Ctrl+D or `/bye`.")]
Continue = Annotated[bool, typer.Option("--continue", "-c", help="Continue the last conversation of this directory.")]
System = Annotated[str | None, typer.Option(metavar="TEXT", help="System prompt.")]
Temperature = Annotated[
    float | None, typer.Option(metavar="NUMBER", min=0, max=2, help="Sampling temperature; 0 is deterministic.")
]
MaxTokens = Annotated[
    int | None, typer.Option(metavar="COUNT", min=1, help="Maximum tokens per turn, including reasoning.")
]
Tools = Annotated[bool, typer.Option(help="Let the model list, read and search files on this machine.")]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="PATH", help="Folder or file that the model may read, too. Repeatable."),
]
Save = Annotated[bool, typer.Option(help="Save the conversation for `--continue`.")]
AsEvents = Annotated[bool, typer.Option("--json", help="Print events as JSON on stdout, one per line.")]
ApiOption = Annotated[Api, typer.Option("--api", help="API to use: chat completions or responses.")]
Schema = Annotated[
    str | None,
    typer.Option(
        "--json-schema",
        metavar="SCHEMA",
        help="JSON schema that the answer has to match: a file, or JSON. The model uses no tools then.",
    ),
]
Images = Annotated[
    list[str] | None,
    typer.Option("--image", metavar="FILE", help="Image for a vision model, sent with the first prompt. Repeatable."),
]
ToolChoice = Annotated[
    str | None,
    typer.Option(
        "--tool-choice",
        metavar="CHOICE",
        help="auto, none, required, or the name of a tool: what the model does first after a prompt.",
    ),
]
Reasoning = Annotated[
    Effort | None,
    typer.Option("--reasoning", help="Effort of the reasoning, for models that have several; none: without reasoning."),
]
Out = Annotated[
    str | None,
    typer.Option("--out", metavar="FILE", help="Write to this file, instead of stdout, what would be printed there."),
]
BatchFile = Annotated[
    str | None,
    typer.Option(
        "--batch",
        metavar="FILE",
        help="Ask many questions at once: a JSONL file, or `-` for stdin. With `--out`, the same command continues "
        "what was interrupted.",
    ),
]
Parallel = Annotated[
    int,
    typer.Option("--parallel", "-j", metavar="COUNT", min=1, max=1024, help="Requests of a batch at the same time."),
]
