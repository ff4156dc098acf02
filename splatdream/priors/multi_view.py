"""Several views of one object in one picture of the mind: self-attention that looks into all of them.

MVDream (Shi et al. 2023): the weights are those of the single view; only the tokens that attend to one another become
those of a whole group of views.
"""

from typing import Any

from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from jaxtyping import Float, Int
from torch import Tensor

from splatdream.contracts import Embedding

VIEWS = 4
"""Views of one object in a group, as many as MVDream has."""


def teach_views(unet: Any) -> None:
    """Lets a UNet of diffusers take `cross_attention_kwargs={"views": n}`; without it, nothing changes."""
    unet.set_attn_processor(ViewsAttention())


class Together:
    """A family whose UNet is shown groups of `views` rows, each of one object; all else is the family's own."""

    def __init__(self, family: Any, views: int) -> None:
        self.family, self.group = family, views
        teach_views(family.network)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.family, name)

    def told(self, embedding: Embedding) -> dict[str, Any]:
        return self.family.told(embedding) | {"cross_attention_kwargs": {"views": self.group}}

    def answer(self, latents: Float[Tensor, "B C h w"], timesteps: Int[Tensor, " B"], embedding: Embedding) -> Tensor:
        """ValueError where the views make no whole groups."""
        if len(latents) % self.group:
            raise ValueError(f"this prior sees {self.group} views of an object at a time, not {len(latents)}")
        return self.network(latents, timesteps, **self.told(embedding)).sample


class ViewsAttention:
    """An attention processor of diffusers; `cross_attention_kwargs={"views": 4}` joins each four rows of the batch.

    With `views` 1, and where the views attend to words, it is the stock processor.
    """

    def __init__(self) -> None:
        self.plain = AttnProcessor2_0()

    def __call__(
        self,
        attn: Attention,
        hidden_states: Float[Tensor, "B S E"],
        encoder_hidden_states: Tensor | None = None,
        *args,
        views: int = 1,
        **kwargs,
    ) -> Float[Tensor, "B S E"]:
        if views == 1 or encoder_hidden_states is not None:
            return self.plain(attn, hidden_states, encoder_hidden_states, *args, **kwargs)
        rows, places, width = hidden_states.shape
        joined = hidden_states.reshape(rows // views, views * places, width)
        return self.plain(attn, joined, None, *args, **kwargs).reshape(rows, places, width)
