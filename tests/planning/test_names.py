"""What a user may type for a model, and what pi takes it for."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_cli.errors import BadUsage
from pi_cli.planning import catalogue, names
from pi_cli.store import paths
from tests.conftest import NO_HUB
from tests.lab.hub import Hub
from tests.properties import PROPERTY

IDS = catalogue.ids()
BLOCK = '```toml\nid = "{}"\nweights_gb = 1\n\n[[hardware]]\ngpus = ["any"]\ncount = 1\nargs = []\n```\n'


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as stand_in:
        for model in ("openai-community/gpt2", "moonshotai/Kimi-K9", "someone/kimi-k9-tuned"):
            stand_in.add_synthetic(model, {"config.json": b"{}"})
        yield stand_in


def resolve(typed: str, at: str = NO_HUB) -> names.Meaning:
    return asyncio.run(names.resolve(typed, token=None, endpoint=at))


def refusal(typed: str, at: str = NO_HUB) -> BadUsage:
    with pytest.raises(BadUsage) as caught:
        resolve(typed, at)
    return caught.value


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Qwen3-32B", "Qwen/Qwen3-32B"),
        ("qwen3-32b", "Qwen/Qwen3-32B"),
        ("qwen3_32b", "Qwen/Qwen3-32B"),
        (" Qwen3  32B ", "Qwen/Qwen3-32B"),
        ("gpt oss 20b", "openai/gpt-oss-20b"),
        ("GPT-OSS_120b", "openai/gpt-oss-120b"),
        ("Qwen/Qwen3 32B", "Qwen/Qwen3-32B"),
        ("Qwen/Qwen3-32B/", "Qwen/Qwen3-32B"),
        ("https://huggingface.co/Qwen/Qwen3-32B", "Qwen/Qwen3-32B"),
        ("https://huggingface.co/Qwen/Qwen3-32B/", "Qwen/Qwen3-32B"),
        ("https://huggingface.co/qwen/qwen3-32b?library=vllm#usage", "Qwen/Qwen3-32B"),
        ("http://hf.co/Qwen/Qwen3-32B/tree/main", "Qwen/Qwen3-32B"),
        ("huggingface.co/Qwen/Qwen3-32B/blob/main/config.json", "Qwen/Qwen3-32B"),
        ("hf.co/Qwen/Qwen3-32B", "Qwen/Qwen3-32B"),
        ("hf download Qwen/Qwen3-32B", "Qwen/Qwen3-32B"),
        ("vllm serve Qwen/Qwen3-32B --port 8000", "Qwen/Qwen3-32B"),
        ("git clone https://huggingface.co/Qwen/Qwen3-32B", "Qwen/Qwen3-32B"),
        ("ollama run qwen3:32b", "Qwen/Qwen3-32B"),
        ("hf://Qwen/Qwen3-32B", "Qwen/Qwen3-32B"),
        ("hf://models/Qwen/Qwen3-32B@main", "Qwen/Qwen3-32B"),
        ("https://huggingface.co/api/models/Qwen/Qwen3-32B", "Qwen/Qwen3-32B"),
        (f"{NO_HUB}/Qwen/Qwen3-32B/tree/main", "Qwen/Qwen3-32B"),
        ("https://huggingface.co/me/another/tree/main", "me/another"),
    ],
)
def test_a_model_is_known_by_what_people_type_and_the_choice_is_said(typed: str, meant: str) -> None:
    assert resolve(typed) == names.Meaning(meant, f"`{typed}` is `{meant}`")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("qwen/qwen3-32b", "Qwen/Qwen3-32B"), ("me/my_model", "me/my_model"), ("Qwen/Qwen3_32B", "Qwen/Qwen3_32B")],
)
def test_an_id_with_its_owner_is_taken_as_typed(typed: str, meant: str) -> None:
    """The spelling is the catalogue's; another separator is another model of the Hub."""
    assert resolve(typed) == names.Meaning(meant)


@pytest.mark.parametrize("folder", ["/models/Qwen3-32B", "./m", "../m", "~/m", "~", "/https://huggingface.co/a/b"])
def test_a_folder_is_left_alone(folder: str) -> None:
    assert resolve(folder) == names.Meaning(folder)


@pytest.mark.parametrize(
    ("typed", "revision"),
    [
        ("https://huggingface.co/Qwen/Qwen3-32B/tree/9216db5", "9216db5"),
        ("https://huggingface.co/Qwen/Qwen3-32B/tree/refs%2Fpr%2F1", "refs/pr/1"),
        ("https://huggingface.co/Qwen/Qwen3-32B/blob/refs/pr/1/config.json", "refs/pr/1"),
        ("hf://Qwen/Qwen3-32B@v2", "v2"),
        ("Qwen/Qwen3-32B@v2", "v2"),
    ],
)
def test_a_revision_is_not_dropped(typed: str, revision: str) -> None:
    error = refusal(typed)
    assert error.message == f"`{typed}` names a revision of `Qwen/Qwen3-32B`"
    assert error.hint == f"start it with `pi start Qwen/Qwen3-32B --name NAME --vllm --revision {revision}`"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("https://huggingface.co/datasets/a/b", "is not the address of a model"),
        ("hf.co/spaces/a/b", "is not the address of a model"),
        ("https://github.com/Qwen/Qwen3-32B", "is not an address of the Hugging Face Hub"),
        ("http://[", "is not an address of the Hugging Face Hub"),
        ("s3://bucket/model", "is not an address of the Hugging Face Hub"),
        ("a/b/c", "is not the id of a model"),
        ("Qwen/Qwen3 33B", "is not the id of a model"),
        ("me/$(reboot)", "is not the id of a model"),
        ("", "is not the id of a model"),
        ("/".join(["a" * 200, "b"]), "is not the id of a model"),
    ],
)
def test_what_is_not_a_model_is_refused_with_an_example(typed: str, said: str) -> None:
    error = refusal(typed)
    assert error.message == f"`{typed}` {said}"
    assert error.hint


def test_a_part_of_a_name_is_offered_and_never_taken(hub: Hub) -> None:
    error = refusal("qwen3-32", hub.url)
    assert error.message == "`qwen3-32` is not the whole name of a model"
    assert error.hint
    assert error.hint.startswith("did you mean `Qwen/Qwen3-32B`")
    assert hub.requests == []


def test_a_name_of_two_owners_is_not_chosen_by_pi() -> None:
    own = paths.config_dir() / "models.md"
    own.parent.mkdir()
    own.write_text(BLOCK.format("me/Qwen3-32B"))
    error = refusal("qwen3-32b")
    assert error.message == "`qwen3-32b` is the name of several models"
    assert error.hint == "choose one of `me/Qwen3-32B` or `Qwen/Qwen3-32B`"


def test_what_the_catalogue_lacks_is_offered_as_the_hub_has_it(hub: Hub) -> None:
    error = refusal("kimi k9", hub.url)
    assert error.message == "the catalogue has no model `kimi k9`, and an id of the Hub has an owner"
    assert error.hint == "did you mean `moonshotai/Kimi-K9` or `someone/kimi-k9-tuned`?"
    assert refusal("gpt2", hub.url).hint == "did you mean `openai-community/gpt2`?"


def test_a_name_that_is_nowhere_says_so(hub: Hub) -> None:
    error = refusal("gpt-os-20b", hub.url)
    assert error.message == "neither the catalogue nor the Hugging Face Hub has a model `gpt-os-20b`"
    assert error.hint
    assert "`openai/gpt-oss-20b`" in error.hint
    assert "`OWNER/NAME`" in str(refusal("xxxxxxxxxxxx", hub.url).hint)


def test_without_the_hub_the_error_says_so_in_one_line_and_offers_what_is_near() -> None:
    error = refusal("gpt-os-20b")
    said = "the catalogue has no model `gpt-os-20b`, and the Hugging Face Hub was not searched: "
    assert error.message.startswith(said)
    assert "\n" not in error.message
    assert error.hint
    assert error.hint.startswith("did you mean `openai/gpt-oss-20b`")
    assert error.hint.endswith("Otherwise write it with its owner, as on the Hub: `OWNER/gpt-os-20b`")


@PROPERTY
@given(st.sampled_from(IDS), st.randoms(use_true_random=False))
def test_every_model_of_the_catalogue_is_found_by_any_spelling_of_its_name(id: str, random: Random) -> None:
    spelt = [random.choice("-_ ") if each in "-_" else random.choice([each.lower(), each]) for each in names.short(id)]
    typed = "".join(spelt)
    assert id in names.called(typed)


@PROPERTY
@given(st.text(max_size=60))
def test_any_text_is_resolved_or_refused(typed: str) -> None:
    with suppress(BadUsage):
        meaning = resolve(typed)
        assert meaning.id == typed or names.ID.fullmatch(meaning.id)
