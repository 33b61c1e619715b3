"""Which models on which pods stand behind a gateway."""

from pi_cli.gateway.replicas import Member, Members, Wanted, why_left_out
from pi_cli.models import identity
from pi_cli.pods.reports import RunningModel
from pi_cli.store.keys import ApiKey
from pi_cli.store.records import Model, Pod

KEY = ApiKey("a-key-of-many-letters")


def running(
    name: str = "q", *, model: str = "Qwen/Qwen3-8B", uid: str | None = "u1", key: str = KEY.value
) -> RunningModel:
    proofs = frozenset({identity.proof_key(key, uid)}) if uid else frozenset()
    return RunningModel(name, uid, model, 8001, "0", 7, None, False, "ready", listens=True, proof_keys=proofs)


def members(*each: Member) -> Members:
    return Members({(member.pod, member.name): member for member in each})


def member(pod: str, name: str = "q", *, is_up: bool = True, was_up: bool = True) -> Member:
    return Member(pod, name, f"http://{pod}", "Qwen/Qwen3-8B", 4096, is_up, was_up)


def test_replicas_that_are_up_are_workers() -> None:
    found = members(member("dc1"), member("dc2", is_up=False), member("dc3", "r")).workers()
    assert found == {"dc1/q": "http://dc1", "dc3/r": "http://dc3"}


def test_the_last_replicas_of_a_name_stay_so_that_clients_try_again() -> None:
    found = members(member("dc1", is_up=False), member("dc2", is_up=False), member("dc3", is_up=False, was_up=False))
    assert set(found.workers()) == {"dc1/q", "dc2/q"}


def test_what_is_left_out_is_not_a_worker_whatever_it_was() -> None:
    out = member("dc1", is_up=False)
    out.left_out = "it does not accept the key"
    assert members(out).workers() == {}


def test_a_replica_has_another_one_only_while_that_is_up() -> None:
    first, other, down = member("dc1"), member("dc2", "r"), member("dc3", is_up=False)
    found = members(first, other, down)
    assert (found.has_other(first), found.has_other(down)) == (False, True)


def test_only_a_model_that_proves_to_know_the_key_gets_requests() -> None:
    assert why_left_out(running(), KEY, None) is None
    assert why_left_out(running(key="another-key"), KEY, None) == "it does not accept the key in PI_API_KEY"
    by_hand = why_left_out(running(uid=None), KEY, None)
    assert by_hand == "pi did not start it with its guard, so it cannot prove that it knows the key"


def test_a_name_means_one_model() -> None:
    other = why_left_out(running(model="Qwen/Qwen3-32B"), KEY, member("dc1"))
    assert other == "it serves `Qwen/Qwen3-32B`, and `q` on `dc1` serves `Qwen/Qwen3-8B`"
    assert why_left_out(running(), KEY, member("dc1")) is None


def test_with_all_every_model_of_the_pods_is_wanted() -> None:
    pods = {"dc1": Pod("ssh a", models={"q": Model("m", 8001, "0", 1)}), "dc2": Pod("ssh b")}
    every, some = Wanted(pods, is_all=True), Wanted(pods, frozenset({("dc2", "r")}))
    assert (every.known("dc1"), some.known("dc1"), some.known("dc2")) == (["q"], [], ["r"])
    assert every.has("dc2", "new")
    assert not every.has("dc3", "new")
    assert some.has("dc2", "r")
    assert not some.has("dc1", "r")


def test_a_name_without_a_pod_is_wanted_wherever_it_is_started_later() -> None:
    q = {"q": Model("m", 8001, "0", 1)}
    dc1, dc2 = Pod("ssh a", models=q), Pod("ssh b")
    wanted = Wanted({"dc1": dc1}, frozenset({("dc1", "q")}), names=frozenset({"q"}))
    assert wanted.after({"dc1": dc1, "dc2": dc2}).places == {("dc1", "q")}
    later = wanted.after({"dc1": Pod("ssh a"), "dc2": Pod("ssh b", models=q)})
    assert later.places == {("dc1", "q"), ("dc2", "q")}, "one that was stopped may come back"
    assert list(later.after({"far": dc1, "dc2": dc2}, {"dc1": "far"}).pods) == ["dc2", "far"]
    assert list(later.after({"dc2": dc2}).pods) == ["dc2"]
    gateway = Pod("ssh c", models={"q": Model("smg", 8001, "", 1, extra={"kind": "gateway"})})
    assert ("dc3", "q") not in later.after({"dc3": gateway}).places


def test_with_all_new_pods_are_wanted_unless_pods_were_chosen() -> None:
    pods = {"dc1": Pod("ssh a"), "dc2": Pod("ssh b")}
    assert list(Wanted({"dc1": pods["dc1"]}, is_all=True).after(pods).pods) == ["dc1", "dc2"]
    chosen = Wanted({"dc1": pods["dc1"]}, is_all=True, within=frozenset({"dc1"}))
    assert list(chosen.after(pods).pods) == ["dc1"]
    assert list(chosen.after({"far": pods["dc1"], "dc2": pods["dc2"]}, {"dc1": "far"}).pods) == ["far"]


def test_a_replica_that_is_about_to_be_stopped_gets_nothing_new_if_another_one_can_take_it() -> None:
    leaving, other = member("dc1"), member("dc2")
    leaving.is_leaving = True
    assert set(members(leaving, other).workers()) == {"dc2/q"}
    assert set(members(leaving).workers()) == {"dc1/q"}
    other.is_up = False
    assert set(members(leaving, other).workers()) == {"dc1/q"}
