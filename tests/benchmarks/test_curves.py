"""Curves of time over Gaussians, pixels and views."""

import math

import _curves
import pytest


def test_the_slope_of_a_power_law_is_its_exponent() -> None:
    numbers = (1, 10, 100)
    assert _curves.slope(numbers, [3.0 * n**0.7 for n in numbers]) == pytest.approx(0.7)


def test_a_point_is_measured_in_a_process_of_its_own(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # kernels as plain Python: slow, but nothing is compiled
    row = _curves.measured(1, tmp_path, count=3, size=16, views=1)
    assert row["total"] == pytest.approx(row["forward"] + row["backward"])
    assert row["first"] > 0
    assert math.isnan(row["megabytes"]) or row["megabytes"] >= row["before"] > 0


def test_the_slope_of_size_is_told_in_pixels(monkeypatch, tmp_path) -> None:
    def point(repeats, cache, *, renderer, count=1, size=1, views=1) -> dict[str, float]:
        cost = float(count * size * size * views)
        return {"forward": cost, "backward": 2 * cost**0.5, "total": 3 * cost, "megabytes": 1.0}

    monkeypatch.setattr(_curves, "measured", point)
    for axes in _curves.curves(1, tmp_path).values():
        assert list(axes) == list(_curves.AXES)
        for curve in axes.values():
            assert curve["slopes"] == pytest.approx({"forward": 1.0, "backward": 0.5})
        assert "1,000,000 count" in _curves.table({"cpu": axes})
