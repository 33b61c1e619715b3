"""`pi models update`: newer recipes from a site or a file, and what a bad one changes: nothing."""

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from pi_cli.planning import recipe_site, recipes
from pi_cli.planning.recipe_site import NotFetched
from tests.conftest import TOKEN, Pi
from tests.hub.published import TOOLS, Connection, Site, document
from tests.lab.hub import Hub
from tests.planning.test_recipes import CONFIG
from tests.until import until

OURS = "Qwen/Qwen3-32B"
FORBIDDEN = json.dumps(document("me/x", env={"A": "1"})).encode()
DOCUMENTS = (
    document(OURS, "--max-num-seqs", "64", *TOOLS, updated="2026-10-01"),
    document("Qwen/Qwen3-8B", updated="2026-01-01"),
    document("me/new-model"),
    document("me/with-code", "--middleware", "evil.py"),
)


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(DOCUMENTS) as site:
        yield site


def stored() -> str:
    return recipes.path().read_text() if recipes.path().exists() else ""


def test_an_update_says_in_one_line_what_it_has_brought(pi: Pi, site: Site) -> None:
    result = pi("models", "update", "--from", site.url)
    assert result.code == 0, result.err
    assert result.out == "1 new model, 1 changed, 1 as before; from recipes of 2026-11-20\n"
    assert result.err == "note: left out: `me/with-code`: it needs `--middleware`\n"
    assert recipes.path().stat().st_mode & 0o777 == 0o600


def test_only_what_has_changed_is_sent_again(pi: Pi, site: Site) -> None:
    pi("models", "update", "--from", site.url)
    before = stored()
    site.asked.clear()
    again = pi("models", "update", "--from", site.url)
    assert again.out == "up to date: recipes of 2026-11-20, 3 models\n"
    assert {status for _, status in site.asked} == {304}
    assert len(site.asked) == 5
    assert stored() == before
    site.publish(*DOCUMENTS[1:3], document("me/newer", updated="2026-11-25"))
    site.asked.clear()
    changed = pi("models", "update", "--from", site.url)
    assert changed.out == "1 new model, 0 changed, 2 as before, 1 gone; from recipes of 2026-11-25\n"
    assert sorted(path for path, status in site.asked if status == 200) == ["/me/newer.json", "/models.json"]


def test_no_token_is_sent_and_the_client_says_who_it_is(pi: Pi, site: Site) -> None:
    netrc = Path(os.environ["HOME"], ".netrc")
    netrc.write_text("machine 127.0.0.1 login someone password secret\n")
    netrc.chmod(0o600)
    pi("models", "update", "--from", site.url, NETRC=str(netrc))
    assert site.headers
    for headers in site.headers:
        assert not {"authorization", "cookie"} & set(headers)
        assert headers["user-agent"].startswith("pi/")
        assert not [value for value in headers.values() if TOKEN in value or "secret" in value]


def test_the_address_can_be_changed_by_a_variable(pi: Pi, site: Site) -> None:
    assert pi("models", "update", "--check", "--json", PI_RECIPES_URL=f"{site.url}/").json["source"] == site.url


def test_a_check_changes_nothing(pi: Pi, site: Site) -> None:
    result = pi("models", "update", "--check", "--from", site.url)
    assert result.out == "available: 1 new model, 1 changed, 1 as before; from recipes of 2026-11-20\n"
    assert stored() == ""


def test_json_names_every_model(pi: Pi, site: Site) -> None:
    told = pi("models", "update", "--from", site.url, "--json").json
    assert told == {
        "new": ["me/new-model"],
        "changed": [OURS],
        "same": ["Qwen/Qwen3-8B"],
        "gone": [],
        "left_out": {"me/with-code": "it needs `--middleware`"},
        "recipes_of": "2026-11-20",
        "source": site.url,
        "stored": True,
    }


def test_a_model_shows_what_came_from_where_until_the_update_is_removed(pi: Pi, site: Site) -> None:
    before = pi("models", OURS, "--gpu", "1x H200").out
    assert "FROM" not in before
    pi("models", "update", "--from", site.url)
    after = pi("models", "qwen3 32b", "--gpu", "1x H200").out
    assert f"arguments: vllm-project/recipes, {OURS}, updated 2026-10-01; weights and architecture: pi's" in after
    assert "--max-num-seqs 64" in after
    removed = pi("models", "update", "--remove")
    assert removed.out == "removed the recipes of 2026-11-20; pi's own catalogue applies again\n"
    assert pi("models", OURS, "--gpu", "1x H200").out == before
    assert pi("models", "update", "--remove").out == "there are no fetched recipes\n"


def test_a_model_of_the_recipes_only_is_found_completed_explained_and_planned(pi: Pi, site: Site) -> None:
    pi("models", "update", "--from", site.url)
    listed = pi("models", "--gpu", "1x H200")
    assert "also in the fetched recipes, and sized when named: `me/new-model`" in listed.err
    pressed = {"_PI_COMPLETE": "complete_bash", "COMP_WORDS": "pi start new-", "COMP_CWORD": "2"}
    assert pi(**pressed).out.split() == ["new-model"]
    without = pi("models", "new model", "--gpu", "1x H200")
    assert without.code == 1
    assert "error: `me/new-model` of the fetched recipes cannot be sized: cannot query the Hugging Face" in without.err
    with Hub() as hub:
        files: dict[str, int | bytes] = {
            "config.json": json.dumps(CONFIG).encode(),
            "model.safetensors": 65_500_000_000,
        }
        hub.add_synthetic("me/new-model", files)
        told = pi("models", "new model", "--gpu", "1x H200", HF_ENDPOINT=hub.url)
    assert told.code == 0, told.err
    assert "arguments: vllm-project/recipes, me/new-model, updated 2026-11-20" in told.out
    assert "pi start me/new-model --name new-model" in told.out


def test_a_model_newer_than_the_pods_vllm_comes_with_the_command_that_installs_it(pi: Pi, site: Site) -> None:
    site.publish(document(OURS, min_vllm="0.99.0"))
    pi("models", "update", "--from", site.url)
    gpu = {"id": 0, "name": "NVIDIA H200", "memory": "141GB"}
    pod = {"ssh": "ssh a", "gpus": [gpu], "models": {}, "vllm": "0.32.0"}
    Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps({"pods": {"dc1": pod}, "active": "dc1"}))
    said = "0.99.0 or newer, and `dc1` has 0.32.0: install it with `pi pods setup dc1 --vllm 0.99.0`"
    assert said in " ".join(pi("models", OURS).out.split())
    assert said in " ".join(pi("start", OURS, "--name", "q", "--dry-run").out.split())


# Files


def test_recipes_come_from_a_file_without_the_network(pi: Pi, tmp_path: Path) -> None:
    one, several, mirror = tmp_path / "one.json", tmp_path / "several.json", tmp_path / "mirror"
    one.write_text(json.dumps(DOCUMENTS[2]))
    several.write_text(json.dumps(DOCUMENTS))
    (mirror / "me").mkdir(parents=True)
    (mirror / "models.json").write_text(json.dumps([{"hf_id": "me/new-model", "json": "/me/new-model.json"}]))
    (mirror / "me" / "new-model.json").write_text(json.dumps(DOCUMENTS[2]))
    assert pi("models", "update", "--check", "--from", str(one)).out.startswith(
        "available: 1 new model, 0 changed, 0 as"
    )
    assert pi("models", "update", "--check", "--from", str(mirror)).out.startswith("available: 1 new model, 0 changed")
    assert pi("models", "update", "--from", str(several)).out.startswith("1 new model, 1 changed, 1 as before;")
    others = pi("models", "update", "--check", "--from", str(recipes.path()), PI_CONFIG_DIR=str(tmp_path / "other"))
    assert others.out.startswith("available: 1 new model, 1 changed, 1 as before;")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No such file or directory"),
        ("", "it is not valid JSON"),
        ("{}", "it has no recipes in it"),
        ("[1]", "it has no recipes in it"),
        ("7", "it has no recipes in it"),
        ("[" * 100_000, "it is not valid JSON"),
        ('{"format": 1, "documents": 7}', "it has no recipes in it"),
    ],
)
def test_a_file_without_recipes_is_refused_and_the_old_ones_stay(
    pi: Pi, site: Site, tmp_path: Path, text: str | None, reason: str
) -> None:
    pi("models", "update", "--from", site.url)
    before = stored()
    file = tmp_path / "x.json"
    if text is not None:
        file.write_text(text)
    result = pi("models", "update", "--from", str(file))
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: cannot read recipes from `{file}`: {reason}\nhint: give a folder")
    assert stored() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "ftp://127.0.0.1/x"], "`ftp://127.0.0.1/x` is neither an address of the web nor a file"),
        (["--from", "http://["], "`http://[` is neither an address of the web nor a file"),
        (
            ["--from", "~unknown/x.json"],
            "cannot read recipes from `~unknown/x.json`: No such file or directory",
        ),
        (["--from", "x" * 5000], f"cannot read recipes from `{'x' * 5000}`: File name too long"),
        (["--from", ""], "cannot read recipes from `.`: No such file or directory"),
        (["--from", "http://"], "`http://` is neither an address of the web nor a file"),
        (["--remove", "--check"], "`--remove` cannot be combined with `--from` or `--check`"),
    ],
)
def test_what_makes_no_sense_is_refused(pi: Pi, words: list[str], said: str) -> None:
    result = pi("models", "update", *words)
    assert result.code == 2
    assert result.err.startswith(f"error: {said}\nhint: ")


# Bad sites


Answer = Callable[[Connection], bool]


def answers(
    path: str, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, length: int | None = None
) -> Answer:
    """Return a function for `Site.answer` that answers one path, or with "*" every path, in this way."""

    def answer(connection: Connection) -> bool:
        is_asked = path in ("*", connection.path)
        if is_asked:
            connection.reply(status, body, headers, length=length)
        return is_asked

    return answer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (answers("/models.json", 404, b""), "it answered 404 for /models.json"),
        (answers("/models.json", 500, b""), "it answered 500 for /models.json"),
        (answers("/models.json", 200, b"<html>"), "it is not valid JSON"),
        (answers("/models.json", 200, b"[]"), "models.json is not the index of the recipes"),
        (answers("/models.json", 200, b'[{"json": "/../../x.json"}]'), "models.json is not the index of the recipes"),
        (answers("/models.json", 200, b" " * 2_000_001), "/models.json has more than 2,000,000 bytes"),
        (
            answers("/models.json", 302, b"", {"Location": "https://127.0.0.1/"}),
            "/models.json redirects to another scheme",
        ),
        (
            answers("/models.json", 302, b"", {"Location": "file:///etc/passwd"}),
            "/models.json redirects to another scheme",
        ),
        (answers("/models.json", 302, b"", {"Location": "/models.json"}), "/models.json redirects more than 3 times"),
        (answers("/me/new-model.json", 503, b""), "it answered 503 for /me/new-model.json"),
        (answers("/me/new-model.json", 429, b""), "it answered 429 for /me/new-model.json"),
        (answers("/me/new-model.json", 200, b"x" * 1_000_001), "/me/new-model.json has more than 1,000,000 bytes"),
        (answers("/me/new-model.json", 200, b'{"hf_id', length=100), "peer closed connection"),
        (answers("/me/new-model.json", 304, b""), "it answered 304 for /me/new-model.json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_site_that_fails_changes_nothing(pi: Pi, answer: Answer, reason: str) -> None:
    with Site(DOCUMENTS[:2]) as first:
        pi("models", "update", "--from", first.url)
    before = stored()
    with Site(DOCUMENTS) as site:
        site.answer = answer
        result = pi("models", "update", "--from", site.url)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"error: cannot fetch the recipes from {site.url}: {reason}")
    assert "\nhint: nothing was changed; " in result.err
    assert result.err.count("\n") == 2
    assert stored() == before


def test_a_site_that_is_not_there_is_one_line(pi: Pi) -> None:
    result = pi("models", "update", "--from", "http://user:secret@127.0.0.1:9")
    assert result.code == 1
    assert result.err.startswith("error: cannot fetch the recipes from http://127.0.0.1:9: Connection refused\nhint: ")
    assert "secret" not in result.err


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (answers("/me/new-model.json", 404, b""), "the site does not have it"),
        (answers("/me/new-model.json", 200, b"{"), "it is not valid JSON"),
        (answers("/me/new-model.json", 200, b"[]"), "the recipe is not an object"),
        (
            answers("/me/new-model.json", 200, json.dumps(document("me/x", env={"A": "1"})).encode()),
            "it sets the variable `A`",
        ),
    ],
)
def test_one_bad_document_leaves_out_its_model_only(pi: Pi, site: Site, answer: Answer, reason: str) -> None:
    site.answer = answer
    result = pi("models", "update", "--from", site.url)
    assert result.out == "0 new models, 1 changed, 1 as before; from recipes of 2026-10-01\n"
    assert f"note: left out: `me/new-model`: {reason}\n" in result.err


def test_a_redirect_of_the_same_scheme_is_followed(pi: Pi, site: Site) -> None:
    with Site() as old:

        def redirect(connection: Connection) -> bool:
            connection.reply(308, b"", {"Location": site.url + connection.path})
            return True

        old.answer = redirect
        assert pi("models", "update", "--from", old.url).out.startswith("1 new model, 1 changed, 1 as before;")


def test_a_compressed_answer_is_bounded_by_what_it_unpacks_to(pi: Pi, site: Site) -> None:
    packed = gzip.compress(b" " * 50_000_000)
    site.answer = answers("*", 200, packed, {"Content-Encoding": "gzip"})
    result = pi("models", "update", "--from", site.url)
    assert "/models.json has more than 2,000,000 bytes" in result.err


def test_a_site_that_answers_a_byte_at_a_time_is_left_at_the_deadline(site: Site) -> None:
    left = threading.Event()

    def drip(connection: Connection) -> bool:
        connection.send_response(200)
        connection.send_header("Content-Length", "100000")
        connection.end_headers()
        while not left.wait(0.05):
            connection.wfile.write(b" ")
            connection.wfile.flush()
        return True

    site.answer = drip
    try:
        with pytest.raises(NotFetched) as caught:
            asyncio.run(recipe_site.fetch(site.url, None, timeout=0.5))
    finally:
        left.set()
    assert caught.value.message == f"cannot fetch the recipes from {site.url}: it took longer than 0.5 seconds"


def test_ctrl_c_leaves_the_old_recipes(pi: Pi, site: Site) -> None:
    pi("models", "update", "--from", site.url)
    before = stored()
    asked, release = threading.Event(), threading.Event()

    def hang(connection: Connection) -> bool:
        if connection.path != "/models.json":
            asked.set()
            release.wait(30)
        return False

    site.publish(*DOCUMENTS, document("me/another"))
    site.answer = hang
    command = [sys.executable, "-m", "pi_cli", "models", "update", "--from", site.url]
    updating = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert asked.wait(30)
        updating.send_signal(signal.SIGINT)
        out, err = updating.communicate(timeout=10)
    finally:
        release.set()
        updating.kill()
        updating.wait()
    assert (updating.returncode, out, err) == (130, "", "")
    assert stored() == before
    assert [file.name for file in recipes.path().parent.iterdir() if file.name.endswith(".new")] == []


def test_two_updates_at_once_both_end_with_whole_recipes(pi: Pi, site: Site) -> None:
    together = threading.Barrier(2, timeout=30)

    def wait_for_each_other(connection: Connection) -> bool:
        if connection.path == "/models.json":
            together.wait()
        return False

    site.answer = wait_for_each_other
    command = [sys.executable, "-m", "pi_cli", "models", "update", "--from", site.url]
    updating = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    results = [process.communicate(timeout=60) for process in updating]
    assert [process.returncode for process in updating] == [0, 0], results
    assert all(out == "1 new model, 1 changed, 1 as before; from recipes of 2026-11-20\n" for out, _ in results)
    site.answer = lambda _: False
    assert pi("models", "update", "--from", site.url).out.startswith("up to date: ")


def test_a_damaged_file_is_replaced_by_the_next_update(pi: Pi, site: Site) -> None:
    pi("models", "update", "--from", site.url)
    recipes.path().write_text("{")
    broken = pi("models", OURS, "--gpu", "1x H200")
    assert broken.code == 2
    assert f"error: cannot read `{recipes.path()}`, the recipes that were fetched\nhint: fetch them again" in broken.err
    assert pi("models", "update", "--from", site.url).code == 0
    assert pi("models", OURS, "--gpu", "1x H200").code == 0
    until(lambda: json.loads(stored()))
