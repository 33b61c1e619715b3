"""What Python would read from JSON, and change or drop without a word, is refused with its place."""

import json
import re

import pytest

from pi_cli.store.strict_json import NotStrict, loads


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "`a` appears twice"),
        ('{"pods": {"dc1": {"models": {"q": {}, "q": {}}}}}', "`pods.dc1.models.q` appears twice"),
        ('[{"a": 1, "a": 1}]', "`[0].a` appears twice"),
        ('{"pods": {"dc1": {"connect_timeout": NaN}}}', "`pods.dc1.connect_timeout` is not a number"),
        ('{"a": [1, {"b": -Infinity}]}', "`a[1].b` is not a number"),
        ('{"a": 1e999}', "`a` is not a number"),
        (r'{"pods": {"dc1": {"ssh": "ssh \ud800"}}}', "there is half of a surrogate pair in `pods.dc1.ssh`"),
        (r'{"\udc00": 1}', "there is half of a surrogate pair in a key"),
        (r'{"pods": {"\udc00": 1}}', "there is half of a surrogate pair in `pods`"),
        ('{"a\\u001b[2J": 1, "a\\u001b[2J": 2}', "`a` appears twice"),
    ],
)
def test_it_is_refused_with_its_place(text: str, complaint: str) -> None:
    json.loads(text)  # Python takes it
    with pytest.raises(NotStrict, match=re.escape(complaint)):
        loads(text)


def test_json_is_read_as_by_python() -> None:
    text = '{"a": [1, -2.5e3, null, true, "\\ud83d\\ude00", {"a": {"a": "é"}}], "b": {}, "": []}'
    assert loads(text) == json.loads(text)


def test_a_large_object_with_a_repeated_key_is_refused_quickly() -> None:
    keys = ", ".join(f'"{number}": 0' for number in [*range(100_000), 99_999])
    with pytest.raises(NotStrict, match="`99999` appears twice"):
        loads("{" + keys + "}")
