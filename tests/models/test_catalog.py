"""`models.md`, as pi reads it."""

import re

import pytest

from pi_cli.models import catalog
from pi_cli.store import paths

TEXT = paths.asset("models.md").read_text(encoding="utf-8")
ENTRIES = list(catalog.read(TEXT))


def test_every_heading_of_a_model_has_a_block_and_every_block_a_heading() -> None:
    headings = re.findall(r"^### \[[ x]\] (.+)$", TEXT, re.MULTILINE)
    assert [entry.id.rpartition("/")[2] for entry in ENTRIES] == headings


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_every_configuration_uses_the_gpus_it_counts_and_names_its_source(entry: catalog.Entry) -> None:
    from pi_cli.models import plan

    for configuration in entry.hardware:
        assert plan.gpus_asked_for(configuration.args) == configuration.count
        assert configuration.source
        plan.refuse_ours(configuration.args)
