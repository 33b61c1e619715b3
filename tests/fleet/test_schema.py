"""The JSON schema of pi.toml agrees with the reader."""

import tomllib
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pi_cli.errors import BadUsage
from pi_cli.fleet import description, file, schema
from tests.fleet.fleets import EXAMPLE, PATH

VALIDATOR: Any = Draft202012Validator(schema.make())


def test_the_schema_is_one_and_has_every_key_with_what_it_means() -> None:
    Draft202012Validator.check_schema(schema.make())
    made = schema.make()["properties"]
    for kind, keys in description.TABLES.items():
        properties = made[kind]["additionalProperties"]["properties"]
        assert list(properties) == list(keys)
        assert all(each["description"] for each in properties.values())
    assert list(made["gateway"]["properties"]) == list(description.GATEWAY)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("context =", "contxt ="),
        ("[gateway]", "[gatway]"),
        ("port = 8000", "port = true"),
        ("port = 8000", "port = 0"),
        ('policy = "cache_aware"', 'policy = "fast"'),
        ('lease = "45m"', 'lease = "never"'),
        ('ssh = "ssh root@1.2.3.4"', ""),
        ('pods = ["dc2"]', ""),
        ('pods = ["dc2"]', 'pods = ["dc2"]\nacross = ["dc1", "dc2"]'),
        ('pods = ["dc2"]', "pods = []"),
        ('vllm = ["--max', 'gpus = 2\nvllm = ["--max'),
        ("private = true", 'private = "yes"'),
        ("[models.oss]", "[models.'a b']"),
        ("env = { VLLM_USE_DEEP_GEMM = 0 }", "env = { A = 1.5 }"),
        ("env = { VLLM_USE_DEEP_GEMM = 0 }", 'env = ["A B"]'),
        ("private = true", 'api-key-env = "TEAM-KEY"'),
    ],
)
def test_both_refuse(old: str, new: str) -> None:
    text = EXAMPLE.replace(old, new, 1)
    assert text != EXAMPLE
    with pytest.raises(BadUsage):
        file.parse(text, PATH)
    assert not VALIDATOR.is_valid(tomllib.loads(text))
