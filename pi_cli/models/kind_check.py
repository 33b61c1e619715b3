"""Check a model that does not generate text: send it the requests of its kind, and examine the responses."""

import math
import operator
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2

from pi_cli.models import served
from pi_cli.models.answers import Unanswered, require_ok
from pi_cli.models.check_findings import Finding
from pi_cli.models.served import Kind

QUERY = "How is bread baked?"
RELEVANT, OTHER = "Bread is baked in a hot oven for about forty minutes.", "The match ended without a goal."
# A text embeds to the same vector each time, but for rounding: other requests may be in the same batch.
SAME = 0.99  # cosine


def checks(kind: Kind, client: httpx2.AsyncClient, name: str) -> dict[str, Callable[[], Awaitable[Finding]]]:
    """Return the checks for a kind of model, by title."""
    examination = _Examination(client, name, kind)
    match kind:
        case "embedding":
            return {
                "embedding": examination.embed,
                "several embeddings": examination.embed_several,
                "similar texts": examination.compare,
            }
        case "reranker":
            return {"ranking": examination.rank}
        case "classification":
            return {"classes": examination.classify}
        case "speech":
            return {"transcription": examination.transcribe}
        case _:
            return {"answer": examination.answer}


class _Examination:
    def __init__(self, client: httpx2.AsyncClient, name: str, kind: Kind) -> None:
        self._client, self._name, self._kind = client, name, kind

    async def embed(self) -> Finding:
        [vector] = await self._embed(QUERY)
        if not any(vector):
            return Finding(False, "the embedding is zero")
        return Finding(True, f"{len(vector):,} dimensions")

    async def embed_several(self) -> Finding:
        first, second, again = await self._embed(QUERY, OTHER, QUERY)
        if _cosine(first, again) < SAME:
            return Finding(False, "the same text has two embeddings")
        return Finding(_cosine(first, second) < SAME, "" if _cosine(first, second) < SAME else "all texts are the same")

    async def compare(self) -> Finding:
        query, relevant, other = await self._embed(QUERY, RELEVANT, OTHER)
        near, far = _cosine(query, relevant), _cosine(query, other)
        reason = f"cosine {near:.2f} for related texts, {far:.2f} for others"
        return Finding(True if near > far else None, reason)

    async def rank(self) -> Finding:
        request = {"model": self._name, "query": QUERY, "documents": [OTHER, RELEVANT]}
        results: Any = (await self._post(served.RERANK, request)).get("results")
        try:
            scores = {int(result["index"]): float(result["relevance_score"]) for result in results}
            relevant, other = scores[1], scores[0]
        except (KeyError, TypeError, ValueError) as error:
            raise Unanswered("the response is not a ranking") from error
        reason = f"{relevant:.3f} for the relevant document, {other:.3f} for the other"
        return Finding(relevant > other, reason)

    async def classify(self) -> Finding:
        data: Any = (await self._post(served.CLASSIFY, {"model": self._name, "input": QUERY})).get("data")
        try:
            [result] = data
            label, count = result.get("label"), len(result["probs"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unanswered("the response has no classes") from error
        return Finding(True, f"{label or 'a class'} of {count}")

    async def transcribe(self) -> Finding:
        response = await served.question("speech", self._name).ask(self._client)
        require_ok(response)
        if not isinstance(_object(response).get("text"), str):
            raise Unanswered("the response has no text")
        return Finding(True, "a second of silence")

    async def answer(self) -> Finding:
        require_ok(await served.question(self._kind, self._name).ask(self._client))
        return Finding(True)

    async def _embed(self, *texts: str) -> list[list[float]]:
        data: Any = (await self._post(served.EMBEDDINGS, {"model": self._name, "input": list(texts)})).get("data")
        try:
            vectors = {int(each["index"]): [float(number) for number in each["embedding"]] for each in data}
            ordered = [vectors[number] for number in range(len(texts))]
        except (KeyError, TypeError, ValueError) as error:
            raise Unanswered("the response lacks an embedding for some texts") from error
        if not all(vector and all(map(math.isfinite, vector)) for vector in ordered):
            raise Unanswered("an embedding has values that are not numbers")
        return ordered

    async def _post(self, route: str, request: dict[str, Any]) -> dict[str, Any]:
        response = await self._client.post(route, json=request)
        require_ok(response)
        return _object(response)


def _object(response: httpx2.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except (ValueError, RecursionError) as error:
        raise Unanswered("the response is not JSON") from error
    return body if isinstance(body, dict) else {}


def _cosine(first: list[float], second: list[float]) -> float:
    size = math.hypot(*first) * math.hypot(*second)
    return sum(map(operator.mul, first, second)) / size if size else 0.0
