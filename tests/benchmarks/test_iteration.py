"""What a step is measured with: the clock between the parts, the count of operations, the naive step."""

import time
from dataclasses import replace

import iteration
import pytest
import rasterizer
import startup
import torch
import wall_clock
from _archs import RESOLUTIONS, untrained
from _floor import Ceilings, floor_seconds, layers_of, operations_seconds
from _naive import naive
from iteration import KERNELS, PARTS, Clock, TimedPrior, alone, counted, steps_of, timed_renderer
from tiny import tiny_prior_folder

from splatdream.catalog import configured
from splatdream.checkpoint import snapshot
from splatdream.loop import begin, dream
from splatdream.priors.diffusion import DiffusionPrior
from splatdream.priors.tuning import compile_blocks
from splatdream.recipe import Recipe
from splatdream.render import cpu

RECIPE = Recipe("a red mug", distill="sds", steps=2, views=2, count=50, device="cpu", renderer="cpu")


@pytest.fixture(scope="module")
def prior(tmp_path_factory) -> DiffusionPrior:
    return DiffusionPrior.load(tiny_prior_folder(tmp_path_factory.mktemp("prior")))


def test_the_operations_of_stable_diffusion_are_counted() -> None:
    """Per evaluation at 64 x 64 latents, and per encoding of 512 x 512 pixels forwards and back to them."""
    prior = untrained("sd15", RESOLUTIONS["sd15"], device="meta")
    clock = Clock(torch.device("cpu"))
    clock.last = {
        "UNet": (torch.empty(1, 4, 64, 64), torch.zeros(1, dtype=torch.long), prior.embed("a mug")),
        "encode": (torch.empty(1, 512, 512, 3),),
    }
    found = {part: sum(layer.operations for layer in layers) for part, layers in counted(prior, clock).items()}
    expected = {"UNet": 0.803e12, "encode": 1.117e12, "backward through encoder": 1.151e12}
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("arch", "millions"), [("sd15", 859.5), ("sd21", 865.9), ("sdxl", 2567.5), ("sd3", 2028.3)])
def test_untrained_networks_are_of_the_published_size(arch, millions) -> None:
    network = untrained(arch, RESOLUTIONS[arch], device="meta").unet
    assert sum(value.numel() for value in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize(("arch", "count"), [("sd15", 16), ("sd3", 24)])
def test_every_transformer_block_is_compiled(arch, count) -> None:
    prior = untrained(arch, 64, device="meta")
    compile_blocks(prior)
    assert sum(module._compiled_call_impl is not None for module in prior.unet.modules()) == count
    assert prior.vae.encoder._compiled_call_impl is not None


def test_a_layer_takes_its_operations_or_its_bytes_whichever_is_longer() -> None:
    a, b = torch.empty(64, 8, device="meta"), torch.empty(8, 32, device="meta")
    (layer,) = layers_of(lambda: (a @ b).relu())
    assert (layer.operations, layer.bytes) == (2 * 64 * 8 * 32, 4 * (64 * 8 + 8 * 32 + 64 * 32))
    slow_memory, slow_arithmetic = Ceilings(1e12, 1e3), Ceilings(1e3, 1e12)
    assert floor_seconds([layer], slow_memory) == layer.bytes / 1e3
    assert floor_seconds([layer], slow_arithmetic) == operations_seconds([layer], slow_arithmetic)


def test_scores_of_attention_are_not_moved() -> None:
    q = torch.empty(1, 1, 512, 8, device="meta")
    layers = layers_of(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert sum(layer.bytes for layer in layers) == 4 * 4 * 512 * 8  # queries, keys, values and answers, once each


def test_the_naive_step_moves_the_gaussians_where_the_loop_moves_them(prior) -> None:
    rule, growth = configured("distiller", RECIPE.distill), configured("densifier", RECIPE.densify)
    state = begin(RECIPE, prior, rule, growth, None, torch.device("cpu"))
    # Long ones, since a ball's turn changes nothing; and an eps above rounding, which Adam would else make steps of.
    splats = state.splats.replace(log_scales=state.splats.log_scales + torch.tensor([0.5, 0.0, -0.5]))
    state = replace(state, splats=splats, optimiser=replace(state.optimiser, eps=1e-3))
    parts = {"prior": prior, "renderer": cpu.render, "distiller": rule}
    steps = naive(RECIPE, snapshot(state), timesteps=configured("timesteps", RECIPE.timesteps), **parts)
    for ours, theirs in zip(dream(RECIPE, state=state, **parts), steps, strict=True):
        for name, value in ours.state.splats.parameters().items():
            # Sums over views in another order.
            torch.testing.assert_close(theirs.parameters()[name].detach(), value, atol=1e-4, rtol=1e-4)
    assert (ours.state.splats.quats - splats.quats).abs().max() > 1e-3


def test_the_clock_changes_no_step(prior) -> None:
    clock = Clock(torch.device("cpu"))
    timed = {"prior": TimedPrior(prior, clock), "renderer": timed_renderer(cpu.render, clock)}
    for plain, watched in zip(dream(RECIPE, prior=prior), dream(RECIPE, **timed), strict=True):
        assert torch.equal(plain.state.splats.means, watched.state.splats.means)


class Slow(torch.autograd.Function):
    """As it is, after a while."""

    @staticmethod
    def forward(ctx, x):
        time.sleep(0.02)
        return x.clone()

    @staticmethod
    def backward(ctx, *gradients):
        time.sleep(0.04)
        return gradients


def test_each_part_of_a_step_is_charged_with_its_own_time(prior, monkeypatch) -> None:
    encode, predict = prior.encode, prior.predict

    def slow(*arguments):
        time.sleep(0.06)
        return predict(*arguments)

    monkeypatch.setattr(prior, "encode", lambda images: encode(Slow.apply(images)))
    monkeypatch.setattr(prior, "predict", slow)
    clock = Clock(torch.device("cpu"))
    *_, (spent, calls) = steps_of(RECIPE, prior, clock)
    assert spent["encode"] >= 0.02
    assert spent["backward through encoder"] >= 0.04
    assert spent["UNet"] >= 0.06
    assert {part: calls[part] for part in KERNELS} == dict.fromkeys(KERNELS, 1) | {"decode": 0}
    best = alone(prior, cpu.render, clock, 2)
    assert best["UNet"] >= 0.06
    assert best["encode"] >= 0.02


def test_a_rule_that_gives_pictures_sends_nothing_back_through_the_encoder(prior) -> None:
    *_, (spent, calls) = steps_of(RECIPE.replace(distill="sdedit", inner_steps=3), prior, Clock(torch.device("cpu")))
    assert "backward through encoder" not in spent
    assert (calls["decode"], calls["render"], calls["backward through rasteriser"]) == (1, 3, 3)


def test_a_rule_with_a_student_is_timed_and_taken_naively(prior) -> None:
    recipe, clock = RECIPE.replace(distill="vsd:rank=2"), Clock(torch.device("cpu"))
    assert [spent["UNet"] > 0 for spent, _ in steps_of(recipe, prior, clock)] == [True, True]
    assert len(list(iteration.naive_steps(recipe, prior, clock))) == 2


def test_a_step_is_told_part_by_part_with_its_floor_its_rivals_and_its_memory(tmp_path, monkeypatch) -> None:
    folder = tiny_prior_folder(tmp_path / "prior")

    def tiny(arch: str, resolution: int, *, encoder: str, device: str, dtype: torch.dtype) -> DiffusionPrior:
        return DiffusionPrior.load(folder, device=device, dtype=dtype)

    monkeypatch.setattr(iteration, "untrained", tiny)
    monkeypatch.setattr(iteration, "ceilings", lambda device, dtype: Ceilings(1e9, 1e9))
    options = iteration.parser().parse_args(["--gaussians", "50", "--repeats", "1", "--device", "cpu"])
    figures = iteration.measure(options, iteration.recipe_of(options).replace(prompt="a red mug", size=32))
    assert sum(figures["parts"].values()) == pytest.approx(figures["step"])
    assert figures["floor"].keys() == {"encode", "UNet", "backward through encoder"}
    assert figures["rivals"].keys() == {"naive"}
    assert figures["megabytes"] > 1
    told = iteration.table(figures, options)
    assert all(part in told for part in (*PARTS, "naive, in turns with it", "peak memory", "1,200 take"))


@pytest.mark.parametrize(
    ("script", "words", "told"),
    [
        (iteration, ["--repeats", "0"], "invalid positive value: '0'"),
        (iteration, ["--gaussians", "many"], "invalid positive value: 'many'"),
        (iteration, ["--gaussians", "1"], "count must be at least 2; got 1"),
        (iteration, ["--resolution", "100"], "a multiple of 64; got 100"),
        (iteration, ["--distill", "sdz"], "unknown distiller 'sdz'"),
        (iteration, ["--densify", "mcmc:cap=0"], "cap must be at least 1"),
        (iteration, ["--device", "abacus"], "abacus"),
        (iteration, ["--arch", "sd15", "--whole", "draft"], "not of sd15"),
        (rasterizer, ["--repeats", "0"], "invalid positive value"),
        (startup, ["--repeats", "-1"], "invalid positive value"),
        (wall_clock, ["--repeats", "0"], "invalid positive value"),
        (wall_clock, ["--quality", "best"], "invalid choice: 'best'"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(script, words, told, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", [f"{script.__name__}.py", *words])
    with pytest.raises(SystemExit, match="2"):
        script.main()
    assert told in capsys.readouterr().err.splitlines()[-1]
