"""Write `pi.toml`; what is not changed stays as the user wrote it, with its comments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from pi_cli.errors import BadUsage, PiError
from pi_cli.fleet import file
from pi_cli.fleet.description import MODEL, POD, Key
from pi_cli.fleet.file import FleetModel, FleetPod
from pi_cli.fleet.values import PODS, SEVERAL_PODS, Refused

HEAD = (
    "Pods and models of pi: `pi up` makes them so, `pi down` stops the models.",
    "The keys: `pi help fleet`, or for an editor `pi up --schema > pi.schema.json`.",
)


def with_ssh(text: str, path: Path, pod: str, ssh: str) -> str:
    """Return the text of a file with another ssh command for a pod, and nothing else changed."""
    document: Any = _parsed(text, path)
    document["pods"][pod]["ssh"] = ssh
    return _checked(document, path)


def with_fleet(text: str, path: Path, pods: Mapping[str, FleetPod], models: Mapping[str, FleetModel]) -> str:
    """Return the text of a file with these pods and models, in place of those in it; other tables stay."""
    document: Any = _parsed(text, path)
    if not text.strip():
        for line in HEAD:
            document.add(tomlkit.comment(line))
    _set_tables(document, "pods", {name: _words(pod, POD) for name, pod in pods.items()}, POD)
    lease = document.get("lease")
    kept = {name: _words(model, MODEL) for name, model in models.items()}
    for words in kept.values():
        if lease is not None and words.get("lease") == lease:
            del words["lease"]  # that of the file
    _set_tables(document, "models", kept, MODEL)
    return _checked(document, path)


def _parsed(text: str, path: Path) -> tomlkit.TOMLDocument:
    if text.strip():
        file.parse(text, path)  # its errors say where
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise BadUsage(f"`{path}` cannot be changed in place: {error}", hint="correct the file by hand") from error


def _checked(document: tomlkit.TOMLDocument, path: Path) -> str:
    """Return the text of a document. Raises `PiError` if pi could not read it again."""
    text = tomlkit.dumps(document)
    try:
        file.parse(text, path)
    except BadUsage as error:
        raise PiError(
            f"what pi was about to write could not be read again: {error}",
            hint="nothing was changed; see what pi would write with `pi export --file -`",
        ) from error
    return text


def _words(entry: FleetPod | FleetModel, keys: Mapping[str, Key]) -> dict[str, Any]:
    """Return what a table says, by its keys; what is not set is left out."""
    found: dict[str, Any] = {}
    for name in keys:
        value = getattr(entry, name.replace("-", "_"))
        if value is None or value is False or (value == () and name != "vllm"):
            continue
        found[name] = value
    return found


def _set_tables(document: Any, kind: str, wanted: Mapping[str, Mapping[str, Any]], keys: Mapping[str, Key]) -> None:
    if kind not in document:
        if not wanted:
            return
        document[kind] = tomlkit.table(is_super_table=True)
    tables = document[kind]
    for name in [name for name in tables if name not in wanted]:
        del tables[name]
    for name, words in wanted.items():
        if name not in tables:
            tables[name] = tomlkit.table()
        _set_keys(tables[name], words, keys)


def _set_keys(table: Any, words: Mapping[str, Any], keys: Mapping[str, Key]) -> None:
    for name in [name for name in table if name not in words]:
        del table[name]
    for name, value in words.items():
        if name not in table or not _is_same(keys[name], table[name], value):
            table[name] = _item(name, value)


def _is_same(key: Key, written: Any, value: Any) -> bool:
    """Return whether a value is written already, maybe in another way; the order of pods does not matter."""
    try:
        read: Any = key.kind.read(written.unwrap() if hasattr(written, "unwrap") else written)
    except Refused:
        return False
    is_list_of_pods = key.kind in (PODS, SEVERAL_PODS)
    return read == value or (is_list_of_pods and sorted(read) == sorted(value))


def _item(name: str, value: Any) -> Any:
    if name == "env" and all("=" in word for word in value):
        table = tomlkit.inline_table()
        table.update(dict(word.split("=", 1) for word in value))
        return table
    if name == "api-key-env" and len(value) == 1:
        return value[0]
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return _number(value) if name == "price" else value


def _number(price: str) -> float | str:
    try:
        return float(price)
    except ValueError:
        return price
