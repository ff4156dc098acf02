"""How a rule trains the prior's student: what it has learnt is a flat dict of tensors that a checkpoint can hold.

`student.*` are the weights, `exp_avg.*` and `exp_avg_sq.*` Adam's moments of them, `step` counts its steps.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.adam import adam

from splatdream.contracts import Prior, Student, View, views_together


def untaught(student: Student, generator: torch.Generator) -> dict[str, Tensor]:
    """The state before the first lesson: a student that predicts what the prior predicts, and zero moments."""
    weights = student.init(generator)
    zeros = {name: torch.zeros_like(value) for name, value in weights.items()}
    return _state(torch.zeros(()), weights, zeros, zeros)


def weights_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The student's weights."""
    return _part("student", state)


def taught(
    student: Student,
    state: dict[str, Tensor],
    view: View,
    prior: Prior,
    *,
    learning_rate: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """The state after one step of Adam on `student_loss`; the old one stays. FloatingPointError unless it is finite."""
    weights = {name: value.detach().requires_grad_() for name, value in weights_of(state).items()}
    with torch.enable_grad():
        loss = student_loss(student, weights, view, prior, generator)
    gradients = torch.autograd.grad(loss, [*weights.values()])
    if not all(bool(gradient.isfinite().all()) for gradient in gradients):
        raise FloatingPointError("the gradient of the student's loss is not finite; a lower learning_rate may help")
    # torch's own Adam in its functional form writes in place: it is given copies.
    fresh, exp_avg, exp_avg_sq = (
        {name: value.detach().clone() for name, value in _part(part, state).items()}
        for part in ("student", "exp_avg", "exp_avg_sq")
    )
    steps = [state["step"].cpu().clone() for _ in fresh]
    lists = ([*fresh.values()], [*gradients], [*exp_avg.values()], [*exp_avg_sq.values()], [], steps)
    with torch.no_grad():
        adam(
            *lists,
            lr=learning_rate,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
        )
    return _state(steps[0], fresh, exp_avg, exp_avg_sq)


def student_loss(
    student: Student, weights: dict[str, Tensor], view: View, prior: Prior, generator: torch.Generator
) -> Float[Tensor, ""]:
    """The mean squared error of the student's noise on the current views, at timesteps uniform over the range."""
    group = views_together(prior)
    t = torch.randint(len(prior.schedule), (len(view.timesteps) // group,), generator=generator)
    t = t.repeat_interleave(group).to(view.timesteps)
    noise = torch.randn(view.latents.shape, generator=generator).to(view.latents)
    x_t = prior.schedule.add_noise(view.latents, noise, t)
    eps = student.predict(weights, x_t, t, view.condition.cond, view.cameras).eps
    return (eps - noise).square().mean()


def _state(step: Tensor, weights: dict, exp_avg: dict, exp_avg_sq: dict) -> dict[str, Tensor]:
    parts = {"student": weights, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
    named = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    return {"step": step, **named}


def _part(part: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}
