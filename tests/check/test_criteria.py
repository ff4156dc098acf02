"""Criteria and reports: limits, marks, and the one number to choose by."""

import json
from math import inf, nan

import pytest

from splatdream.check.criteria import Criterion, Report, read_criteria, report

LIMITS = {
    "most": Criterion("a", high=2.0, required=True),
    "least": Criterion("b", low=4.0),
    "between": Criterion("c", low=1.0, high=3.0),
}


def test_limits_are_allowed_and_what_is_beyond_is_not() -> None:
    at = report({"most": 2.0, "least": 4.0, "between": 3.0}, LIMITS)
    assert [each.passed for each in at.findings] == [True, True, True]
    beyond = report({"most": 2.001, "least": 3.999, "between": 0.999}, LIMITS)
    assert [each.passed for each in beyond.findings] == [False, False, False]
    assert [each.name for each in beyond.failures] == ["most"]
    assert len(Report(beyond.findings, strict=True).failures) == 3


def test_a_mark_is_one_at_best_half_at_a_limit_and_falls_beyond() -> None:
    for criterion, best, limit, beyond in (
        (LIMITS["most"], 0.0, 2.0, 4.0),
        (LIMITS["least"], 400.0, 4.0, 1.0),
        (LIMITS["between"], 2.0, 1.0, 0.0),
    ):
        assert criterion.mark(best) == pytest.approx(1.0)
        assert criterion.mark(limit) == pytest.approx(0.5)
        assert criterion.mark(beyond) < 0.5
    assert Criterion("none at all", high=0.0).mark(0.0) == 1.0
    assert Criterion("none at all", high=0.0).mark(1.0) == 0.25


@pytest.mark.parametrize("value", [nan, inf])
def test_no_number_passes_for_a_good_one(value: float) -> None:
    found = report({"most": value}, {"most": LIMITS["most"]})
    assert not found.passed
    assert found.score == 0.0
    assert found.table()["criteria"]["most"]["value"] is None


def test_what_passes_scores_above_what_does_not() -> None:
    bare = report({"most": 2.0, "least": 0.0, "between": 30.0}, LIMITS)
    flawed = report({"most": 2.1, "least": 900.0, "between": 2.0}, LIMITS)
    assert bare.passed
    assert not flawed.passed
    assert 0.5 < bare.score < report({"most": 0.1, "least": 900.0, "between": 2.0}, LIMITS).score < 1.0
    assert flawed.score < 0.5


def test_what_could_not_be_measured_neither_fails_nor_counts() -> None:
    found = report({"most": "there was nothing to measure", "least": 900.0, "between": 2.0}, LIMITS, strict=True)
    assert found.passed
    assert found.score == pytest.approx(1.0, abs=1e-3)
    assert found.table()["criteria"]["most"]["note"] == "there was nothing to measure"


def test_a_criterion_without_its_measure_is_an_error() -> None:
    with pytest.raises(KeyError, match="least"):
        report({"most": 1.0}, LIMITS)


def test_the_table_is_json() -> None:
    table = report({"most": 1.0, "least": 900.0, "between": 2.0}, LIMITS).table()
    assert json.loads(json.dumps(table, allow_nan=False)) == table


def test_reports_add_up() -> None:
    good, bad = (report({"most": value}, {"most": LIMITS["most"]}) for value in (1.0, 3.0))
    assert not (good + bad).passed
    assert len((good + bad).findings) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("splats = [", "holds no criteria"),
        ("[splats]\nfinite = 3", "holds no criteria"),
        ("[splats]\nfinite = { says = 'a', highest = 3 }", "unknown key of a criterion 'highest'.*did you mean 'high'"),
        ("[splats]\nfinite = { says = 'a', low = 3, high = 2 }", "allows nothing"),
        ("[splat]\n", "did you mean 'splat'"),
        ("[splats]\nneedle = { says = 'a', high = 3 }", "unknown criterion of splats 'needle'.*did you mean 'needles'"),
        ("[splats]\nfinite = { says = 'a', high = 'b' }", "holds no criteria: high is 'b', which is no number"),
        ("[splats]\nfinite = { says = 'a', high = true }", "holds no criteria: high is True, which is no number"),
        ("[splats]\nfinite = { says = 1, high = 2 }", "holds no criteria: says is 1, which is no text"),
        ("[splats]\nfinite = { says = 'a', required = 'no' }", "required is 'no', which is no true or false"),
    ],
)
def test_a_file_without_criteria_is_refused(text, message, tmp_path) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_criteria("splats", tmp_path / "own.toml")
