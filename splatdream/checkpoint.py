"""A run's state in one safetensors file: what is needed to go on bit for bit, and nothing that is executed on reading.

Tensors are named `splats.means`, `optimiser.exp_avg.means`, `densifier.*`, `rule.*`, `generators.cameras`; the step,
the pace, the recipe and the generators' devices travel in the header as JSON, with a checksum of all.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from splatdream import __version__
from splatdream.export.atomic import atomic_write
from splatdream.loop import State
from splatdream.optim import SplatOptimiser
from splatdream.recipe import Recipe
from splatdream.splats import Splats

FORMAT = "splatdream state 2"


class OtherVersion(ValueError):  # noqa: N818
    """A whole state that another version of splatdream wrote."""


def snapshot(state: State) -> State:
    """The state with generators of its own, which later steps do not advance."""
    return replace(state, generators={name: value.clone_state() for name, value in state.generators.items()})


def save_state(state: State, path: str | Path, recipe: Recipe) -> None:
    """The state as one file, atomically."""
    tensors = {
        **_prefixed("splats", state.splats.parameters()),
        **_prefixed("optimiser", state.optimiser.state_dict()),
        **_prefixed("densifier", state.densifier),
        **_prefixed("rule", state.rule or {}),
        **_prefixed("generators", {name: value.get_state() for name, value in state.generators.items()}),
    }
    # safetensors refuses tensors that share memory, as expanded or sliced ones do.
    alone = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    header = {
        "format": FORMAT,
        "splatdream": __version__,
        "step": state.step,
        "pace": state.pace,
        "recipe": asdict(recipe),
        "has_rule": state.rule is not None,
        "generators": {name: str(value.device) for name, value in state.generators.items()},
    }
    text = json.dumps(header)
    with atomic_write(path) as file:
        file.write(save(alone, metadata={"splatdream": text, "sha256": checksum(text, alone)}))


def load_state(path: str | Path, *, device: str | torch.device = "cpu") -> State:
    """The state in a file, on `device`. ValueError, saying why, for a file that is damaged or is no state.

    OSError where it cannot be read at present, which says nothing of what it holds.
    """
    header, tensors = _read(Path(path))
    try:
        return State(
            splats=Splats(**_under("splats", tensors, device)),
            optimiser=SplatOptimiser.from_state_dict(_under("optimiser", tensors, device)),
            densifier=_under("densifier", tensors, device),
            rule=_under("rule", tensors, device) if header["has_rule"] else None,
            generators=_generators(header["generators"], _under("generators", tensors, "cpu")),
            step=header["step"],
            pace=header["pace"],
        )
    except torch.OutOfMemoryError:
        raise
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path} lacks a part of the state: {error}") from error


def load_recipe(path: str | Path) -> Recipe:
    """The recipe that led to the state in a file, without its tensors. ValueError as in `load_state`."""
    with _opened(Path(path)) as file:
        header = _header(path, file.metadata())
    try:
        return Recipe.from_table(header["recipe"], path)
    except ValueError as error:
        raise OtherVersion(str(error)) from error


def checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of a header's text and of every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with _opened(path) as file:
        metadata = file.metadata() or {}
        # Copied, since the file is a memory map and Windows could not replace it while one is alive.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    text = metadata.get("splatdream")
    if text is None:
        raise ValueError(f"{path} is a safetensors file, but no state of a splatdream run")
    # Before anything is believed that the header says.
    if metadata.get("sha256") != checksum(text, tensors):
        raise ValueError(f"{path} is damaged: its checksum is wrong")
    return _header(path, metadata), tensors


def _opened(path: Path):
    if not path.is_file():
        raise FileNotFoundError(f"there is no state at {path}")
    if not path.stat().st_size:
        raise ValueError(f"{path} is no complete state: it is empty")
    with path.open("rb"):
        pass  # a file that cannot be opened is not damaged, and says so better here
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{path} is no complete state: {error}") from error


def _header(path: str | Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    try:
        header = json.loads((metadata or {})["splatdream"])
    except (KeyError, json.JSONDecodeError):
        raise ValueError(f"{path} is a safetensors file, but no state of a splatdream run") from None
    if header.get("format") != FORMAT:
        raise OtherVersion(
            f"{path} is a {header.get('format')!r} of splatdream {header.get('splatdream')}; "
            f"this one is {__version__} and reads a {FORMAT!r}: go on with the version that began the run"
        )
    return header


def _generators(devices: dict[str, str], states: dict[str, Tensor]) -> dict[str, torch.Generator]:
    generators = {name: torch.Generator(device=device) for name, device in devices.items()}
    for name, generator in generators.items():
        generator.set_state(states[name])
    return generators


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor], device: str | torch.device) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): value.to(device) for name, value in tensors.items() if name.startswith(start)}
