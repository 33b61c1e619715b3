"""The reader of pi.toml: what it takes, and where it says what is wrong."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator

from pi_cli.errors import BadUsage
from pi_cli.fleet import file, positions, schema
from pi_cli.fleet.file import FleetFile, FleetGateway
from tests.fleet.fleets import EXAMPLE, PATH, fleets, text_of
from tests.properties import PROPERTY, texts_of

PIECES = (
    "[pods.a]",
    "[models.b]",
    "ssh = ",
    '"',
    "'",
    "\n",
    "=",
    "{",
    "}",
    "[",
    "]",
    "#",
    ",",
    '"""',
    "pods",
    ".",
    "\\",
    "1",
)

VALIDATOR: Any = Draft202012Validator(schema.make())


def refusal(text: str) -> BadUsage:
    with pytest.raises(BadUsage) as caught:
        file.parse(text, PATH)
    return caught.value


def changed(old: str, new: str) -> str:
    assert old in EXAMPLE
    return EXAMPLE.replace(old, new, 1)


def test_a_file_is_read_with_its_words_unchanged() -> None:
    fleet = file.parse(EXAMPLE, PATH)
    assert (fleet.pods["dc1"].models_path, fleet.pods["dc1"].price, fleet.pods["dc2"].price) == (
        "/workspace",
        "2.49",
        None,
    )
    qwen, oss = fleet.models["qwen"], fleet.models["oss"]
    assert (qwen.pods, qwen.context, qwen.lease, qwen.env) == (("dc1", "dc2"), "64k", "45m", ("VLLM_USE_DEEP_GEMM=0",))
    assert (oss.vllm, oss.private, oss.lease) == (("--max-num-seqs", "32"), True, "2h")
    assert fleet.gateway == FleetGateway(8000, "cache_aware")
    assert file.parse("", PATH) == FleetFile(PATH)


def place_of(text: str, part: str) -> str:
    """Return line and column of a part of a text."""
    at = text.index(part)
    return f"{text.count(chr(10), 0, at) + 1}:{at - text.rfind(chr(10), 0, at)}"


@pytest.mark.parametrize(
    ("old", "new", "at", "said", "hint"),
    [
        ("context =", "contxt =", "contxt", "unknown key `contxt`", "did you mean `context`?"),
        ("[gateway]", "[gatway]", "gatway", "unknown key `gatway`", "did you mean `gateway`?"),
        ("models-path", "models_path", "models_path", "unknown key `models_path`", "did you mean `models-path`?"),
        ('lease = "2h"', "zoo = 1", "zoo", "unknown key `zoo`", "the keys here are `lease`"),
        (
            '"dc1", "dc2"]',
            '"dc1", "dc3"]',
            '"dc3"',
            "there is no pod `dc3`",
            "add it, with its ssh command",
        ),
        ('"dc1", "dc2"]', '"dc1", "zoo"]', '"zoo"', "there is no pod `zoo`", "[pods.zoo]"),
        ('"dc1", "dc2"]', '"dc2", \n"dc2"]', '"dc2"]', "`dc2` is in the list twice", "correct"),
        ('"dc1", "dc2"]', '"dc1", 2]', "2]  #", "number 2 of `pods` should be a text, not a whole number", "correct"),
        ("port = 8000", "port = true", "port", "`port` should be a whole number, not a boolean", "correct"),
        ("port = 8000", "port = 70000", "port", "`port` should be from 1 to 65535", "correct"),
        ('policy = "cache_aware"', 'policy = "fast"', "policy", "`policy` should be", "correct"),
        ("[models.oss]", "[models.'a b']", "'a b'", "`a b` cannot be the name of a model", "use letters"),
        ('ssh = "ssh root@1.2.3.4"', "", "dc1]", "`dc1` has no `ssh`", "add it"),
        ('"ssh root@1.2.3.4"', '"ssh -9 root@h"', "ssh =", "`ssh` is not an ssh command for pi", ""),
        ('pods = ["dc2"]', "", "oss", "the model `oss` has neither `pods` nor `across`", "pods = "),
        (
            'pods = ["dc2"]',
            'pods = ["dc2"]\nacross = ["dc1", "dc2"]',
            "across",
            "`across` and `pods` exclude",
            "replica",
        ),
        ('vllm = ["--max', 'gpus = 2\nvllm = ["--max', "gpus", "`gpus` cannot be combined with `vllm`", "--tensor-par"),
        ('lease = "45m"', 'lease = "never"', 'lease = "never"', "`lease` should be a duration", "correct"),
        ('lease = "45m"', 'lease = "31d"', 'lease = "31d"', "`lease` should be a duration up to 30 days", "correct"),
        ('lease = "45m"', 'lease = "off"\nthen = "stop-pod"', "then", "`then` needs a `lease`", "add `lease`"),
        ('context = "64k"', 'context = "a lot"', "context", "`context` should be for example", "correct"),
        ("[pods.dc2]", "[pods]\ndc3 = 1\n[pods.dc2]", "dc3", "`dc3` should be a table, not a", "[pods.NAME]"),
        ("price = 2.49", "price =", "\n\n[pods.dc2]", "not TOML: Invalid value", "strings need quotes"),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) and value.split() else "",
)
def test_what_is_wrong_is_named_with_its_place(old: str, new: str, at: str, said: str, hint: str) -> None:
    text = changed(old, new)
    error = refusal(text)
    assert error.message.startswith(f"pi.toml:{place_of(text, at)}: {said}"), error.message
    assert hint in (error.hint or "")


@pytest.mark.parametrize(
    ("old", "new", "at"),
    [
        ("VLLM_USE_DEEP_GEMM = 0", 'MY_TOKEN = "hush-hush"', "MY_TOKEN"),
        ("VLLM_USE_DEEP_GEMM = 0", 'X = "hf_hushhushhushhushhush"', "X ="),
        ("env = { VLLM_USE_DEEP_GEMM = 0 }", 'env = ["A=1", "MY_SECRET=hush-hush"]', '"MY_SECRET'),
        ('"ssh root@1.2.3.4"', '"sshpass -p hush-hush ssh root@1.2.3.4"', "ssh ="),
        ("price = 2.49", 'mount = "mount -o password=hush-hush //nas/m /mnt/m"', "mount ="),
        ('["--max-num-seqs", "32"]', '["--api-key=hush-hush"]', '"--api-key'),
        ('["--max-num-seqs", "32"]', '["--hf-token", "hush-hush"]', '"--hf-token'),
        ("private = true", 'api-key-env = "hush-hush"', "api-key-env"),
    ],
    ids=["name", "token", "list", "ssh", "mount", "key", "hub", "key-env"],
)
def test_a_secret_is_refused_and_not_repeated(old: str, new: str, at: str) -> None:
    text = changed(old, new)
    error = refusal(text)
    assert error.message.startswith(f"pi.toml:{place_of(text, at)}: ")
    assert "hush" not in f"{error.message} {error.hint} {error.excerpt}"


def test_names_of_secrets_are_taken() -> None:
    fleet = file.parse(
        changed("env = { VLLM_USE_DEEP_GEMM = 0 }", 'env = ["MY_TOKEN", "A=1"]\napi-key-env = "TEAM"'), PATH
    )
    assert fleet.models["qwen"].env == ("MY_TOKEN", "A=1")
    assert fleet.models["qwen"].api_key_env == ("TEAM",)


def test_a_file_that_is_missing_or_not_text_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(BadUsage) as missing:
        file.load(tmp_path / "pi.toml")
    assert "pi export" in (missing.value.hint or "")
    (tmp_path / "pi.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadUsage, match="not a UTF-8 text"):
        file.load(tmp_path / "pi.toml")


@PROPERTY
@given(fleets())
def test_what_is_written_is_read_as_it_was_meant_and_suits_the_schema(fleet: FleetFile) -> None:
    text = text_of(fleet)
    assert file.parse(text, PATH) == fleet
    assert VALIDATOR.is_valid(tomllib.loads(text))
    lines = text.splitlines()
    for path, (line, column) in positions.find(text).items():
        if isinstance(key := path[-1], str):
            assert lines[line - 1][column - 1 :].startswith((key, f'"{key}"')), (path, line, column)


@PROPERTY
@given(texts_of(*PIECES))
def test_any_text_is_read_or_refused_with_a_place_in_it(text: str) -> None:
    said = ""
    try:
        file.parse(text, PATH)
    except BadUsage as error:
        said = error.message
    place = re.match(r"pi\.toml:(\d+):(\d+): ", said)
    assert not said or (place and 1 <= int(place[1]) <= text.count("\n") + 1), said


@PROPERTY
@given(texts_of(*PIECES))
def test_the_positions_of_any_toml_are_found(text: str) -> None:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    for line, column in positions.find(text).values():
        assert 1 <= line <= text.count("\n") + 1
        assert column >= 1
