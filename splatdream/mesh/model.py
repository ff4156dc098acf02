"""Model: a textured mesh as files have it. V vertices, repeated along the cuts of its atlas; S x S texels."""

import io
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from splatdream.export.axes import QUARTER_TURNS, Axes, about_x, known
from splatdream.mesh.surface import Surface

METALLIC, ROUGHNESS = 0.0, 1.0


@dataclass(frozen=True)
class Model:
    """World units and axes of the splats; u to the right, v down; pictures in [0, 1], display-referred colours."""

    surface: Surface
    normals: Float[np.ndarray, "V 3"]
    tangents: Float[np.ndarray, "V 4"]
    uvs: Float[np.ndarray, "V 2"]
    base_colour: Float[np.ndarray, "S S 3"]
    normal_map: Float[np.ndarray, "S S 3"]

    def turned(self, up: Axes) -> "Model":
        """The model in the axes of a file. ValueError for an unknown convention."""
        rotation = about_x(QUARTER_TURNS[known(up)])[1].numpy()

        def turn(vectors: np.ndarray) -> np.ndarray:
            return (vectors @ rotation.T).astype(np.float32)

        surface = Surface(turn(self.surface.vertices), self.surface.faces)
        tangents = np.concatenate([turn(self.tangents[:, :3]), self.tangents[:, 3:]], axis=1)
        return replace(self, surface=surface, normals=turn(self.normals), tangents=tangents)

    def colours_at(self, uvs: Float[np.ndarray, "T 2"]) -> Float[np.ndarray, "T 3"]:
        """Base colours, interpolated between the four nearest texels."""
        size = len(self.base_colour)
        where = np.clip(uvs[:, ::-1] * size - 0.5, 0, size - 1 - 1e-4)
        low = np.floor(where).astype(int)
        shares = (where - low).astype(np.float32)
        total = np.zeros((len(uvs), 3), np.float32)
        for di in range(2):
            for dj in range(2):
                weight = np.abs(1 - np.array([di, dj]) - shares).prod(axis=1, keepdims=True)
                total += weight * self.base_colour[low[:, 0] + di, low[:, 1] + dj]
        return total


def png(picture: Float[np.ndarray, "S S 3"]) -> bytes:
    """The picture in eight bits a channel."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(np.rint(picture.clip(0, 1) * 255).astype(np.uint8)).save(content, format="PNG")
    return content.getvalue()
