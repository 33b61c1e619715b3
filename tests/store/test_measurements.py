"""`measured.json`: what starts have told about memory."""

import os
from pathlib import Path

from pi_cli.store import measurements
from pi_cli.store.measurements import Measurement

FIRST = Measurement("Maker/M", "H100", 1, 1, "0.32.0", 66.0, 5.9, 24_000, 6.3, 25_800)


def path() -> Path:
    return Path(os.environ["PI_CONFIG_DIR"], "measured.json")


def test_a_measurement_is_found_again_in_any_spelling_of_the_model() -> None:
    measurements.add(FIRST)
    assert measurements.load("maker/m") == [FIRST]
    assert measurements.load("other/m") == []
    assert path().stat().st_mode & 0o777 == 0o600


def test_the_same_on_the_same_gpus_and_version_is_replaced_and_another_kept_beside_it() -> None:
    measurements.add(FIRST)
    again = Measurement("Maker/M", "H100", 1, 1, "0.32.0", 67.0, 4.9, 20_000)
    newer = Measurement("Maker/M", "H100", 1, 1, "0.33.0", 65.0, 6.9, 28_000)
    measurements.add(newer)
    measurements.add(again)
    assert measurements.load() == [newer, again]


def test_how_far_a_prediction_was_off_is_a_share_of_what_was_real() -> None:
    assert FIRST.error == 25_800 / 24_000 - 1
    assert Measurement("m", "H100", 1, 1, "", 1.0, 1.0, 100).error is None


def test_a_file_that_makes_no_sense_holds_nothing_and_a_newer_ones_rows_are_read() -> None:
    for text in ("{", "[1, {}]", '{"a": 1}', '[{"model": 1}]'):
        path().parent.mkdir(exist_ok=True)
        path().write_text(text)
        assert measurements.load() == []
    measurements.add(FIRST)
    path().write_text(path().read_text().replace('"gpu"', '"new_field": 1,\n  "gpu"'))
    assert measurements.load() == [FIRST]
