"""Check whether an endpoint is fit for an agent: send the requests that agents send, and examine the responses."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2

from pi_cli.errors import ModelStalled, PiError
from pi_cli.models import answers, kind_check, plain_http, served
from pi_cli.models.answers import Answer, ToolCall, Unanswered
from pi_cli.models.check_findings import Check, Finding, OnCheck
from pi_cli.models.served import Kind
from pi_cli.planning import catalogue

Json = dict[str, Any]

ANSWER_TIMEOUT = 300.0  # seconds for an answer; models that reason are slow
LOOK_INTERVAL = 20.0  # seconds; the agent calls a model stalled after 15
MAX_TOKENS = 2048
REASONING_TAGS = ("<think>", "</think>", "<|channel|>", "[THINK]", "<seed:think>")
TOOL_CALL_TAGS = ("<tool_call>", "<function=", "[TOOL_CALLS]", "<|tool_call", "<|python_tag|>")
TOOL_OPTIONS = ("--enable-auto-tool-choice", "--tool-call-parser")  # named in vLLM's error if tools are not enabled

FOLDER = "/srv/data"
FILE_IN_FOLDER = "apples.txt"
QUESTION, LIST_TASK, SURVEY_TASK = "What is 2+2?", f"List the files in {FOLDER}", f"Survey {FOLDER}"
SYSTEM_PROMPT = (
    "You are an agent with tools: use them, and never guess. To survey a folder, list it with `ls` and search it for "
    "TODO with `rg`; call both tools at once, in one turn."
)
SCHEMA: Json = {
    "type": "object",
    "properties": {"sky": {"enum": ["blue", "green"]}, "wet": {"type": "boolean"}},
    "required": ["sky", "wet"],
    "additionalProperties": False,
}
PROTECTED_ROUTES = (("GET", "/v1/models"), ("POST", "/invocations"))  # vLLM's own check does not cover the second


IsStalled = Callable[[], Awaitable[bool]]


async def _unknown() -> bool:
    return False


def _tool(name: str, about: str, argument: str) -> Json:
    parameters = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    return {"type": "function", "function": {"name": name, "description": about, "parameters": parameters}}


TOOLS = [_tool("ls", "List a folder.", "path"), _tool("rg", "Search files; takes ripgrep's arguments.", "args")]


async def examine(
    socket: Path, *, name: str, model: str, key: str, on_check: OnCheck, is_stalled: IsStalled = _unknown
) -> list[Check]:
    """Run all checks on a model, in sequence, and pass each to `on_check` when it is done.

    `name` is the served model name, `model` the model's id, for the catalogue. If the key is rejected, stop there, and
    at a question that is not answered in time, or during which `is_stalled`, which asks the pod, says that the model
    answers none. A model that does not generate text gets the requests of its kind instead.
    """
    checks: list[Check] = []
    transport = plain_http.over(socket)
    async with httpx2.AsyncClient(transport=transport, base_url="http://pod", timeout=ANSWER_TIMEOUT) as client:
        examination = _Examination(client, name, key, *_parsers(model))

        async def run(pending: Mapping[str, Callable[[], Awaitable[Finding]]]) -> None:
            for title, check in pending.items():
                checked, is_over = await _timed(title, check, is_stalled)
                checks.append(checked)
                on_check(checked)
                if is_over:
                    return

        await run(examination.checks_of_the_key())
        if checks[-1].passed:
            kind = await _kind(client)
            for_kind = kind_check.checks(kind, client, name) if kind not in (None, "generation") else None
            await run(examination.checks() if for_kind is None else for_kind)
    return checks


async def _kind(client: httpx2.AsyncClient) -> Kind | None:
    """Return what the server serves; None if it does not say, or is gone: the next check reports that."""
    with suppress(httpx2.HTTPError):
        return await served.ask_kind(client)
    return None


async def _timed(title: str, run: Callable[[], Awaitable[Finding]], is_stalled: IsStalled) -> tuple[Check, bool]:
    """Return what a check has found, and whether the others would not be answered either."""
    began, is_over = time.monotonic(), False
    try:
        finding = await _unless_stalled(run, is_stalled)
    except Unanswered as error:
        finding = Finding(False, str(error))
    except (httpx2.TimeoutException, ModelStalled) as error:
        reason = "it takes requests, and its engine answers none" if isinstance(error, ModelStalled) else "no answer"
        finding, is_over = Finding(False, f"{reason}; the other checks were left out"), True
    except httpx2.HTTPError as error:
        finding = Finding(False, f"no answer: {str(error) or type(error).__name__}")
    return Check(title, *finding, seconds=time.monotonic() - began), is_over


async def _unless_stalled(run: Callable[[], Awaitable[Finding]], is_stalled: IsStalled) -> Finding:
    """Raise `ModelStalled` if the pod says that the model answers none."""
    asking = asyncio.ensure_future(run())
    try:
        while not (await asyncio.wait([asking], timeout=LOOK_INTERVAL))[0]:
            if await is_stalled() and not asking.done():
                raise ModelStalled("model")
        return asking.result()
    finally:
        asking.cancel()
        await asyncio.wait([asking])


def _parsers(model: str) -> tuple[str, str]:
    """Return the model's tool-call and reasoning parsers from the catalogue, or the placeholder `PARSER`."""
    with suppress(PiError):
        if entry := catalogue.find(model):
            return entry.tool_call_parser or "PARSER", entry.reasoning_parser or "PARSER"
    return "PARSER", "PARSER"


class _Examination:
    """The checks of one model, and the answers that later checks need."""

    def __init__(
        self, client: httpx2.AsyncClient, name: str, key: str, tool_parser: str, reasoning_parser: str
    ) -> None:
        self._client, self._name, self._key = client, name, key
        self._tools_hint = f"--enable-auto-tool-choice --tool-call-parser {tool_parser}"
        self._reasoning_hint = f"--reasoning-parser {reasoning_parser}"
        self._answers: list[Answer] = []
        self._has_tools = True

    def checks_of_the_key(self) -> dict[str, Callable[[], Awaitable[Finding]]]:
        return {"key required": self.require_the_key, "key accepted": self.accept_the_key}

    def checks(self) -> dict[str, Callable[[], Awaitable[Finding]]]:
        return {
            "answer": self.answer,
            "streamed answer": self.stream_an_answer,
            "reasoning separate": self.separate_reasoning,
            "tool call": self.call_a_tool,
            "parallel tool calls": self.call_tools_in_parallel,
            "tool result": self.use_a_result,
            "JSON schema": self.follow_a_schema,
        }

    async def require_the_key(self) -> Finding:
        for method, path in PROTECTED_ROUTES:
            response = await self._client.request(method, path, json={} if method == "POST" else None)
            if response.status_code != 401:
                return Finding(False, f"{method} {path} answers {response.status_code} without the key")
        return Finding(True)

    async def accept_the_key(self) -> Finding:
        self._client.headers["authorization"] = f"Bearer {self._key}"
        response = await self._client.get("/v1/models")
        if response.status_code == 401:
            return Finding(False, "it rejects the key")
        try:
            served = {model["id"]: model.get("max_model_len") for model in response.json()["data"]}
        except (ValueError, KeyError, TypeError, RecursionError):
            return Finding(False, f"/v1/models answers {response.status_code} without a list of models")
        if self._name not in served:
            return Finding(False, f"it serves {', '.join(f'`{name}`' for name in served) or 'no model'}")
        return Finding(True, f"a context of {served[self._name]} tokens" if served[self._name] else "")

    async def answer(self) -> Finding:
        answer = await self._ask(QUESTION)
        self._answers.append(answer)
        return _has_text(answer)

    async def stream_an_answer(self) -> Finding:
        answer = await answers.stream(self._client, **self._request(QUESTION))
        self._answers.append(answer)
        finding = _has_text(answer)
        first = f"first chunk after {answer.first:.1f} s" if answer.first is not None else ""
        return Finding(finding.passed, finding.reason or (first if answer.has_usage else f"{first}; without usage"))

    async def separate_reasoning(self) -> Finding:
        if any(tag in answer.text for answer in self._answers for tag in REASONING_TAGS):
            return Finding(False, "the answer contains its reasoning", self._reasoning_hint)
        has_reasoning = any(answer.reasoning for answer in self._answers)
        return Finding(True) if has_reasoning else Finding(None, "it does not reason")

    async def call_a_tool(self) -> Finding:
        try:
            answer = await self._ask(LIST_TASK, tools=TOOLS)
        except Unanswered as error:
            self._has_tools = not any(option in str(error) for option in TOOL_OPTIONS)
            if self._has_tools:
                raise
            return Finding(False, "it was started without tools", self._tools_hint)
        if not answer.calls:
            return self._without_call(answer)
        reason = _mistake(answer.calls[0])
        return Finding(not reason, reason)

    async def call_tools_in_parallel(self) -> Finding:
        if not self._has_tools:
            return Finding(None, "it was started without tools")
        answer = await answers.stream(self._client, **self._request(SURVEY_TASK, tools=TOOLS))
        if not answer.calls:
            finding = self._without_call(answer)
            return finding if finding.hint else Finding(None, finding.reason)
        if any(call.values is None or not call.id for call in answer.calls):
            return Finding(False, "streamed tool calls are incomplete")
        names = [call.name for call in answer.calls]
        return Finding(True) if {"ls", "rg"} <= set(names) else Finding(None, f"one call at a time: `{names[0]}`")

    async def use_a_result(self) -> Finding:
        if not self._has_tools:
            return Finding(None, "it was started without tools")
        call: Json = {"id": "call00001", "type": "function"}  # for Mistral, exactly nine characters
        call |= {"function": {"name": "ls", "arguments": json.dumps({"path": FOLDER})}}
        later: list[Json] = [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call00001", "content": f"{FILE_IN_FOLDER}\npears.txt\n"},
        ]
        answer = await self._ask(LIST_TASK, *later, tools=TOOLS)
        finding = _has_text(answer)
        if finding.passed and FILE_IN_FOLDER not in answer.text:
            return Finding(False, "the answer does not use the tool result")
        return finding

    async def follow_a_schema(self) -> Finding:
        response_format = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
        question = "Is the sky blue or green, and is water wet? Answer in JSON, with the keys `sky` and `wet`."
        answer = await self._ask(question, response_format=response_format)
        values = ToolCall(arguments=answer.text).values or {}
        if set(values) == {"sky", "wet"} and values["sky"] in ("blue", "green") and isinstance(values["wet"], bool):
            return Finding(True)
        if answer.text.strip() and answer.finish == "length":
            return Finding(False, f"the JSON was incomplete after {MAX_TOKENS} tokens")
        return Finding(False, _has_text(answer).reason or "the answer does not follow the schema")

    async def _ask(self, question: str, *later: Json, **options: Any) -> Answer:
        return await answers.ask(self._client, **self._request(question, *later, **options))

    def _request(self, question: str, *later: Json, **options: Any) -> Json:
        system = [{"role": "system", "content": SYSTEM_PROMPT}] if "tools" in options else []
        messages = [*system, {"role": "user", "content": question}, *later]
        return {"model": self._name, "messages": messages, "temperature": 0, "max_tokens": MAX_TOKENS} | options

    def _without_call(self, answer: Answer) -> Finding:
        if any(tag in answer.text for tag in TOOL_CALL_TAGS):
            return Finding(False, "the tool call is in the text of the answer", self._tools_hint)
        return Finding(False, "it answered without calling a tool")


def _has_text(answer: Answer) -> Finding:
    if answer.text.strip():
        return Finding(True)
    if answer.finish == "length":
        return Finding(False, f"{MAX_TOKENS} tokens were not enough for an answer")
    return Finding(False, "the whole answer was taken for reasoning" if answer.reasoning else "the answer is empty")


def _mistake(call: ToolCall) -> str:
    """Return what is wrong with the call that should list the folder; the empty string if nothing is."""
    if not call.id:
        return "the call has no id"
    if call.values is None:
        return "the call's arguments are not a JSON object"
    path = str(call.values.get("path", "")).rstrip("/")
    return "" if (call.name, path) == ("ls", FOLDER) else f"it called `{call.name}` with {json.dumps(call.values)}"
