"""`python -m splatdream.train prior|judges`: trains what ships under assets/, from nothing but the corpus."""

import argparse
import os
import time
from pathlib import Path

# Torch's threads spin while they wait; on a busy machine that made steps ten times slower. Read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from splatdream.corpus.kinds import KINDS
from splatdream.train.judges import teach_judges
from splatdream.train.prior import train_prior


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m splatdream.train", description=__doc__)
    parser.add_argument("what", choices=["prior", "judges"])
    parser.add_argument("--hours", type=float, default=3.0, help="wall clock of this call, all stages together")
    parser.add_argument("--work", type=Path, default=Path("runs/train"), help="pictures and checkpoints; kept")
    parser.add_argument("--out", type=Path, default=Path("assets"), help="where the trained folder is written")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS), metavar="KIND")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shards", type=int, default=30, help="picture shards of 2000")
    parser.add_argument("--autoencoder-steps", type=int, default=2500)
    parser.add_argument("--steps", type=int, default=6000, help="steps of the UNet, or of the judges")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 takes torch's own choice")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="for drawing pictures")
    options = parser.parse_args()
    if options.batch < 8 or options.batch % 8:
        parser.error("--batch is a multiple of 8: half of it are single views, half groups of four")
    if options.threads:
        torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 3600 * options.hours
    finished = (train_prior if options.what == "prior" else teach_judges)(options, deadline)
    print("done" if finished else "out of time: the same command goes on from the last checkpoint", flush=True)


if __name__ == "__main__":
    main()
