"""What rules refuse, before the first step, and what is particular to one of them."""

from dataclasses import replace

import pytest
import torch
from distill.worlds import generator, pictures, view_of
from exact import TextPrior
from tiny import tiny_prior_folder

from splatdream.catalog import CATALOG, configured
from splatdream.distill.annealed import Annealed
from splatdream.distill.csd import CSD
from splatdream.distill.hifa import HiFA
from splatdream.distill.nfsd import NFSD
from splatdream.distill.sdedit import SDEdit
from splatdream.loop import dream
from splatdream.priors.words import unknown_words
from splatdream.recipe import Recipe

RECIPE = Recipe("a red ball", steps=1, count=10, device="cpu", renderer="cpu")

BAD_OPTIONS = {
    "sds:weighting=unifrom": "did you mean 'uniform'",
    "sds:guidance_scale=15..inf": r"guidance_scale of sds must lie within 0..1000; got inf",
    "sdedit:guidance_scale=-3": r"guidance_scale of sdedit must lie within 0..1000; got -3",
    "sdedit:steps=0": r"steps of sdedit must lie within 1..1000; got 0",
    "sdedit:steps=99999999999": r"steps of sdedit must lie within 1..1000; got 1e\+11",
    "sjc:perturbations=0": r"perturbations of sjc must lie within 1..1000; got 0",
    "sjc:guidance_scale=-1": r"guidance_scale of sjc must lie within 0..1000; got -1",
    "csd:weighting=sd": "did you mean 'sds'",
    "csd:negative_weight=1..1.5": r"negative_weight of csd must lie within 0..1; got 1.5",
    "nfsd:quiet=2": r"quiet of nfsd must lie within 0..1; got 2",
    "nfsd:guidance_scale=inf": r"within 0..1000; got inf",
    "hifa:steps=0": r"steps of hifa must lie within 1..1000; got 0",
    "hifa:image_weight=-0.1": r"image_weight of hifa must lie within 0..1e\+06; got -0.1",
    "hifa:latent_weight=0,image_weight=0": "nothing would move",
    "flow:guidance_scale=1e9": r"guidance_scale of flow must lie within",
    "flow:weighting=sigmoidal": "did you mean 'sigmoid'",
    "recon:rescale=1.1": r"rescale of recon must lie within 0..1; got 1.1",
    "recon:group=0": "groups of at least 1; got 0",
    "bridge:warmup=-0.1": "warmup of bridge must lie within 0..1",
    "bridge:source=": "say what is wrong with the pictures",
    "bridge:weighting=none": "unknown weighting 'none'",
}


@pytest.mark.parametrize("spec", BAD_OPTIONS)
def test_options_out_of_range_are_told_with_the_range(spec) -> None:
    with pytest.raises(ValueError, match=BAD_OPTIONS[spec]):
        configured("distiller", spec)


@pytest.mark.parametrize(
    "rule", [NFSD(negative=""), CSD(negative_weight=0.5), Annealed(CSD(), CSD(negative_weight=0.5))], ids=str
)
def test_a_rule_that_needs_a_negative_prompt_is_refused_without_one(rule) -> None:
    prior = TextPrior()
    with pytest.raises(ValueError, match=r"needs a negative prompt; give one"):
        next(dream(RECIPE, prior=prior, distiller=rule))
    assert prior.evaluations == 0
    next(dream(RECIPE.replace(negative_prompt="blurry"), prior=prior, distiller=rule))
    assert prior.evaluations > 0


@pytest.mark.parametrize("spec", ["nfsd", "bridge"])
def test_words_of_a_rule_that_the_prior_does_not_know_are_told_before_the_first_step(spec, tmp_path) -> None:
    recipe = RECIPE.replace(prior=str(tiny_prior_folder(tmp_path)), distill=spec)
    with pytest.raises(ValueError, match=r"does not know .*'blurry'"):
        next(dream(recipe))


@pytest.mark.parametrize("name", CATALOG["distiller"])
def test_the_built_in_prior_knows_the_words_of_every_rule(name) -> None:
    assert unknown_words(getattr(configured("distiller", name), "words", "")) == []


@pytest.mark.parametrize(("group", "seen"), [(4, 1), (4, 2), (3, 4)])
def test_recon_refuses_a_prior_that_does_not_see_its_views_together(group, seen) -> None:
    prior = TextPrior()
    prior.group = seen
    with pytest.raises(ValueError, match=f"spread over {group} views .* sees {seen}; use the prior builtin-mv"):
        next(dream(RECIPE.replace(views=4, distill=f"recon:group={group}"), prior=prior))
    assert prior.evaluations == 0


@pytest.mark.parametrize("rule", [SDEdit(1.0), HiFA(1.0)], ids=str)
def test_a_coarse_render_is_aimed_at_pictures_of_its_own_size(rule) -> None:
    prior = TextPrior()
    fine = view_of(prior, pictures(1, 3), [400])
    coarse = replace(fine, images=torch.zeros(1, 4, 4, 3))
    whole, _ = rule(fine, prior, None, generator())
    half, _ = rule(coarse, prior, None, generator())
    assert half.targets.shape == coarse.images.shape
    # The filter spans two of the large pixels and half of each neighbour: means agree but for the borders.
    torch.testing.assert_close(half.targets.mean((1, 2)), whole.targets.mean((1, 2)), atol=0.05, rtol=0)


def test_hifa_does_not_decode_where_pictures_count_for_nothing() -> None:
    """FIELD P3."""

    class Blind(TextPrior):
        def decode(self, latents):
            raise AssertionError("decoded in vain")

    prior = Blind()
    HiFA(1.0, image_weight=0.0)(view_of(prior, pictures(1, 3), [400]), prior, None, generator())
