"""What pi knows about the balancer: its options, its manifest, its metrics, and the version that it installs."""

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_cli.gateway import engine, install
from pi_cli.gateway.engine import Settings
from tests.properties import PROPERTY

SETTINGS = Settings(8000, 9000, Path("/tmp/w"), "cache_aware")
METRICS = """\
# HELP smg_worker_health Worker health
smg_worker_health{worker="http://127.0.0.1:1"} 1
smg_worker_health{worker="http://127.0.0.1:2"} 0
smg_worker_requests_total{worker="http://127.0.0.1:1",model="q"} 6
smg_worker_requests_total{worker="http://127.0.0.1:1",model="alias"} 2
smg_worker_requests_active{worker="http://127.0.0.1:1"} 3
smg_worker_cb_outcomes_total{worker="http://127.0.0.1:2",outcome="failure"} 5
smg_worker_cb_outcomes_total{worker="http://127.0.0.1:2",outcome="success"} 9
smg_worker_cb_transitions_total{worker="http://127.0.0.1:2",from="closed",to="open"} 1
smg_worker_requests_total{worker="http://127.0.0.1:2",model="q"} NaN
"""


def test_every_port_of_the_balancer_is_on_the_loopback() -> None:
    words = engine.arguments(SETTINGS)
    hosts = [words[at + 1] for at, word in enumerate(words) if word.endswith("-host") or word == "--host"]
    assert hosts == ["127.0.0.1", "127.0.0.1"]


def test_the_keys_are_not_among_the_arguments() -> None:
    line = engine.secrets_line("the-key", "the-other")
    assert json.loads(line) == {"api_key": "the-key", "control_key": "the-other"}
    assert line.endswith(b"\n")
    assert not any("key" in word for word in engine.arguments(SETTINGS))


def test_each_option_has_a_reason() -> None:
    assert all(words.startswith("--") and reason for words, reason in engine.OPTIONS)
    assert len(set(engine.option_names())) == len(engine.option_names())


def test_the_manifest_has_urls_and_no_key() -> None:
    written = json.loads(engine.manifest({"dc1/q": "http://127.0.0.1:1"}))
    assert written == {"version": 1, "workers": [{"id": "dc1/q", "url": "http://127.0.0.1:1"}]}


def test_metrics_are_read_per_worker() -> None:
    counts = engine.read_metrics(METRICS)
    first, second = counts.workers["http://127.0.0.1:1"], counts.workers["http://127.0.0.1:2"]
    assert (first.is_healthy, first.requests, first.active, first.ejections) == (True, 8, 3, 0)
    assert (second.is_healthy, second.requests, second.failures, second.ejections) == (False, 0, 5, 1)
    assert counts.active == 3


@PROPERTY
@given(st.text(max_size=300) | st.text('smg_worker_{}=",0123456789e+-. \n', max_size=300))
def test_no_metrics_fail(text: str) -> None:
    engine.read_metrics(METRICS + text)


def test_what_is_installed_is_the_version_that_pi_knows_with_hashes() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    pinned = f"{engine.PACKAGE}=={engine.VERSION}"
    assert project["project"]["optional-dependencies"]["gateway"] == [pinned]
    assert project["dependency-groups"]["gateway"] == [pinned]
    text = install.REQUIREMENTS.read_text()
    packages = [line for line in text.splitlines() if "==" in line]
    assert f"{pinned} \\" in packages
    assert all("--hash=sha256:" in part for part in text.replace("\\\n", " ").strip().splitlines())


def test_a_balancer_of_another_version_on_the_path_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_own_version", lambda: None)
    for name, version in (("old", "1.12.0"), ("right", engine.VERSION)):
        folder = tmp_path / name
        folder.mkdir()
        python, program = folder / "python", folder / "smg"
        python.write_text(f"#!/bin/sh\necho {version}\n")
        program.write_text(f"#!{python}\n")
        for file in (python, program):
            file.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        assert install.find() == (str(python) if name == "right" else None)
