"""Numbers of a rule that pass from one value to another over the run."""

from copy import deepcopy
from dataclasses import dataclass, replace

import pytest
import torch
from exact import FinitePrior

from splatdream.cameras import orbit
from splatdream.catalog import configured
from splatdream.contracts import Distiller, View
from splatdream.distill.annealed import Annealed
from splatdream.distill.sdedit import SDEdit
from splatdream.distill.sds import SDS

GENERATOR = torch.Generator()


def view_of(prior: FinitePrior, progress: float) -> View:
    cameras = orbit(2, 8)
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(2, 3, 8, 8, generator=generator) for _ in range(2))
    condition = prior.condition("", "", cameras)
    images = torch.zeros(2, 8, 8, 3)
    return View(latents, noise, torch.tensor([300, 700]), condition, cameras, torch.zeros(2, 3), images, progress)


@pytest.fixture
def prior() -> FinitePrior:
    asked, empty = (torch.rand(4, 8, 8, 3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    return FinitePrior(
        lambda cameras: asked.expand(len(cameras), -1, -1, -1, -1),
        8,
        lambda cameras: empty.expand(len(cameras), -1, -1, -1, -1),
    )


@pytest.mark.parametrize(("progress", "scale"), [(0.0, 15.0), (0.4, 12.0), (1.0, 7.5)])
def test_guidance_passes_evenly_from_its_first_to_its_last_scale(prior, progress, scale) -> None:
    rule = configured("distiller", "sds:weighting=uniform,guidance_scale=15..7.5")
    assert rule == Annealed(SDS(15.0, "uniform"), SDS(7.5, "uniform"))
    assert isinstance(rule, Distiller)
    view = view_of(prior, progress)
    ours, _ = rule(view, prior, rule.init(prior, GENERATOR), GENERATOR)
    theirs, _ = SDS(scale, "uniform")(view, prior, None, GENERATOR)
    assert ours.latents is not None
    assert theirs.latents is not None
    torch.testing.assert_close(ours.latents, theirs.latents)


def test_every_rule_takes_it_and_one_number_stays_one_number() -> None:
    assert configured("distiller", "sdedit:steps=2,guidance_scale=5..3") == Annealed(SDEdit(5.0, 2), SDEdit(3.0, 2))
    assert configured("distiller", "sds:guidance_scale=9") == SDS(9.0)


def test_an_annealed_rule_says_of_itself_what_its_first_rule_says() -> None:
    @dataclass(frozen=True)
    class Talking(SDS):
        words: str = "blurry"

    rule = Annealed(Talking(3.0), Talking(5.0))
    assert rule.words == "blurry"
    assert not rule.needs_negative_prompt
    assert deepcopy(rule) == rule
    assert replace(rule, last=Talking(3.0)).at(0.5) == Talking(3.0)


@pytest.mark.parametrize(("ends", "needed"), [("1..0.5", True), ("0..1", True), ("1..1", False)])
def test_a_negative_prompt_that_either_end_needs_is_needed(ends, needed) -> None:
    assert configured("distiller", f"csd:negative_weight={ends}").needs_negative_prompt == needed


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sds:guidance_scale=15..", "sds:guidance_scale is a float"),
        ("sds:guidance_scale=1..2..3", "sds:guidance_scale is a float"),
        ("sds:guidance_scale=1..nan", "sds:guidance_scale is a float"),
        ("sdedit:steps=1..4", "sdedit:steps is a int"),
    ],
)
def test_what_is_no_schedule_is_refused_in_one_sentence(spec, message) -> None:
    with pytest.raises(ValueError, match=message):
        configured("distiller", spec)


def test_rules_that_do_not_meet_are_refused() -> None:
    with pytest.raises(ValueError, match="another kind of rule"):
        Annealed(SDS(), SDEdit())
    with pytest.raises(ValueError, match="weighting is no number"):
        Annealed(SDS(weighting="sds"), SDS(weighting="uniform"))
    with pytest.raises(ValueError, match="mcmc:noise is a float"):
        configured("densifier", "mcmc:noise=1..2")
