"""What a pod costs: local estimates, from the user's price and times in `pods.json`."""

from datetime import UTC, datetime, timedelta

import pytest

from pi_cli.errors import BadUsage
from pi_cli.store import costs, quantities
from pi_cli.store.records import Malformed, Model, Pod, Price, read_pod, write_pod


def ago(hours: float) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours, seconds=5)).isoformat(timespec="seconds")


def pod(**times: float) -> Pod:
    made = Pod("ssh h", price=Price(2.49, "$"))
    for name, hours in times.items():
        setattr(made, name, ago(hours))
    return made


def test_price_hours_and_sum_are_shown_as_an_estimate() -> None:
    assert costs.describe(pod(since=31)) == "$2.49/h, 31 h, ≈ $77 since setup"
    assert costs.describe(pod(since=0.5)) == "$2.49/h, 30 min, ≈ $1.25 since setup"
    assert costs.describe(pod(since=500)) == "$2.49/h, 20 d, ≈ $1,245 since setup"
    assert costs.as_json(pod(since=31))["estimate"] == pytest.approx(77.19, abs=0.1)


def test_without_a_price_nothing_is_shown() -> None:
    without = Pod("ssh h", since=ago(31), quiet_since=ago(5), asked=ago(0))
    assert (costs.describe(without), costs.up(without), costs.estimate(without)) == (None, None, None)
    assert costs.lines({"dc1": without}) == []
    assert not costs.has_news(without, costs.after_look(without, [3.0]))


def test_a_pod_without_a_request_for_an_hour_is_named_with_what_that_cost() -> None:
    assert costs.quiet(pod(quiet_since=0.9, asked=0)) is None
    assert costs.quiet(pod(quiet_since=5, asked=0)) == "no request for 5 h, ≈ $12"
    assert costs.quiet(pod(quiet_since=8, asked=3)) == "no request for 5 h, ≈ $12, when pi last asked, 3 h ago"
    assert costs.quiet(pod(quiet_since=8, asked=7.5)) is None, "what happened since then is not known"


def test_one_model_in_use_or_of_unknown_use_makes_the_pod_not_quiet() -> None:
    used, unknown, quiet = (costs.after_look(pod(), idle) for idle in ([9e3, 3.0], [9e3, None], [9e3, 1e300]))
    assert [costs.quiet(each) for each in (used, unknown)] == [None, None]
    assert costs.quiet(quiet) == "no request for 2 h, ≈ $6.23"


def test_a_pod_without_models_is_quiet_since_the_last_request_or_since_its_models_are_gone() -> None:
    empty = pod(quiet_since=4)
    assert costs.quiet(costs.after_look(empty, [])) == "no request for 4 h, ≈ $9.96"
    empty.models["q"] = Model("m", 8001, "0", 1)  # at the last look
    assert costs.quiet(costs.after_look(empty, [])) is None


def test_a_look_is_written_down_if_it_changes_what_is_shown() -> None:
    before = pod(quiet_since=4, asked=0)
    assert not costs.has_news(before, costs.after_look(before, [4 * 3600.0]))
    assert costs.has_news(before, costs.after_look(before, [1.0]))
    assert costs.has_news(before, costs.after_look(before, [None]))
    assert costs.has_news(pod(quiet_since=4, asked=1), costs.after_look(before, [4 * 3600.0]))


def test_times_and_prices_survive_the_file_and_wrong_ones_are_refused() -> None:
    before = pod(since=31, quiet_since=2, asked=1)
    assert read_pod(write_pod(before), "pods.dc1") == before
    for wrong in ({"price": 0}, {"price": "2"}, {"price": True}, {"since": "yesterday"}, {"asked": "2026-01-31T13:30"}):
        with pytest.raises(Malformed):
            read_pod({"ssh": "ssh h"} | wrong, "pods.dc1")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2.49", "$2.49"), ("$2.49", "$2.49"), ("2.49$", "$2.49"), ("2,49 €", "€2.49"), ("€2,49", "€2.49"),
        ("£1.10/h", "£1.10"), ("2.49/h", "$2.49"), ("2.49/hr", "$2.49"), ("$2.49 per hour", "$2.49"),
        ("2.49 EUR", "2.49 EUR"), ("eur 2.49/h", "2.49 EUR"), ("US$2.49", "US$2.49"), ("₹180", "₹180.00"),
        ("0.389", "$0.389"), ("0,389 €/h", "€0.389"), (".5", "$0.50"), ("1,234.50", "$1,234.50"),
        ("1.234,50 €", "€1,234.50"), ("12 kr", "12.00 KR"), ("  3 ", "$3.00"),
    ],
)  # fmt: skip
def test_a_price_is_read_with_any_currency_sign_before_or_after_it(text: str, shown: str) -> None:
    assert str(quantities.price(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "", "cheap", "$", "-2", "2.49.1", "0", "$0.00", "2.49 $ €", "€2.49$", "2.49/day", "60/month", "1e3", "nan",
        "inf", "1,234", "2 49 x y", "9999999999", "\x1b[31m2", "2..5", "2,,5", "2.49 hours", "2.49!",
    ],
)  # fmt: skip
def test_nonsense_is_refused_in_words(text: str) -> None:
    with pytest.raises(BadUsage, match=r"price|may be") as error:
        quantities.price(text)
    assert error.value.hint


def test_none_forgets_the_price() -> None:
    assert quantities.price("none") is None
