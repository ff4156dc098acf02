"""Cameras: where pictures are taken from.

World +z is up and an object's front faces -y. Azimuth 0 sees the front and grows counter-clockwise seen from above,
so a camera at distance r stands at r (sin az cos el, -cos az cos el, sin el). Camera space is OpenCV's: x right,
y down, z forward. `viewmats` map world to camera. Angles are radians. B views, H x W pixels.
"""

from dataclasses import dataclass
from math import cos, pi, radians, sin

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Cameras:
    viewmats: Float[Tensor, "B 4 4"]
    Ks: Float[Tensor, "B 3 3"]
    width: int
    height: int
    azimuths: Float[Tensor, " B"]
    elevations: Float[Tensor, " B"]

    def __len__(self) -> int:
        return self.viewmats.shape[0]

    def __getitem__(self, rows) -> "Cameras":
        """The chosen views; an integer keeps the leading axis."""
        if isinstance(rows, int):
            rows = [rows]
        return Cameras(
            self.viewmats[rows], self.Ks[rows], self.width, self.height, self.azimuths[rows], self.elevations[rows]
        )

    @property
    def positions(self) -> Float[Tensor, "B 3"]:
        """Camera centres in the world."""
        rotations = self.viewmats[:, :3, :3]
        return -torch.einsum("bji,bj->bi", rotations, self.viewmats[:, :3, 3])

    def to(self, *args, **kwargs) -> "Cameras":
        """The matrices moved; angles, which words are made of, stay where they can be read without waiting."""
        viewmats, Ks = (tensor.to(*args, **kwargs) for tensor in (self.viewmats, self.Ks))
        return Cameras(viewmats, Ks, self.width, self.height, self.azimuths, self.elevations)

    def turned(self, angle: float) -> "Cameras":
        """The same cameras carried around the vertical axis, counter-clockwise seen from above."""
        c, s = cos(angle), sin(angle)
        back = self.viewmats.new_tensor([[c, s, 0, 0], [-s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        azimuths = torch.remainder(self.azimuths + angle, 2 * pi)
        return Cameras(self.viewmats @ back, self.Ks, self.width, self.height, azimuths, self.elevations)

    def resize(self, size: int) -> "Cameras":
        """The same views on a picture `size` pixels high, the aspect kept."""
        factor = size / self.height
        Ks = self.Ks * self.Ks.new_tensor([factor, factor, 1.0])[:, None]
        return Cameras(self.viewmats, Ks, round(self.width * factor), size, self.azimuths, self.elevations)


def look_at(
    positions: Float[Tensor, "B 3"], targets: Float[Tensor, "B 3"], ups: Float[Tensor, "B 3"]
) -> Float[Tensor, "B 4 4"]:
    """World-to-camera matrices of cameras at `positions` that look at `targets`; `ups` need not be orthogonal."""
    forward = torch.nn.functional.normalize(targets - positions, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, ups), dim=-1)
    down = torch.linalg.cross(forward, right)
    rotations = torch.stack([right, down, forward], dim=1)
    viewmats = torch.zeros(len(positions), 4, 4, dtype=positions.dtype, device=positions.device)
    viewmats[:, :3, :3] = rotations
    viewmats[:, :3, 3] = -torch.einsum("bij,bj->bi", rotations, positions)
    viewmats[:, 3, 3] = 1.0
    return viewmats


def directions(azimuths: Float[Tensor, " B"], elevations: Float[Tensor, " B"]) -> Float[Tensor, "B 3"]:
    """Unit vectors from the origin towards the cameras."""
    horizontal = torch.cos(elevations)
    return torch.stack([torch.sin(azimuths) * horizontal, -torch.cos(azimuths) * horizontal, torch.sin(elevations)], -1)


def pinhole(fovys: Float[Tensor, " B"], size: int) -> Float[Tensor, "B 3 3"]:
    """Intrinsics of square pictures with vertical field of view `fovys`, the optical axis through the centre."""
    focals = 0.5 * size / torch.tan(0.5 * fovys)
    Ks = torch.zeros(len(fovys), 3, 3, dtype=fovys.dtype, device=fovys.device)
    Ks[:, 0, 0] = focals
    Ks[:, 1, 1] = focals
    Ks[:, :2, 2] = 0.5 * size
    Ks[:, 2, 2] = 1.0
    return Ks


def around(
    azimuths: Float[Tensor, " B"],
    elevations: Float[Tensor, " B"],
    distances: Float[Tensor, " B"],
    fovys: Float[Tensor, " B"],
    size: int,
) -> Cameras:
    """Cameras on spheres about the origin, looking at it with +z up; straight down, +z is replaced by the front."""
    positions = distances[:, None] * directions(azimuths, elevations)
    ups = torch.zeros_like(positions)
    ups[:, 2] = 1.0
    poles = elevations.abs() > radians(89.9)
    ups[poles] = -directions(azimuths, torch.zeros_like(elevations))[poles] * elevations.sign()[poles, None]
    viewmats = look_at(positions, torch.zeros_like(positions), ups)
    return Cameras(viewmats, pinhole(fovys, size), size, size, azimuths, elevations)


def camera_vectors(cameras: Cameras) -> Float[Tensor, "B 16"]:
    """What a prior that knows cameras is told: the rows of [R | t], then the intrinsics as fractions of the picture.

    The order is R and t row by row (12 numbers), fx / W, fy / H, cx / W, cy / H. All zeros means an unknown camera.
    """
    scale = cameras.Ks.new_tensor([cameras.width, cameras.height])
    focals, centres = cameras.Ks[:, [0, 1], [0, 1]] / scale, cameras.Ks[:, :2, 2] / scale
    return torch.cat([cameras.viewmats[:, :3].flatten(1), focals, centres], dim=1)


def orbit(
    count: int, size: int, *, elevation: float = radians(15), distance: float = 3.4, fovy: float = radians(40)
) -> Cameras:
    """`count` views evenly around the object, the first one its front."""
    azimuths = torch.arange(count) * (2 * pi / count)
    ones = torch.ones(count)
    return around(azimuths, elevation * ones, distance * ones, fovy * ones, size)


@dataclass(frozen=True)
class CameraSampler:
    """The random views of an optimisation step; ranges are (low, high).

    Azimuths are stratified over the batch with one random offset, elevations are uniform on the sphere within their
    range (uniform in the sine; ProlificDreamer's sampler maps the range wrongly), the rest uniform. The defaults show a
    unit sphere whole: it fills 0.75 to 0.96 of the picture's height.
    """

    elevation_range: tuple[float, float] = (radians(-15), radians(75))
    distance_range: tuple[float, float] = (3.2, 3.6)
    fovy_range: tuple[float, float] = (radians(38), radians(42))

    def __call__(self, count: int, size: int, generator: torch.Generator) -> Cameras:
        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(count, generator=generator)

        offset = torch.rand(1, generator=generator)
        azimuths = (torch.arange(count) + offset + 0.5 * torch.rand(count, generator=generator)) * (2 * pi / count)
        low, high = self.elevation_range
        elevations = torch.asin(uniform(sin(low), sin(high)).clamp(-1, 1))
        return around(
            torch.remainder(azimuths, 2 * pi),
            elevations,
            uniform(*self.distance_range),
            uniform(*self.fovy_range),
            size,
        )


def random_backgrounds(
    count: int, generator: torch.Generator, greys: tuple[float, float] = (0.25, 1.0), tint: float = 0.08
) -> Float[Tensor, "B 3"]:
    """Plain backgrounds, grey up to a small `tint` per channel, so that a colour word can only mean the object.

    The defaults are what the built-in prior was trained on.
    """
    low, high = greys
    grey = low + (high - low) * torch.rand(count, 1, generator=generator)
    shift = tint * (2.0 * torch.rand(count, 3, generator=generator) - 1.0)
    return (grey + shift).clamp(0, 1)


def from_front(azimuth: float) -> float:
    """The angle between an azimuth and the front's, from 0 to pi."""
    return abs((azimuth + pi) % (2 * pi) - pi)


def view_word(
    azimuth: float, elevation: float, *, front: float = pi / 4, back: float = pi / 4, overhead: float = pi / 3
) -> str:
    """How people name a view: "front" or "back" up to so far to either side, "overhead" above so much, else "side".

    DreamFusion, section 3.2.
    """
    if elevation > overhead - 1e-9:
        return "overhead"
    away = from_front(azimuth)
    if away <= front:
        return "front"
    return "back" if away >= pi - back else "side"
