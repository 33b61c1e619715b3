"""The Hub stand-in against huggingface_hub's own Python client, for what pi asks with it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from tests.lab import weights
from tests.lab.hub import Hub

TINY = Path(__file__).parents[1] / "lab/tiny-model"


@pytest.fixture
def hub() -> Iterator[Hub]:
    weights.require()
    with Hub({"tiny/qwen3-chat": TINY, "tiny/gated": TINY}, gated={"tiny/gated": "hf_good"}) as hub:
        hub.add_synthetic("big/model", {"config.json": b"{}", "model.safetensors": 12_000_000})
        yield hub


def test_the_hub_describes_a_model_as_the_client_reads_it(hub: Hub) -> None:
    api = HfApi(endpoint=hub.url, token=False)
    about = api.model_info("tiny/qwen3-chat", files_metadata=True, securityStatus=True)
    assert (about.id, about.sha, about.gated) == ("tiny/qwen3-chat", hub.commit("tiny/qwen3-chat"), False)
    assert about.safetensors is not None
    assert about.safetensors.parameters == {"F32": 455168}
    files = {file.rfilename: file for file in about.siblings or []}
    largest = files["model.safetensors"]
    assert largest.size == (TINY / "model.safetensors").stat().st_size
    assert largest.lfs is not None
    assert (largest.lfs.size, files["config.json"].lfs) == (largest.size, None)
    assert about.security_repo_status == {"scansDone": True, "filesWithIssues": []}
    assert api.model_info("tiny/gated").gated == "manual"


def test_the_hub_describes_only_what_is_asked_for(hub: Hub) -> None:
    about = HfApi(endpoint=hub.url, token=False).model_info("tiny/qwen3-chat", expand=["safetensors", "gated"])
    assert about.safetensors is not None
    assert (about.safetensors.total, about.sha, about.siblings) == (455168, None, None)


def test_the_client_reads_safetensors_headers(hub: Hub) -> None:
    found = HfApi(endpoint=hub.url, token=False).get_safetensors_metadata("tiny/qwen3-chat")
    assert found.parameter_count == {"F32": 455168}
    assert hub.bytes_sent < 200_000


def test_the_hub_says_whether_a_token_has_access(hub: Hub) -> None:
    hub.revoked.add("hf_old")
    HfApi(endpoint=hub.url, token="hf_good").auth_check("tiny/gated")
    HfApi(endpoint=hub.url, token=False).auth_check("tiny/qwen3-chat")
    for token, model, kind, status in (
        (False, "tiny/gated", GatedRepoError, 401),
        ("hf_other", "tiny/gated", GatedRepoError, 403),
        (False, "no/such", RepositoryNotFoundError, 401),
        ("hf_good", "no/such", RepositoryNotFoundError, 404),
        ("hf_old", "tiny/qwen3-chat", HfHubHTTPError, 401),
    ):
        with pytest.raises(HfHubHTTPError) as caught:
            HfApi(endpoint=hub.url, token=token).auth_check(model)
        assert (type(caught.value), caught.value.response.status_code) == (kind, status)


def test_a_mirror_cannot_be_asked_whether_a_token_has_access(hub: Hub) -> None:
    hub.is_mirror = True
    with pytest.raises(HfHubHTTPError, match="404 Not Found"):
        HfApi(endpoint=hub.url, token="hf_good").auth_check("tiny/gated")
    with pytest.raises(GatedRepoError):
        HfApi(endpoint=hub.url, token=False).get_safetensors_metadata("tiny/gated")


def test_models_are_found_by_author_and_by_name(hub: Hub) -> None:
    api = HfApi(endpoint=hub.url, token=False)
    assert [found.id for found in api.list_models(author="tiny")] == ["tiny/gated", "tiny/qwen3-chat"]
    assert [found.id for found in api.list_models(search="QWEN3")] == ["tiny/qwen3-chat"]
    assert [found.id for found in api.list_models(limit=1)] == ["big/model"]
    assert list(api.list_models(author="nobody")) == []


def test_a_renamed_model_is_found_under_its_old_name(hub: Hub) -> None:
    hub.renamed["old/name"] = "tiny/qwen3-chat"
    assert HfApi(endpoint=hub.url, token=False).model_info("old/name").id == "tiny/qwen3-chat"


@pytest.mark.parametrize(
    ("status", "words"), [(503, "503 Service Unavailable"), (429, "you have reached your 'api' rate limit")]
)
def test_a_hub_that_fails_does_so_for_everybody(hub: Hub, status: int, words: str) -> None:
    hub.failing = status
    with pytest.raises(HfHubHTTPError, match=words):
        HfApi(endpoint=hub.url, token=False).model_info("tiny/qwen3-chat")
    hub.failing = None
    assert HfApi(endpoint=hub.url, token=False).model_info("tiny/qwen3-chat")
