"""The stages of training the built-in prior: pictures, autoencoder, latents, UNet; each taken up where it stopped."""

import argparse
from zlib import crc32

from splatdream.corpus.captions import vocabulary
from splatdream.train.autoencoder import AutoencoderRun
from splatdream.train.denoiser import DenoiserRun, encode_shards
from splatdream.train.folder import write_prior
from splatdream.train.follow import follow
from splatdream.train.pictures import make_shards
from splatdream.train.text import new_tokenizer

SIZE = 128


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
