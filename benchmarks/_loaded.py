"""Imported by the process from which trials are forked: what every run loads is loaded here, once.

No gradient is computed, since torch's autograd may refuse to work after a fork.
"""

import tempfile
from pathlib import Path

import torch
from tiny import tiny_prior_folder

import splatdream_cli.main  # noqa: F401
from splatdream import session
from splatdream.check import check_splats
from splatdream.check.criteria import read_criteria
from splatdream.check.tidy import tidied
from splatdream.init.sphere import Sphere
from splatdream.manifest import origin_of
from splatdream.priors import load_prior
from splatdream.recipe import Recipe

with tempfile.TemporaryDirectory() as folder:
    prior = str(tiny_prior_folder(Path(folder) / "prior"))
    recipe = Recipe("a red mug", count=30, device="cpu", renderer="dense", prior=prior)
    load_prior(prior, recipe.prompt)
    origin_of(recipe, Path(prior))
    splats = tidied(Sphere()(30, torch.Generator().manual_seed(0)), read_criteria("splats"))
    check_splats(splats)
    session.write(splats, Path(folder) / "a.ply")
