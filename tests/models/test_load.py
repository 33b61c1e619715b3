"""Rates of models from the counters of two looks."""

import math
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pi_cli.errors import PodUnreachable
from pi_cli.models.load import KEPT, RECENT, Loads, Work
from pi_cli.pods.reports import DeadModel, GpuLoad, Metrics, RunningModel, Survey
from pi_cli.store.records import Model, Pod
from tests.properties import PROPERTY

START = Metrics(
    at=1000.0, running=1, waiting=0, prompt_tokens=100, generation_tokens=1000, kv_cache=0.5, first_token_seconds=2.0,
    first_tokens=4,
)  # fmt: skip


def after(seconds: float, before: Metrics = START, **more: float) -> Metrics:
    """Return the metrics so many seconds later, with counters that have grown."""
    grown = {name: getattr(before, name) + number for name, number in more.items()}
    return replace(before, at=before.at + seconds, **grown)


def work(*samples: Metrics) -> Work:
    done = Work()
    for sample in samples:
        done.add(sample)
    return done


def test_rates_are_the_difference_of_two_looks_by_the_pods_own_clock() -> None:
    done = work(START, after(2, prompt_tokens=300, generation_tokens=50, first_tokens=2, first_token_seconds=0.5))
    assert (done.tokens_in, done.tokens_out, done.first_token) == (150, 25, 0.25)
    assert done.curve == ((0, 25),)


def test_the_first_look_shows_no_rates() -> None:
    done = work(START)
    assert (done.tokens_in, done.tokens_out, done.first_token, done.curve) == (None, None, None, ())


def test_counters_that_fall_were_reset_and_give_no_negative_rate() -> None:
    restarted = replace(START, at=START.at + 2, prompt_tokens=5, generation_tokens=5, first_tokens=0)
    done = work(START, restarted)
    assert (done.tokens_in, done.tokens_out) == (None, None)
    done.add(after(1, restarted, generation_tokens=7))
    assert done.tokens_out == 7


def test_two_samples_of_the_same_moment_give_no_rate() -> None:
    assert work(START, after(0, generation_tokens=5)).tokens_out is None


def test_the_time_to_the_first_token_is_that_of_the_last_minute() -> None:
    slow = after(1, first_tokens=1, first_token_seconds=100)
    done = work(START, slow, after(RECENT + 1, slow), after(RECENT + 2, slow, first_tokens=2, first_token_seconds=1))
    assert done.first_token == 0.5


def test_a_metric_that_a_vllm_does_not_report_is_unknown_and_no_error() -> None:
    bare = replace(START, prompt_tokens=None, first_tokens=None)
    done = work(bare, after(1, bare, generation_tokens=3))
    assert (done.tokens_in, done.tokens_out, done.first_token) == (None, 3, None)


NUMBERS = st.one_of(st.none(), st.floats(0, 2**53), st.integers(0, 9).map(float))
SAMPLES = st.builds(
    Metrics, at=st.floats(0, 2**53), running=NUMBERS, waiting=NUMBERS, prompt_tokens=NUMBERS,
    generation_tokens=NUMBERS, kv_cache=NUMBERS, first_token_seconds=NUMBERS, first_tokens=NUMBERS,
)  # fmt: skip


@PROPERTY
@given(st.lists(SAMPLES, max_size=12))
def test_whatever_a_pod_says_no_rate_is_negative_and_the_curve_is_bounded(samples: list[Metrics]) -> None:
    done = Work()
    for sample in samples:
        done.add(sample)
        for rate in (done.tokens_in, done.tokens_out, done.first_token):
            assert rate is None or rate >= 0
        assert all(0 <= ago <= KEPT and rate >= 0 and not math.isnan(rate) for ago, rate in done.curve)


def survey(*models: RunningModel, **changes: Any) -> Survey:
    return replace(Survey(list(models), [], [], {}, None, gpus=[GpuLoad(0, "NVIDIA L4")]), **changes)


def running(name: str = "q", uid: str = "a", metrics: Metrics | None = START) -> RunningModel:
    return RunningModel(name, uid, "Qwen/Qwen3-8B", 8001, "0", 7, None, False, "ready", metrics=metrics)


def loads() -> Loads:
    return Loads({"dc1": Pod("ssh root@h", models={"old": Model("m", 8001, "0", 7)})})


def test_a_model_that_was_started_again_under_its_name_has_no_rate_across_both() -> None:
    both = loads()
    both.see("dc1", survey(running(uid="a")))
    both.see("dc1", survey(running(uid="b", metrics=after(1, generation_tokens=9))))
    [model] = both.pods["dc1"].models
    assert model.tokens_out is None


def test_a_pod_that_is_lost_keeps_its_rows_without_figures_and_since_when() -> None:
    seen = loads()
    seen.see("dc1", survey(running()))
    seen.lost("dc1", PodUnreachable("dc1", "gone"))
    pod = seen.pods["dc1"]
    assert [(model.name, model.status, model.running) for model in pod.models] == [("q", "unreachable", None)]
    seen.lost("dc1", PodUnreachable("dc1", "still gone"))
    assert seen.pods["dc1"].down_since == pod.down_since
    seen.see("dc1", survey(running()))
    assert (seen.pods["dc1"].error, seen.pods["dc1"].down_since) == (None, None)


def test_a_pod_that_never_answered_shows_what_pi_remembers() -> None:
    never = loads()
    never.lost("dc1", PodUnreachable("dc1", "gone"))
    assert [(model.name, model.status) for model in never.pods["dc1"].models] == [("old", "unreachable")]


def test_a_model_that_died_is_shown_until_its_record_is_gone() -> None:
    seen = loads()
    dead = DeadModel("q", "/root/q.log", was_recorded=True, was_rebooted=False, log_end="")
    seen.see("dc1", survey(dead=[dead, replace(dead, name="stopped-elsewhere", was_recorded=False)]))
    assert [(model.name, model.status) for model in seen.pods["dc1"].models] == [("q", "dead")]
