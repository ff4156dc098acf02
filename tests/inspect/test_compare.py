"""Metrics on pictures whose scores are known."""

import pytest
import torch

from splatdream.inspect.compare import colour_error, comparison, lab, psnr, silhouette_iou


def square(offset: int = 0) -> torch.Tensor:
    alphas = torch.zeros(1, 16, 16, 1)
    alphas[:, 4:12, 4 + offset : 12 + offset] = 1.0
    return alphas


def test_iou_of_half_overlapping_squares_is_one_third() -> None:
    assert silhouette_iou(square(), square(4)) == pytest.approx(1 / 3)
    assert silhouette_iou(torch.zeros(1, 4, 4, 1), torch.zeros(1, 4, 4, 1)) == 1.0


def test_psnr_of_a_constant_error_is_its_logarithm() -> None:
    grey = torch.full((1, 8, 8, 3), 0.5)
    everywhere = torch.ones(1, 8, 8, 1, dtype=torch.bool)
    assert psnr(grey + 0.1, grey, everywhere) == pytest.approx(20.0, abs=1e-3)


def test_lab_has_its_known_corners() -> None:
    corners = lab(torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    expected = torch.tensor([[100.0, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]])
    torch.testing.assert_close(corners, expected, atol=0.05, rtol=0)


def test_the_truth_itself_scores_perfectly_and_grey_scores_unsaturated() -> None:
    alphas = square()
    red = alphas * torch.tensor([0.9, 0.1, 0.1])
    same = comparison(red, alphas, red, alphas)
    assert same["iou"] == 1.0
    assert same["psnr"] == 60.0
    assert same["saturation"] == pytest.approx(1.0)
    assert same["sharpness"] == pytest.approx(1.0)
    grey = comparison(0.4 * alphas.expand_as(red), alphas, red, alphas)
    assert grey["saturation"] == pytest.approx(0.0, abs=1e-6)
    assert grey["colour_error"] > 30


def test_colour_error_is_only_asked_where_both_objects_are() -> None:
    nowhere = torch.zeros(1, 4, 4, 1, dtype=torch.bool)
    assert colour_error(torch.zeros(1, 4, 4, 3), torch.ones(1, 4, 4, 3), nowhere) == 100.0
