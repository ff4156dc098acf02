"""Our files in other people's viewers, in a real browser, beside our own picture from the same camera.

The object has another colour on every side, so that a wrong axis, a mirror image or a wrong colour shows.
"""

import json
import shutil
from math import radians
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d
from viewer.browser import folder_served, opened, packages

from splatdream.cameras import Cameras, around, orbit
from splatdream.export import write
from splatdream.export.html import served
from splatdream.render.cpu import render
from splatdream.splats import Splats, concatenate, logit, sh0_from_colours
from splatdream.viewer.live import Live

pytestmark = pytest.mark.slow
SIZE = 320
LEAST_SSIM = 0.93
"""Viewers cut Gaussians off elsewhere than we do, and round colours to 8 bits before they blend."""
SUPERSPLAT = "@playcanvas/supersplat-viewer@1.36.2"
SPARK = ("@sparkjsdev/spark@2.2.0", "three@0.180.0")


def ball(place: list[float], radius: float, colour: list[float], count: int = 500) -> Splats:
    generator = torch.Generator().manual_seed(0)
    outward = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    return Splats(
        means=torch.tensor(place) + radius * outward,
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=1),
        log_scales=torch.tensor([0.2, 0.15, 0.1]).mul(radius).log().repeat(count, 1),
        logit_opacities=logit(torch.full((count,), 0.95)),
        sh0=sh0_from_colours(torch.tensor([colour])).repeat(count, 1, 1),
        shN=torch.zeros(count, 0, 3),
    )


def many_coloured() -> Splats:
    """Grey, with red in front, green on the left (+x), yellow on the other side, cyan behind and blue on top."""
    return concatenate(
        [
            ball([0, 0, 0], 0.5, [0.6, 0.6, 0.6], 1500),
            ball([0, -0.5, 0], 0.2, [0.85, 0.1, 0.1]),
            ball([0.55, 0, -0.2], 0.2, [0.1, 0.6, 0.15]),
            ball([-0.55, 0, -0.2], 0.2, [0.9, 0.8, 0.1]),
            ball([0, 0.5, 0], 0.2, [0.1, 0.7, 0.7]),
            ball([0, 0, 0.6], 0.25, [0.15, 0.2, 0.85]),
        ]
    )


def camera() -> Cameras:
    one = torch.ones(1)
    return around(radians(25) * one, radians(20) * one, 3.4 * one, radians(40) * one, SIZE)


def ours() -> np.ndarray:
    return render(many_coloured(), camera(), torch.ones(1, 3)).images[0].clamp(0, 1).numpy()


def structural_similarity(one: np.ndarray, two: np.ndarray) -> float:
    """The mean over windows of 7 x 7 and channels (Wang et al. 2004)."""

    def mean(values: Tensor) -> Tensor:
        return avg_pool2d(values, 7, stride=1)

    a, b = (torch.from_numpy(np.array(each)).permute(2, 0, 1).double() for each in (one, two))
    ma, mb = mean(a), mean(b)
    va, vb, both = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    return float(((2 * ma * mb + c1) * (2 * both + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))).mean())


def compare(shown: np.ndarray, name: str, tmp_path: Path) -> None:
    """Prints the similarity, keeps both pictures side by side, and holds them to be one."""
    own = ours()
    pair = np.concatenate([shown, own], 1)
    Image.fromarray((255 * pair).round().astype(np.uint8)).save(tmp_path / f"{name}.png")
    found = structural_similarity(shown, own)
    covered = (own < 0.98).any(-1)
    off = float(np.abs(shown - own)[covered].mean())
    print(f"{name}: structural similarity {found:.3f}, colours off by {off:.3f} on the object")
    mirrored = structural_similarity(shown, own[:, ::-1])
    assert found > LEAST_SSIM, f"{found:.3f}, see {tmp_path / name}.png"
    assert off < 0.03
    assert found > mirrored + 0.05


@pytest.mark.parametrize("suffix", [".ply", ".compressed.ply", ".sog"])
def test_supersplat_shows_our_file_as_we_do(suffix: str, tmp_path) -> None:
    modules = packages(tmp_path / "npm", SUPERSPLAT)
    site = tmp_path / "site"
    shutil.copytree(modules / "@playcanvas" / "supersplat-viewer" / "public", site)
    write(many_coloured(), site / f"splat{suffix}")
    x, y, z = camera().positions[0].tolist()
    off = {"enabled": False}
    settings = {
        "version": 2,
        "tonemapping": "none",
        "highPrecisionRendering": False,
        "background": {"color": [1, 1, 1]},
        "postEffectSettings": {
            "sharpness": {**off, "amount": 0},
            "bloom": {**off, "intensity": 0, "blurLevel": 2},
            "grading": {**off, "brightness": 1, "contrast": 1, "saturation": 1, "tint": [1, 1, 1]},
            "vignette": {**off, "intensity": 0, "inner": 0, "outer": 1, "curvature": 1},
            "fringing": {**off, "intensity": 0},
        },
        "animTracks": [],
        # Its world is the file's, half a turn about z.
        "cameras": [{"initial": {"position": [-x, z, y], "target": [0, 0, 0], "fov": 40}}],
        "annotations": [],
        "startMode": "default",
    }
    page = (site / "index.html").read_text()
    block = page.index("null", page.index('sse-bootstrap"'))
    bootstrap = json.dumps({"contentUrl": f"./splat{suffix}", "settings": settings})
    (site / "index.html").write_text(page[:block] + bootstrap + page[block + 4 :])
    with (
        folder_served(site) as address,
        opened(f"{address}/index.html?webgl&noui&noanim", tmp_path / "profile", SIZE) as browser,
    ):
        compare(browser.settled(), f"supersplat{suffix}", tmp_path)


SPARK_PAGE = """<!doctype html><style>body {{ margin: 0; overflow: hidden }}</style>
<script type="importmap">{{"imports": {{
  "three": "./node_modules/three/build/three.module.js", "three/addons/": "./node_modules/three/examples/jsm/",
  "@sparkjsdev/spark": "./node_modules/@sparkjsdev/spark/dist/spark.module.js" }}}}</script>
<script type="module">
import * as THREE from "three";
import {{ SparkRenderer, SplatMesh }} from "@sparkjsdev/spark";
const renderer = new THREE.WebGLRenderer(), scene = new THREE.Scene();
renderer.setSize({size}, {size});
document.body.appendChild(renderer.domElement);
scene.background = new THREE.Color(1, 1, 1);
scene.add(new SparkRenderer({{ renderer }}));
const camera = new THREE.PerspectiveCamera(40, 1, 0.01, 100);
camera.position.set({x}, {z}, -({y}));
camera.lookAt(0, 0, 0);
const splat = new SplatMesh({{ url: "./splat{suffix}" }});
splat.quaternion.set(1, 0, 0, 0);  // as Spark's own examples turn what is y-down
scene.add(splat);
splat.initialized.then(() => {{ window.loaded = true; }});
renderer.setAnimationLoop(() => renderer.render(scene, camera));
</script>"""


@pytest.mark.parametrize("suffix", [".ply", ".splat", ".spz"])
def test_spark_shows_our_file_as_we_do(suffix: str, tmp_path) -> None:
    packages(tmp_path, *SPARK)
    # Spark shows every format as it stands in the file; .spz is y-up by its own custom.
    write(many_coloured(), tmp_path / f"splat{suffix}", **({"up": "y-down"} if suffix == ".spz" else {}))
    x, y, z = camera().positions[0].tolist()
    (tmp_path / "index.html").write_text(SPARK_PAGE.format(size=SIZE, x=x, y=y, z=z, suffix=suffix))
    with (
        folder_served(tmp_path) as address,
        opened(f"{address}/index.html", tmp_path / "profile", SIZE) as browser,
    ):
        browser.wait_for("window.loaded === true")
        compare(browser.settled(), f"spark{suffix}", tmp_path)


def test_our_own_page_shows_the_object_upright_and_in_its_colours_from_a_file(tmp_path) -> None:
    """viser chooses the camera's field of view and the ground itself, so colours are looked for where they belong."""
    write(many_coloured(), tmp_path / "page.html")
    with opened((tmp_path / "page.html").as_uri(), tmp_path / "profile", 2 * SIZE) as browser:
        shown = browser.settled()
    Image.fromarray((255 * shown).round().astype(np.uint8)).save(tmp_path / "page.png")
    assert not (shown[..., 0] < shown[..., 1:].min(-1) - 0.25).any()  # the cyan ball is hidden behind
    stands_upright(shown)


def stands_upright(shown: np.ndarray) -> None:
    """Whether the object's coloured balls are where they belong."""

    def middle(strong: int, weak: tuple[int, int]) -> np.ndarray:
        """The middle, as (row, column), of the pixels that are mostly of one colour."""
        where = np.argwhere(shown[..., strong] > shown[..., weak].max(-1) + 0.25)
        assert len(where) > 50
        return where.mean(0)

    red, green, blue = middle(0, (1, 2)), middle(1, (0, 2)), middle(2, (0, 1))
    assert blue[0] < red[0]  # the top is up
    assert red[1] < green[1]  # the object's left is to the right of who looks at its front


CLICK = "[...document.querySelectorAll('button')].find(each => each.innerText.trim() === '{}').click()"


def test_a_running_optimisation_is_seen_paused_and_stopped_in_the_browser(tmp_path) -> None:
    with served() as server:
        live = Live(server, "a ball of balls")
        step: Any = SimpleNamespace(
            index=9,
            total=400,
            grad_norm=1.25,
            count=4000,
            timesteps=[700, 320],
            cameras=orbit(2, 32),
            state=SimpleNamespace(splats=many_coloured()),
        )
        live.show(step)
        with opened(live.address, tmp_path / "profile", 3 * SIZE) as browser:
            browser.wait_for("document.body.innerText.includes('step 10 of 400')")
            for words in ("a ball of balls", "t 700, 320", "gradient norm 1.25", "4,000 Gaussians"):
                assert browser.evaluate(f"document.body.innerText.includes('{words}')"), words
            shown = browser.settled()
            Image.fromarray((255 * shown).round().astype(np.uint8)).save(tmp_path / "live.png")
            stands_upright(shown)
            browser.evaluate(CLICK.format("Pause"))
            browser.wait_for("document.body.innerText.includes('Go on')", 30)
            loop = Thread(target=live.show, args=(step,))
            loop.start()
            loop.join(1.0)
            assert loop.is_alive()
            browser.evaluate(CLICK.format("Stop and save"))
            loop.join(10.0)
            assert not loop.is_alive()
            assert live.stopped
