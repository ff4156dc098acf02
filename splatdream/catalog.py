"""The table of contents: every named part, where it lives, and the paper it comes from. Imports no torch.

A new part is one file and one line here. `find("distiller", "sds")` loads the object; a wrong name raises a
`ValueError` that lists the choices and the nearest match.
"""

from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Part:
    target: str  # "module:object"
    summary: str
    paper: str = ""


KERBL = "Kerbl et al., 3D Gaussian Splatting for Real-Time Radiance Field Rendering, SIGGRAPH 2023, arXiv:2308.04079"
ZWICKER = "Zwicker et al., EWA Splatting, TVCG 2002"

CATALOG: dict[str, dict[str, Part]] = {
    "distiller": {
        "sds": Part(
            "splatdream.distill.sds:SDS",
            "score distillation sampling",
            "Poole et al., DreamFusion: Text-to-3D using 2D Diffusion, ICLR 2023, arXiv:2209.14988",
        ),
        "sdedit": Part(
            "splatdream.distill.sdedit:SDEdit",
            "views move towards their own partial denoising",
            "Meng et al., SDEdit: Guided Image Synthesis and Editing with SDEs, ICLR 2022, arXiv:2108.01073",
        ),
    },
    "prior": {
        "builtin": Part("splatdream.priors:load_prior", "the prior that ships with splatdream"),
    },
    "renderer": {
        "cpu": Part("splatdream.render.cpu:render", "parallel numba kernels, the default without CUDA", ZWICKER),
        "gsplat": Part(
            "splatdream.render.gsplat:render",
            "gsplat's CUDA rasteriser, the default with CUDA",
            "Ye et al., gsplat: An Open-Source Library for Gaussian Splatting, JMLR 2025, arXiv:2409.06765",
        ),
        "dense": Part("splatdream.render.dense:render", "plain torch, slow and obviously right: the reference", KERBL),
    },
    "init": {
        "sphere": Part("splatdream.init.sphere:sphere", "grey Gaussians, uniform in a ball"),
    },
    "densifier": {
        "fixed": Part("splatdream.densify.fixed:Fixed", "keeps the Gaussians it is given"),
        "gradient": Part(
            "splatdream.densify.gradient:GradientGrowth", "clone, split and prune by screen gradient", KERBL
        ),
        "mcmc": Part(
            "splatdream.densify.mcmc:MCMC",
            "relocation of dead Gaussians and noise on means",
            "Kheradmand et al., 3D Gaussian Splatting as Markov Chain Monte Carlo, NeurIPS 2024, arXiv:2404.09591",
        ),
    },
    "exporter": {
        ".ply": Part("splatdream.export.ply:write_ply", "the layout that splat viewers read", KERBL),
    },
}


def choose(what: str, name: str, choices: list[str]) -> str:
    """`name` if it is among `choices`, else a ValueError that teaches."""
    if name in choices:
        return name
    near = get_close_matches(name, choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {what} {name!r}: choose one of {', '.join(choices)}{hint}")


def find(kind: str, name: str) -> Any:
    """The object behind a name; this imports its module."""
    part = CATALOG[kind][choose(kind, name, list(CATALOG[kind]))]
    module, attribute = part.target.split(":")
    return getattr(import_module(module), attribute)


def configured(kind: str, spec: str) -> Any:
    """The part that "name:field=value,field=value" describes, for parts that are dataclasses of their options."""
    name, _, options = spec.partition(":")
    maker = find(kind, name)
    if not is_dataclass(maker):
        raise ValueError(f"{kind} {name!r} has no options")
    types = {field.name: field.default for field in fields(maker)}
    values = {}
    for option in filter(None, options.split(",")):
        key, equals, text = option.partition("=")
        choose(f"option of {name}", key.strip(), list(types))
        if not equals:
            raise ValueError(f"option {key!r} of {name} needs a value: {name}:{key}=VALUE")
        values[key.strip()] = parse(text.strip(), types[key.strip()], f"{name}:{key.strip()}")
    return maker(**values)  # type: ignore[operator]


def parse(text: str, like: Any, name: str) -> Any:
    """`text` read as the type of `like`; a pair is written "low..high"."""
    try:
        if isinstance(like, bool):
            return {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}[text.lower()]
        if isinstance(like, tuple):
            values = tuple(type(like[0])(piece) for piece in text.split(".." if ".." in text else ","))
            if len(values) != len(like):
                raise ValueError
            return values
        value = text if isinstance(like, str) else type(like)(text)
        if value != value:  # NaN; infinity may mean "no limit"
            raise ValueError
        return value
    except (KeyError, ValueError) as error:
        shape = "LOW..HIGH" if isinstance(like, tuple) else f"a {type(like).__name__}"
        raise ValueError(f"{name} is {shape}, like {like!r}; got {text!r}") from error
