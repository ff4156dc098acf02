"""Variational score distillation: Wang et al., ProlificDreamer, 2023, eq. 9."""

from dataclasses import dataclass

import torch
from torch import Tensor

from splatdream.contracts import Gradient, Prior, RuleState, Student, Teacher, View
from splatdream.distill.options import check_guidance, check_range
from splatdream.distill.teaching import taught, untaught, weights_of
from splatdream.distill.weights import check_weight, weight
from splatdream.guidance import guided


@dataclass(frozen=True)
class VSD:
    """w(t) (eps_guided(x_t, t, y) - eps_student(x_t, t, y, camera)).

    The student is a LoRA on the prior's own UNet. After each gradient it takes `student_steps` of Adam towards
    predicting the noise of the current views, at timesteps and with noise of its own. A view costs 3 evaluations and,
    for each of the student's steps, one more with its backward pass; guidance 1 saves one.
    """

    guidance_scale: float = 7.5
    weighting: str = "sds"
    rank: int = 4
    learning_rate: float = 1e-4
    student_steps: int = 1

    def __post_init__(self) -> None:
        check_weight(self.weighting)
        check_guidance("vsd", self.guidance_scale)
        check_range("rank of vsd", self.rank, 1, 1024)
        check_range("learning_rate of vsd", self.learning_rate, 1e-8, 1.0)
        check_range("student_steps of vsd", self.student_steps, 0, 100)

    def init(self, prior: Prior, generator: torch.Generator) -> dict[str, Tensor]:
        """A student that predicts what the prior predicts. ValueError where the prior can give none."""
        return untaught(self.student(prior), generator)

    def __call__(
        self, view: View, prior: Prior, state: RuleState, generator: torch.Generator
    ) -> tuple[Gradient, RuleState]:
        if state is None:
            raise ValueError("vsd keeps its student in its state: begin with what `init` returns")
        student = self.student(prior)
        x_t = prior.schedule.add_noise(view.latents, view.noise, view.timesteps)
        eps = guided(prior, x_t, view.timesteps, view.condition, self.guidance_scale).eps
        with torch.no_grad():
            answer = student.predict(weights_of(state), x_t, view.timesteps, view.condition.cond, view.cameras)
        w = weight(self.weighting, prior.schedule, view.timesteps, like=x_t)
        for _ in range(self.student_steps):
            state = taught(student, state, view, prior, learning_rate=self.learning_rate, generator=generator)
        return Gradient(latents=w * (eps - answer.eps)), state

    def student(self, prior: Prior) -> Student:
        """The prior's student. ValueError where it can give none."""
        if not isinstance(prior, Teacher):
            raise ValueError(
                f"vsd trains a student beside the prior, and {type(prior).__name__} can give none; use the built-in "
                "prior or a folder of Stable Diffusion 1.x or 2.x, or a rule without a student: sds, ism or sdi"
            )
        return prior.student(self.rank)
