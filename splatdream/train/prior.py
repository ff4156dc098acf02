"""The stages of training the built-in prior: pictures, autoencoder, latents, UNet; each taken up where it stopped."""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from splatdream.corpus.captions import vocabulary
from splatdream.export.atomic import atomic_write
from splatdream.train.autoencoder import AutoencoderRun
from splatdream.train.denoiser import DenoiserRun, encode_shards
from splatdream.train.folder import write_prior
from splatdream.train.pictures import make_shards
from splatdream.train.text import new_tokenizer

SIZE = 128
EVERY = 100
"""Steps between progress lines; checkpoints come every fifth of them."""


def train_prior(options: argparse.Namespace, deadline: float) -> bool:
    """All stages within the deadline; False when time ran out first.

    An unfinished UNet's averaged weights are worth looking at, so its folder is written too.
    """
    shards = make_shards(
        options.work / f"pictures-{len(options.kinds)}-{crc32(' '.join(options.kinds).encode()):08x}",
        options.shards,
        SIZE,
        kinds=tuple(options.kinds),
        processes=options.processes,
    )
    autoencoder = AutoencoderRun.new(options.autoencoder_steps, options.seed)
    autoencoder.model.to(options.device)
    steps = autoencoder.train(shards, options.batch, options.seed)
    if not follow("autoencoder", autoencoder, steps, options.work / "autoencoder.pt", deadline):
        return False
    vae = autoencoder.model.eval().requires_grad_(False)
    tokenizer = new_tokenizer(vocabulary(options.kinds))
    lessons = encode_shards(shards, vae, tokenizer, options.device)
    deviation = float(lessons.latents[:4000].float().std())
    run = DenoiserRun.new(tokenizer, options.steps, options.seed)
    run.expect(lessons.cameras)
    run.to(options.device)
    steps = run.train(lessons.scaled(deviation), options.batch, options.seed)
    finished = follow("unet", run, steps, options.work / "unet.pt", deadline)
    write_prior(options.out / "prior", vae, deviation, run.average, tokenizer)
    return finished


def follow(
    name: str, run: AutoencoderRun | DenoiserRun, steps: Iterator[tuple[int, float]], path: Path, deadline: float
) -> bool:
    """Trains from the checkpoint at `path`, if any, until the end or the deadline; the losses are kept beside it."""
    if path.exists():
        run.load(torch.load(path, weights_only=True))
    if run.step >= run.total:
        return True
    began, first, losses = time.monotonic(), run.step, []
    for step, loss in steps:
        losses.append(loss)
        done, late = step == run.total, time.monotonic() > deadline
        if step % EVERY == 0 or done or late:
            pace = (time.monotonic() - began) / (step - first)
            print(f"{name} step {step}/{run.total} loss {np.mean(losses[-EVERY:]):.4f} {pace:.3f} s/step", flush=True)
            with path.with_suffix(".jsonl").open("a") as log:
                log.write(json.dumps({"step": step, "loss": float(np.mean(losses[-EVERY:]))}) + "\n")
        if step % (5 * EVERY) == 0 or done or late:
            save(run.state, path)
        if late and not done:
            return False
    return True


def save(state: Callable[[], dict[str, Tensor]], path: Path) -> None:
    with atomic_write(path) as file:
        torch.save(state(), file)
