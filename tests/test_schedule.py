"""The algebra between noise, clean latents and velocity."""

import pytest
import torch
from diffusers import DDIMScheduler
from exact import cosine_schedule

from splatdream.schedule import Prediction, Schedule, ddim_step

SCHEDULE = cosine_schedule()


def example(t: int, kind: str):
    generator = torch.Generator().manual_seed(t)
    x0 = torch.randn(2, 3, 4, 4, generator=generator)
    eps = torch.randn(2, 3, 4, 4, generator=generator)
    timesteps = torch.full((2,), t)
    alpha, sigma = SCHEDULE.at(timesteps, x0)
    value = {"epsilon": eps, "sample": x0, "v_prediction": alpha * eps - sigma * x0}[kind]
    return x0, eps, Prediction(kind, value, SCHEDULE.add_noise(x0, eps, timesteps), alpha, sigma)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("t", [50, 500, 950])
def test_every_kind_of_prediction_tells_the_same_noise_and_picture(kind, t) -> None:
    x0, eps, prediction = example(t, kind)
    # Dividing by alpha = 0.08 at t = 950 costs one of float32's seven digits.
    torch.testing.assert_close(prediction.x0, x0, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(prediction.eps, eps, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(prediction.v, prediction.alpha * eps - prediction.sigma * x0, atol=1e-4, rtol=1e-4)


def test_noise_and_ddim_steps_equal_diffusers() -> None:
    reference = DDIMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False, set_alpha_to_one=True)
    schedule = Schedule.from_alphas_cumprod(reference.alphas_cumprod)
    x0, eps = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([399, 399])
    x_t = schedule.add_noise(x0, eps, timesteps)
    torch.testing.assert_close(x_t, reference.add_noise(x0, eps, timesteps))
    reference.set_timesteps(10)
    alpha, sigma = schedule.at(timesteps, x_t)
    ours = ddim_step(schedule, Prediction("epsilon", eps, x_t, alpha, sigma), timesteps - 100)
    torch.testing.assert_close(ours, reference.step(eps, 399, x_t).prev_sample, atol=1e-5, rtol=1e-5)


def test_eps_at_zero_signal_is_a_clear_error() -> None:
    ones = torch.ones(1, 1, 1, 1)
    prediction = Prediction("epsilon", ones, ones, 0 * ones, ones)
    with pytest.raises(ValueError, match="zero terminal SNR"):
        _ = prediction.x0
    with pytest.raises(ValueError, match="sigma = 0"):
        _ = Prediction("sample", ones, ones, ones, 0 * ones).eps


def test_the_shape_checker_is_on() -> None:
    with pytest.raises(Exception, match="Type-check"):
        SCHEDULE.add_noise(torch.zeros(2, 3), torch.zeros(3, 3), torch.zeros(2, dtype=torch.long))
