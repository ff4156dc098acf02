"""Training data made on the spot: random scenes of the corpus, seen by the optimiser's own cameras, with captions."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from splatdream.cameras import CameraSampler, camera_vectors, random_backgrounds, view_word
from splatdream.corpus.captions import DEGRADATIONS, caption, training_scene
from splatdream.corpus.kinds import KINDS
from splatdream.corpus.scenes import build
from splatdream.corpus.truth import render_truth
from splatdream.export.atomic import atomic_write
from splatdream.priors.multi_view import VIEWS
from splatdream.train.degrade import degrade

EMPTY_SHARE, VIEW_SHARE, DEGRADED_SHARE = 0.10, 0.80, 0.08


@dataclass(frozen=True)
class Pictures:
    """S captioned 8-bit pictures with their cameras, as `camera_vectors` tells them to a prior."""

    images: np.ndarray  # S H W 3, uint8
    captions: list[str]
    cameras: np.ndarray  # S 16, float32

    def __len__(self) -> int:
        return len(self.captions)


def _write_caption(words: str, azimuth: float, elevation: float, spoiled: str | None, rng: np.random.Generator) -> str:
    if rng.random() < EMPTY_SHARE:
        return "" if spoiled is None else spoiled
    if rng.random() < VIEW_SHARE:
        words += f", {view_word(azimuth, elevation)} view"
    return words if spoiled is None else f"{words}, {spoiled}"


def make_pictures(count: int, size: int, seed: int, kinds: Sequence[str] = tuple(KINDS)) -> Pictures:
    """`count` pictures (rounded up to whole scenes) of things of these kinds, the same for the same seed."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    sampler = CameraSampler()
    images, captions, seen = [], [], []
    for _ in range(-(-count // VIEWS)):
        scene = training_scene(rng, kinds)
        cameras = sampler(VIEWS, size, generator)
        backgrounds = random_backgrounds(VIEWS, generator)
        drawn = render_truth(build(scene), cameras).over(backgrounds[:, None, None])
        for k in range(VIEWS):
            spoiled = str(rng.choice(DEGRADATIONS)) if rng.random() < DEGRADED_SHARE else None
            image = drawn[k] if spoiled is None else degrade(drawn[k], spoiled, generator)
            azimuth, elevation = float(cameras.azimuths[k]), float(cameras.elevations[k])
            images.append((image.clamp(0, 1) * 255).round().byte().numpy())
            captions.append(_write_caption(caption(scene, rng), azimuth, elevation, spoiled, rng))
        seen.append(camera_vectors(cameras).numpy())
    return Pictures(np.stack(images), captions, np.concatenate(seen))


def _make_shard(path: Path, count: int, size: int, seed: int, kinds: Sequence[str]) -> Path:
    torch.set_num_threads(1)
    pictures = make_pictures(count, size, seed, kinds)
    with atomic_write(path) as file:
        np.savez(file, images=pictures.images, captions=np.array(pictures.captions), cameras=pictures.cameras)
    return path


def make_shards(
    folder: Path,
    shards: int,
    size: int,
    *,
    kinds: Sequence[str] = tuple(KINDS),
    per_shard: int = 2000,
    processes: int = 2,
) -> list[Path]:
    """Shards of pictures under `folder`, seeded by their number; those already there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"pictures-{size}-{k:04d}.npz" for k in range(shards)]
    missing = [(path, per_shard, size, k, kinds) for k, path in enumerate(paths) if not path.exists()]
    if missing:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            list(pool.map(_make_shard, *zip(*missing, strict=True)))
    return paths


def load_shard(path: Path) -> Pictures:
    with np.load(path) as stored:
        return Pictures(stored["images"], stored["captions"].tolist(), stored["cameras"])
