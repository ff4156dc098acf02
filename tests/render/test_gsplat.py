"""gsplat's CUDA rasteriser and the numba renderer draw the same picture and find the same gradients."""

import pytest
import torch
from render.render_scenes import OUTPUTS, cloud, farthest, gradients, nasty, views

from splatdream.render import cpu, gsplat

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize("scene", ["cloud", "nasty"])
def test_gsplat_equals_cpu(scene, extra, antialiased):
    splats, cameras = cloud(300, 3, seed=1) if scene == "cloud" else nasty(), views()
    extras = torch.randn(len(splats), extra, generator=torch.Generator().manual_seed(2)) if extra else None
    expected, expected_gradients = gradients(cpu.render, splats, cameras, extras=extras, antialiased=antialiased)
    extras = None if extras is None else extras.cuda()
    found, found_gradients = gradients(
        gsplat.render, splats.to("cuda"), cameras.to("cuda"), extras=extras, antialiased=antialiased
    )
    for name in OUTPUTS:
        # Fast approximate exp and reciprocals there; a pixel at alpha = 1/255 may fall on the other side (0.004).
        assert farthest(getattr(found, name).cpu(), getattr(expected, name)) < 5e-3, name
    for name, gradient in expected_gradients.items():
        assert farthest(found_gradients[name].cpu(), gradient) < 1e-2, name
