"""Is an endpoint fit for an agent? Ask it what agents ask, and look at the answers."""

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from pi_cli.errors import PiError
from pi_cli.models import answers, plain_http
from pi_cli.models.answers import Answer, Call, Unanswered
from pi_cli.planning import catalogue

Json = dict[str, Any]

ANSWER_TIMEOUT = 300.0  # seconds for an answer; models that think take their time
MOST_TOKENS = 2048
MARKS_OF_THINKING = ("<think>", "</think>", "<|channel|>", "[THINK]", "<seed:think>")
MARKS_OF_CALLS = ("<tool_call>", "<function=", "[TOOL_CALLS]", "<|tool_call", "<|python_tag|>")
NO_TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser")  # as vLLM's refusal names them

FOLDER = "/srv/data"
FILE = "apples.txt"
QUESTION, ERRAND, SURVEY = "What is 2+2?", f"List the files in {FOLDER}", f"Survey {FOLDER}"
GUIDANCE = (
    "You are an agent with tools: use them, and never guess. To survey a folder, list it with `ls` and search it for "
    "TODO with `rg`; call both tools at once, in one turn."
)
SCHEMA: Json = {
    "type": "object",
    "properties": {"sky": {"enum": ["blue", "green"]}, "wet": {"type": "boolean"}},
    "required": ["sky", "wet"],
    "additionalProperties": False,
}
STRANGERS = (("GET", "/v1/models"), ("POST", "/invocations"))  # of the second, vLLM's own check knows nothing


def _tool(name: str, about: str, argument: str) -> Json:
    parameters = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    return {"type": "function", "function": {"name": name, "description": about, "parameters": parameters}}


TOOLS = [_tool("ls", "List a folder.", "path"), _tool("rg", "Search files; takes ripgrep's arguments.", "args")]


@dataclass(frozen=True, slots=True)
class Check:
    """What became of one question: `passed` is None where it does not apply, or only some models can do that.

    `hint` are vLLM's arguments that would mend it, `seconds` is how long the answer took.
    """

    name: str
    passed: bool | None
    reason: str = ""
    hint: str = ""
    seconds: float = 0.0


class Verdict(NamedTuple):
    """What a question has shown; see `Check`."""

    passed: bool | None
    reason: str = ""
    hint: str = ""


Report = Callable[[Check], None]


def is_fit(checks: Sequence[Check]) -> bool:
    return all(check.passed is not False for check in checks)


async def examine(socket: Path, *, name: str, model: str, key: str, report: Report) -> list[Check]:
    """Ask a model everything, one after the other, and report each check when it is done.

    `name` is what it is served as, `model` what the catalogue may know it as. Where the key opens nothing, that is all.
    """
    checks: list[Check] = []
    transport = plain_http.over(socket)
    async with httpx2.AsyncClient(transport=transport, base_url="http://pod", timeout=ANSWER_TIMEOUT) as client:
        examination = _Examination(client, name, key, *_parsers(model))
        for title, look in examination.questions().items():
            checks.append(await _timed(title, look))
            report(checks[-1])
            if look == examination.let_in and not checks[-1].passed:
                break
    return checks


async def _timed(title: str, look: Callable[[], Awaitable[Verdict]]) -> Check:
    began = time.monotonic()
    try:
        verdict = await look()
    except Unanswered as error:
        verdict = Verdict(False, str(error))
    except httpx2.HTTPError as error:
        verdict = Verdict(False, f"no answer: {str(error) or type(error).__name__}")
    return Check(title, *verdict, seconds=time.monotonic() - began)


def _parsers(model: str) -> tuple[str, str]:
    """Return the names of the parsers that the catalogue has for a model, or what stands for them."""
    with suppress(PiError):
        if entry := catalogue.find(model):
            return entry.tool_call_parser or "PARSER", entry.reasoning_parser or "PARSER"
    return "PARSER", "PARSER"


class _Examination:
    """The questions to one model, and the answers that later ones go by."""

    def __init__(
        self, client: httpx2.AsyncClient, name: str, key: str, tool_parser: str, reasoning_parser: str
    ) -> None:
        self._client, self._name, self._key = client, name, key
        self._tools_hint = f"--enable-auto-tool-choice --tool-call-parser {tool_parser}"
        self._reasoning_hint = f"--reasoning-parser {reasoning_parser}"
        self._answers: list[Answer] = []
        self._has_tools = True

    def questions(self) -> dict[str, Callable[[], Awaitable[Verdict]]]:
        return {
            "closed without the key": self.keep_out,
            "open with the key": self.let_in,
            "answer": self.answer,
            "streamed answer": self.answer_in_pieces,
            "reasoning apart": self.think_apart,
            "tool call": self.call,
            "parallel tool calls": self.call_in_parallel,
            "tool result": self.use_a_result,
            "JSON schema": self.follow_a_schema,
        }

    async def keep_out(self) -> Verdict:
        for method, path in STRANGERS:
            response = await self._client.request(method, path, json={} if method == "POST" else None)
            if response.status_code != 401:
                return Verdict(False, f"{method} {path} answers {response.status_code} to whoever asks")
        return Verdict(True)

    async def let_in(self) -> Verdict:
        self._client.headers["authorization"] = f"Bearer {self._key}"
        response = await self._client.get("/v1/models")
        if response.status_code == 401:
            return Verdict(False, "it refuses the key")
        try:
            served = {each["id"]: each.get("max_model_len") for each in response.json()["data"]}
        except (ValueError, KeyError, TypeError):
            return Verdict(False, f"/v1/models answers {response.status_code}, and not with a list of models")
        if self._name not in served:
            return Verdict(False, f"it serves {', '.join(f'`{each}`' for each in served) or 'nothing'}")
        return Verdict(True, f"a context of {served[self._name]} tokens" if served[self._name] else "")

    async def answer(self) -> Verdict:
        answer = await self._ask(QUESTION)
        self._answers.append(answer)
        return _said_something(answer)

    async def answer_in_pieces(self) -> Verdict:
        answer = await answers.stream(self._client, **self._request(QUESTION))
        self._answers.append(answer)
        verdict = _said_something(answer)
        first = f"the first piece after {answer.first:.1f} s" if answer.first is not None else ""
        return Verdict(verdict.passed, verdict.reason or (first if answer.has_usage else f"{first}; without usage"))

    async def think_apart(self) -> Verdict:
        if any(mark in answer.text for answer in self._answers for mark in MARKS_OF_THINKING):
            return Verdict(False, "its thoughts stand in the answer", self._reasoning_hint)
        return Verdict(True) if any(answer.thinking for answer in self._answers) else Verdict(None, "it does not think")

    async def call(self) -> Verdict:
        try:
            answer = await self._ask(ERRAND, tools=TOOLS)
        except Unanswered as error:
            self._has_tools = not any(word in str(error) for word in NO_TOOLS)
            if self._has_tools:
                raise
            return Verdict(False, "it was started without tools", self._tools_hint)
        if not answer.calls:
            return self._uncalled(answer)
        reason = _wrong(answer.calls[0])
        return Verdict(not reason, reason)

    async def call_in_parallel(self) -> Verdict:
        if not self._has_tools:
            return Verdict(None, "it was started without tools")
        answer = await answers.stream(self._client, **self._request(SURVEY, tools=TOOLS))
        if not answer.calls:
            uncalled = self._uncalled(answer)
            return uncalled if uncalled.hint else Verdict(None, uncalled.reason)
        if any(call.values is None or not call.id for call in answer.calls):
            return Verdict(False, "calls in a stream do not come whole")
        names = [call.name for call in answer.calls]
        return Verdict(True) if {"ls", "rg"} <= set(names) else Verdict(None, f"one call at a time: `{names[0]}`")

    async def use_a_result(self) -> Verdict:
        if not self._has_tools:
            return Verdict(None, "it was started without tools")
        call: Json = {"id": "call00001", "type": "function"}  # Mistral's takes nine characters, no more and no less
        call |= {"function": {"name": "ls", "arguments": json.dumps({"path": FOLDER})}}
        later: list[Json] = [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call00001", "content": f"{FILE}\npears.txt\n"},
        ]
        answer = await self._ask(ERRAND, *later, tools=TOOLS)
        verdict = _said_something(answer)
        if verdict.passed and FILE not in answer.text:
            return Verdict(False, "its answer has nothing of the result in it")
        return verdict

    async def follow_a_schema(self) -> Verdict:
        wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
        question = "Is the sky blue or green, and is water wet? Answer in JSON, with the keys `sky` and `wet`."
        answer = await self._ask(question, response_format=wanted)
        values = Call(arguments=answer.text).values or {}
        if set(values) == {"sky", "wet"} and values["sky"] in ("blue", "green") and isinstance(values["wet"], bool):
            return Verdict(True)
        if answer.text.strip() and answer.finish == "length":
            return Verdict(False, f"its JSON was not done after {MOST_TOKENS} tokens")
        return Verdict(False, _said_something(answer).reason or "its answer does not follow the schema")

    async def _ask(self, question: str, *later: Json, **options: Any) -> Answer:
        return await answers.ask(self._client, **self._request(question, *later, **options))

    def _request(self, question: str, *later: Json, **options: Any) -> Json:
        guidance = [{"role": "system", "content": GUIDANCE}] if "tools" in options else []
        messages = [*guidance, {"role": "user", "content": question}, *later]
        return {"model": self._name, "messages": messages, "temperature": 0, "max_tokens": MOST_TOKENS} | options

    def _uncalled(self, answer: Answer) -> Verdict:
        if any(mark in answer.text for mark in MARKS_OF_CALLS):
            return Verdict(False, "the call stands in the answer", self._tools_hint)
        return Verdict(False, "it answered without calling a tool")


def _said_something(answer: Answer) -> Verdict:
    if answer.text.strip():
        return Verdict(True)
    if answer.finish == "length":
        return Verdict(False, f"{MOST_TOKENS} tokens were not enough for an answer")
    return Verdict(False, "all it said was taken for reasoning" if answer.thinking else "it said nothing")


def _wrong(call: Call) -> str:
    """Say what is wrong with the call that lists the folder."""
    if not call.id:
        return "the call has no id"
    if call.values is None:
        return "the call's arguments are no JSON object"
    path = str(call.values.get("path", "")).rstrip("/")
    return "" if (call.name, path) == ("ls", FOLDER) else f"it called `{call.name}` with {json.dumps(call.values)}"
