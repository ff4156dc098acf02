"""Words for views: thresholds, and Perp-Neg's published weights as tables."""

from math import exp, pi, radians

import pytest
import torch
from tiny import tiny_prior_folder

from splatdream.cameras import orbit
from splatdream.catalog import configured
from splatdream.guidance import guided
from splatdream.priors.diffusion import DiffusionPrior
from splatdream.priors.view_words import Named, NoWords, PerpNeg, PerpNegThreestudio

AZIMUTHS = (0, 9, 45, 81, 90, 99, 135, 171, 180)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_prior_folder(tmp_path_factory.mktemp("prior"))


def weights(words, azimuth: float) -> tuple[float, float]:
    """Of front and side."""
    negatives = words(radians(azimuth), 0.0).negatives
    return negatives["front"], negatives["side"]


def test_thresholds_move_the_borders_between_the_words() -> None:
    words = configured("view_words", "named:front=30,back=60,overhead=45")
    for azimuth, elevation, word in (
        (29, 0, "front"), (31, 0, "side"), (-119, 0, "side"), (121, 0, "back"), (0, 44, "front"), (0, 46, "overhead"),
    ):  # fmt: skip
        assert words(radians(azimuth), radians(elevation)).shares == {word: 1.0}


def test_the_authors_weights_are_those_of_stable_dreamfusion() -> None:
    """negative_w -2, front_decay_factor 2, side_decay_factor 10; nothing near the view that is named."""
    expected = {
        0: (0.0, -2.0),  # r = 1: exp(-10 * 0)
        9: (0.0, -2 * exp(-10 * 0.1)),
        45: (-2 * exp(-2 * 0.5), -2 * exp(-10 * 0.5)),
        81: (-2 * exp(-2 * 0.1), 0.0),
        90: (-2.0, 0.0),
        99: (-2.0, 0.0),  # r = 0.9
        135: (-2.0, -1 * exp(-10 * 0.5)),
        171: (-2.0, -1 * exp(-10 * 0.1)),
        180: (-2.0, -1.0),
    }
    for azimuth in AZIMUTHS:
        assert weights(PerpNeg(), azimuth) == pytest.approx(expected[azimuth]), azimuth
        assert weights(PerpNeg(), -azimuth) == pytest.approx(expected[azimuth]), -azimuth


def test_threestudios_weights_are_shifted_exponentials() -> None:
    expected = {
        0: (-(4 * exp(-0.5) - 2.426), -(4 - 2.426)),
        9: (-(4 * exp(-0.45) - 2.426), -(4 * exp(-0.05) - 2.426)),
        45: (-(4 * exp(-0.25) - 2.426), -(4 * exp(-0.25) - 2.426)),
        81: (-(4 * exp(-0.05) - 2.426), -(4 * exp(-0.45) - 2.426)),
        90: (-(exp(-0.5) + 0.967), -(exp(-0.5) - 0.606)),
        99: (-(exp(-0.45) + 0.967), -(exp(-0.45) - 0.606)),
        135: (-(exp(-0.25) + 0.967), -(exp(-0.25) - 0.606)),
        171: (-(exp(-0.05) + 0.967), -(exp(-0.05) - 0.606)),
        180: (-1.967, -0.394),
    }
    for azimuth in AZIMUTHS:
        assert weights(PerpNegThreestudio(), azimuth) == pytest.approx(expected[azimuth]), azimuth
        assert weights(PerpNegThreestudio(), 360 - azimuth) == pytest.approx(expected[azimuth]), azimuth


@pytest.mark.parametrize("words", [PerpNeg(), PerpNegThreestudio()])
def test_mixtures_go_from_front_to_side_to_back_without_a_step(words) -> None:
    for azimuth, shares in (
        (0, {"front": 1, "side": 0}), (45, {"front": 0.5, "side": 0.5}), (90, {"side": 1, "back": 0}),
        (135, {"side": 0.5, "back": 0.5}), (180, {"side": 0, "back": 1}), (270, {"side": 1, "back": 0}),
    ):  # fmt: skip
        assert words(radians(azimuth), 0.0).shares == pytest.approx(shares, abs=1e-12)
    before, after = weights(words, 89.999), weights(words, 90.001)
    # threestudio's coefficients have three decimals, which is how well its two halves meet.
    assert before == pytest.approx(after, abs=2e-3)


@pytest.mark.parametrize("words", [PerpNeg(), PerpNegThreestudio()])
def test_weights_only_ever_turn_away_and_views_from_above_are_named(words) -> None:
    assert all(weight <= 0.0 for azimuth in range(360) for weight in weights(words, azimuth))
    above = words(0.3, radians(61))
    assert (above.shares, above.negatives) == ({"overhead": 1.0}, {})


def test_perp_neg_reaches_the_prior_as_mixtures_and_weighted_words(folder) -> None:
    prior = DiffusionPrior.load(folder, view_words=PerpNeg())
    azimuths = [0.0, pi / 4, pi / 2, pi]
    cameras = orbit(8, 32)[[0, 1, 2, 4]]
    condition = prior.condition("a red mug", "blurry", cameras)
    front, side = (prior.embed(f"a red mug, {word} view").tokens for word in ("front", "side"))
    torch.testing.assert_close(condition.cond.tokens[1:2], 0.5 * front + 0.5 * side)
    assert len(condition.negatives) == 2
    for negative, word in zip(condition.negatives, ("front", "side"), strict=True):
        torch.testing.assert_close(
            negative.embedding.tokens, prior.embed(f"a red mug, {word} view").tokens.expand(4, -1, -1)
        )
        expected = [PerpNeg()(azimuth, radians(15)).negatives[word] for azimuth in azimuths]
        assert negative.weights.tolist() == pytest.approx(expected, rel=1e-4)
    single = prior.condition("a red mug", "blurry", cameras[3])
    latents = torch.randn(4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([100, 300, 500, 700])
    together = guided(prior, latents, times, condition, 7.5).value
    alone = guided(prior, latents[3:], times[3:], single, 7.5).value
    torch.testing.assert_close(together[3:], alone, atol=1e-4, rtol=1e-4)


def test_views_that_are_only_named_have_no_negatives(folder) -> None:
    cameras = orbit(4, 32)
    for words, text in ((Named(), "a red mug, front view"), (NoWords(), "a red mug")):
        prior = DiffusionPrior.load(folder, view_words=words)
        condition = prior.condition("a red mug", "", cameras)
        assert condition.negatives == ()
        assert torch.equal(condition.cond.tokens[:1], prior.embed(text).tokens)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nmaed", "did you mean 'named'"),
        ("named:front=100,back=90", "at most 180 degrees together"),
        ("named:front=-1", "at least 0"),
        ("named:overhead=91", r"overhead within -90\.\.90"),
        ("perp-neg:weight=1", r"weight within -1000\.\.0"),
        ("perp-neg:weight=-inf", r"weight within -1000\.\.0"),
        ("perp-neg:front_decay=inf", "decays of at least 0"),
        ("perp-neg:side_decay=-1", "decays of at least 0"),
        ("perp-neg-threestudio:fs=1..2", "perp-neg-threestudio:fs is"),
        ("perp-neg-threestudio:fs=nan", "fs of perp-neg-threestudio needs"),
        ("perp-neg-threestudio:sb=1..-9999..0", "sb of perp-neg-threestudio needs"),
        ("perp-neg-threestudio:fsb=-4..0.5..2", "fsb of perp-neg-threestudio needs"),
        ("none:front=3", "unknown option of none 'front'"),
    ],
)
def test_what_is_no_wording_is_refused_in_one_sentence(spec, message) -> None:
    with pytest.raises(ValueError, match=message):
        configured("view_words", spec)
