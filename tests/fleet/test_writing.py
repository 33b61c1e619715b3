"""What `pi export` and `pi up --ssh` write, and what they leave as it is."""

from dataclasses import replace

import pytest

from pi_cli.errors import BadUsage
from pi_cli.fleet import changes, exporting, file, writing
from pi_cli.fleet.changes import Reality
from pi_cli.fleet.file import FleetModel
from pi_cli.models import start_words
from pi_cli.models.start_words import StartWords
from pi_cli.pods.reports import Lease, RunningModel
from pi_cli.store.records import Gpu, Model, Pod, Price, Storage
from tests.fleet.fleets import EXAMPLE, PATH, example, text_of

MODEL = "Qwen/Qwen3-8B"


def running(name: str, uid: str, lease: float | None = None) -> RunningModel:
    given = Lease(uid, name, lease, None, "busy", 0.0, None, "runs") if lease else None  # type: ignore[arg-type]
    return RunningModel(name, uid, MODEL, 8001, "0", 42, 0.9, False, "ready", lease=given)


def pod(ssh: str = "ssh root@1.2.3.4", **models: StartWords | None) -> Pod:
    entries = {
        name: Model(
            words.model if words else MODEL, 8001, "0", 42, f"u-{name}", start_words.record(words) if words else {}
        )
        for name, words in models.items()
    }
    return Pod(ssh, [Gpu(0, "NVIDIA H100", "80GB")], entries, vllm="0.32.0")


def test_another_ssh_command_changes_nothing_else() -> None:
    text = writing.with_ssh(EXAMPLE, PATH, "dc1", "ssh -p 2 root@9.9.9.9")
    assert text == EXAMPLE.replace("ssh root@1.2.3.4", "ssh -p 2 root@9.9.9.9")
    inline = 'pods = { dc1 = { ssh = "ssh a@h" } } # all\n'
    assert writing.with_ssh(inline, PATH, "dc1", "ssh b@h") == inline.replace("a@h", "b@h")


def test_an_ssh_command_with_a_secret_is_not_written() -> None:
    with pytest.raises(Exception, match="could not be read again") as caught:
        writing.with_ssh(EXAMPLE, PATH, "dc1", "sshpass -p hush ssh root@h")
    assert "hush" not in str(caught.value)


def test_a_file_with_the_same_content_stays_as_the_user_wrote_it() -> None:
    assert text_of(example(), EXAMPLE) == EXAMPLE


def test_a_change_keeps_comments_and_tables_that_are_the_users() -> None:
    fleet = example()
    models = {"qwen": replace(fleet.models["qwen"], context="32k"), "new": FleetModel("new", MODEL, pods=("dc2",))}
    text = writing.with_fleet(EXAMPLE, PATH, fleet.pods, models)
    assert "# our machines\n" in text
    assert 'pods = ["dc1", "dc2"]  # a replica on each\ncontext = "32k"\n' in text
    assert "[models.oss]" not in text
    assert "[gateway]\nport = 8000\n" in text
    assert file.parse(text, PATH).models["new"].pods == ("dc2",)


def test_a_broken_file_is_not_overwritten() -> None:
    with pytest.raises(BadUsage, match=r"pi\.toml:1:3"):
        writing.with_fleet("a b", PATH, {}, {})


def test_what_runs_is_exported_with_its_words_and_comes_back_as_written() -> None:
    words = StartWords(MODEL, context="64k", env=("A=1",), api_key_env=("TEAM",))
    first, second = pod(q=words, own=StartWords(MODEL, vllm=())), pod("ssh root@5.6.7.8", q=words)
    first.price, first.storage, first.home = Price(1.5, "EUR"), Storage("/w", mount="mount -t nfs h:/x /w"), "/e"
    reality = Reality(
        {"dc1": first, "dc2": second},
        {"dc1": [running("q", "u-q", 2700), running("own", "u-own")], "dc2": [running("q", "u-q", 2700)]},
    )
    exported = exporting.find(reality)
    assert exported.notes == []
    assert exported.models["q"] == FleetModel(
        "q", MODEL, ("dc1", "dc2"), context="64k", lease="45m", env=("A=1",), api_key_env=("TEAM",)
    )
    written = file.parse(writing.with_fleet("", PATH, exported.pods, exported.models), PATH)
    assert written.models["own"].vllm == ()
    assert (written.pods["dc1"].price, written.pods["dc1"].home) == ("1.5 EUR", "/e")
    assert changes.find(written, reality).is_as_written


def test_what_the_file_cannot_say_is_noted() -> None:
    secret = pod("ssh root@h -o 'ProxyCommand=connect --password hush %h'", q=None)
    other = pod(q=StartWords(MODEL, context="32k"), unknown=None)
    exported = exporting.find(Reality({"dc1": pod(q=StartWords(MODEL)), "dc2": other, "dc3": secret}))
    assert list(exported.pods) == ["dc1", "dc2"]
    assert exported.models["q"].pods == ("dc1",)
    assert [note.partition(":")[0] for note in exported.notes] == [
        "`q` on `dc2` was left out",
        "`unknown` on `dc2` was not started from here",
        "`dc3` was left out",
    ]
    assert "hush" not in " ".join(exported.notes)
