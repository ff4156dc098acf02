"""What is measured on pictures of a cloud: whether it looks right from all around, and like its prompt.

Judges that were never optimised against answer the second; they know the corpus and its words only, and what they do
not know is not measured.
"""

from collections.abc import Mapping
from math import radians

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splatdream.cameras import Cameras
from splatdream.check.criteria import Measures
from splatdream.consistency import reprojection_error
from splatdream.contracts import Render, Renderer
from splatdream.corpus.captions import caption, random_scene
from splatdream.corpus.kinds import KINDS
from splatdream.corpus.palette import COLOURS, SURFACES
from splatdream.framing import in_view
from splatdream.inspect.compare import saturation, sharpness
from splatdream.inspect.judge import Judge
from splatdream.inspect.yardstick import DISTRACTORS, janus_rate, judging_cameras
from splatdream.splats import Splats

BACKGROUND = 0.7
EMPTY = 0.01
"""A picture of which less is covered shows nothing."""
ASIDE = radians(10)
"""How far apart the two views stand that are compared."""


@torch.no_grad()
def measure(
    splats: Splats, renderer: Renderer, judge: Judge | None, prompt: str | None, *, antialiased: bool = False
) -> Measures:
    """Every number that the criteria for pictures ask for; without a judge or a prompt some are not measured.

    What stands elsewhere than in the unit ball is moved there first.
    """
    splats = in_view(splats)
    cameras = judging_cameras().to(splats.means)
    render = shown(splats, renderer, cameras, antialiased)
    aside = cameras.turned(ASIDE)
    images, mask = render.images.clamp(0, 1), render.alphas > 0.5
    covered = mask.float().mean((1, 2, 3))
    return {
        "empty_views": int((covered < EMPTY).sum()),
        "saturation": saturation(images, mask),
        "sharpness": sharpness(images) / max(float(covered.mean()), EMPTY),
        "inconsistency": inconsistency(render, cameras, shown(splats, renderer, aside, antialiased), aside),
        **judged(images.cpu(), cameras.to("cpu"), judge, prompt),
    }


def shown(splats: Splats, renderer: Renderer, cameras: Cameras, antialiased: bool) -> Render:
    backgrounds = splats.means.new_full((len(cameras), 3), BACKGROUND)
    return renderer(splats, cameras, backgrounds, antialiased=antialiased)


def inconsistency(render: Render, cameras: Cameras, other: Render, other_cameras: Cameras) -> float:
    """The root mean square difference in colour of what two neighbouring views show of one surface, per pixel of it."""
    error = float(reprojection_error(render, cameras, other, other_cameras))
    return (error / max(float(render.alphas.mean()), EMPTY)) ** 0.5


def judged(
    images: Float[Tensor, "B H W 3"], cameras: Cameras, judge: Judge | None, prompt: str | None
) -> Mapping[str, float | str]:
    """How the pictures fit their prompt, from which side they seem to show it, and whether it is the right way up."""
    names = ("outbid", "right_way_up", "janus")
    if judge is None or not prompt:
        return dict.fromkeys(names, "the judges are not installed" if prompt else "the prompt is not known")
    words = prompt.lower().replace(",", " ").split()
    unknown = [word for word in words if word not in judge.indices]
    if unknown:
        return dict.fromkeys(names, f"the judges do not know {', '.join(map(repr, unknown))}")
    right, *wrong = judge.scores(images, [prompt, *wrong_captions(words, DISTRACTORS, np.random.default_rng(0))])
    has_front = any(KINDS[word].has_front for word in words if word in KINDS)
    return {
        "outbid": sum(bool(each >= right) for each in wrong),
        "right_way_up": float(right - max(judge.scores(images.rot90(turn, (1, 2)), [prompt])[0] for turn in (1, 2, 3))),
        "janus": janus_rate(judge, images, cameras) if has_front else "what the prompt names has no front",
    }


def wrong_captions(words: list[str], count: int, rng: np.random.Generator) -> list[str]:
    """`count` captions that are wrong for these words: half of them with one word exchanged, as far as that goes."""
    sorts = [list(COLOURS), list(SURFACES), [name for name in KINDS if " " not in name]]
    near = [
        " ".join([*words[:place], other, *words[place + 1 :]])
        for place, word in enumerate(words)
        for sort in sorts
        if word in sort
        for other in sort
        if other != word
    ]
    chosen = [str(each) for each in rng.permutation(near)[: count // 2]]
    while len(chosen) < count:
        words_of_other = caption(random_scene(rng))
        if words_of_other != " ".join(words) and words_of_other not in chosen:
            chosen.append(words_of_other)
    return chosen
