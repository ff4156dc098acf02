"""The table of contents: every named part, where it lives, and the paper it comes from. Imports no torch.

A new part is one file and one line here. `find("distiller", "sds")` loads the object; a wrong name raises a
`ValueError` that lists the choices and the nearest match.
"""

from dataclasses import dataclass, fields, is_dataclass, replace
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
DREAMFUSION = "Poole et al., DreamFusion: Text-to-3D using 2D Diffusion, ICLR 2023, arXiv:2209.14988"
SJC = (
    "Wang et al., Score Jacobian Chaining: Lifting Pretrained 2D Diffusion Models for 3D Generation, "
    "CVPR 2023, arXiv:2212.00774"
)
HIFA = (
    "Zhu et al., HiFA: High-fidelity Text-to-3D Generation with Advanced Diffusion Guidance, ICLR 2024, "
    "arXiv:2305.18766"
)
RFDS = "Yang et al., Text-to-Image Rectified Flow as Plug-and-Play Priors, ICLR 2025, arXiv:2406.03293"
MVDREAM = "Shi et al., MVDream: Multi-view Diffusion for 3D Generation, ICLR 2024, arXiv:2308.16512"
LUCIDDREAMER = (
    "Liang et al., LucidDreamer: Towards High-Fidelity Text-to-3D Generation via Interval Score Matching, "
    "CVPR 2024, arXiv:2311.11284"
)
SDI = "Lukoianov et al., Score Distillation via Reparametrized DDIM, NeurIPS 2024, arXiv:2405.15891"
PROLIFICDREAMER = (
    "Wang et al., ProlificDreamer: High-Fidelity and Diverse Text-to-3D Generation with Variational Score "
    "Distillation, NeurIPS 2023, arXiv:2305.16213"
)
DREAMGAUSSIAN = "Tang et al., DreamGaussian: Generative Gaussian Splatting, ICLR 2024, arXiv:2309.16653"
GAUSSIANDREAMER = "Yi et al., GaussianDreamer: Fast Generation from Text to 3D Gaussians, CVPR 2024, arXiv:2310.08529"
GSGEN = "Chen et al., Text-to-3D using Gaussian Splatting, CVPR 2024, arXiv:2309.16585"
LATENT = "Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, CVPR 2022, arXiv:2112.10752"
PERP_NEG = (
    "Armandpour et al., Re-imagine the Negative Prompt Algorithm: Transform 2D Diffusion into 3D, alleviate Janus "
    "problem and Beyond, 2023, arXiv:2304.04968"
)

CATALOG: dict[str, dict[str, Part]] = {
    "recipe": {
        "draft": Part("splatdream.recipe:shipped", "half a minute on two cores: does the prompt work at all?"),
        "normal": Part("splatdream.recipe:shipped", "what is taken unless another is named"),
        "high": Part("splatdream.recipe:shipped", "three times the steps, twice the Gaussians"),
        "dreamgaussian": Part("splatdream.recipe:shipped", "sds in 500 steps of one view", DREAMGAUSSIAN),
        "gaussiandreamer": Part(
            "splatdream.recipe:shipped", "sds in 1200 steps; take --init shap-e with it", GAUSSIANDREAMER
        ),
        "gsgen": Part("splatdream.recipe:shipped", "sds in 15,000 steps, growing in between", GSGEN),
        "luciddreamer": Part("splatdream.recipe:shipped", "ism in 5000 steps of 100,000 Gaussians", LUCIDDREAMER),
        "sdi": Part("splatdream.recipe:shipped", "sdi in 5000 steps, otherwise as luciddreamer", SDI),
        "mvdream": Part("splatdream.recipe:shipped", "recon in 10,000 steps; its prior is `mvdream`", MVDREAM),
        "prolificdreamer": Part("splatdream.recipe:shipped", "vsd in 25,000 steps, on a splat", PROLIFICDREAMER),
    },
    "distiller": {
        "sds": Part("splatdream.distill.sds:SDS", "score distillation sampling", DREAMFUSION),
        "sdedit": Part(
            "splatdream.distill.sdedit:SDEdit",
            "views move towards their own partial denoising",
            "Meng et al., SDEdit: Guided Image Synthesis and Editing with SDEs, ICLR 2022, arXiv:2108.01073",
        ),
        "sjc": Part("splatdream.distill.sjc:SJC", "the score averaged over perturbed views", SJC),
        "csd": Part(
            "splatdream.distill.csd:CSD",
            "the guidance alone, against an annealed negative prompt",
            "Yu et al., Text-to-3D with Classifier Score Distillation, ICLR 2024, arXiv:2310.19415",
        ),
        "nfsd": Part(
            "splatdream.distill.nfsd:NFSD",
            "the guidance and a step back to good pictures, without noise",
            "Katzir et al., Noise-Free Score Distillation, ICLR 2024, arXiv:2310.17590",
        ),
        "hifa": Part(
            "splatdream.distill.hifa:HiFA",
            "latents and pictures move towards a denoising in several steps",
            HIFA,
        ),
        "flow": Part("splatdream.distill.flow:Flow", "the residual of a rectified flow's velocity, on any prior", RFDS),
        "recon": Part(
            "splatdream.distill.recon:Recon",
            "the clean estimate, shrunk to the spread it has without guidance",
            MVDREAM,
        ),
        "bridge": Part(
            "splatdream.distill.bridge:Bridge",
            "from words for what is wrong with the renders to the prompt, after a warm-up",
            "McAllister et al., Rethinking Score Distillation as a Bridge Between Image Distributions, NeurIPS 2024, "
            "arXiv:2406.09417",
        ),
        "ism": Part(
            "splatdream.distill.ism:ISM",
            "interval score matching: the noise comes from unconditional DDIM inversion",
            LUCIDDREAMER,
        ),
        "sdi": Part(
            "splatdream.distill.sdi:SDI",
            "score distillation via inversion: the noise comes from conditional DDIM inversion",
            SDI,
        ),
        "vsd": Part(
            "splatdream.distill.vsd:VSD",
            "variational score distillation: a student learns what the views look like now",
            PROLIFICDREAMER,
        ),
    },
    "timesteps": {
        "linear": Part("splatdream.timesteps:Timesteps", "a draw a view below an end that falls: 0.98 to 0.5"),
        "uniform": Part("splatdream.timesteps:UNIFORM", "a draw a view in a range that stays: 0.02 to 0.98"),
        "deterministic": Part("splatdream.timesteps:DETERMINISTIC", "no draw: falls evenly from 0.98 to 0.02"),
        "sqrt": Part("splatdream.timesteps:SQUARE_ROOT", "no draw: falls with the root of the time, 0.98 to 0.02"),
        "two-stage": Part("splatdream.timesteps:TWO_STAGE", "a draw a view below 0.98, in the second half below 0.5"),
        "dreamfusion": Part("splatdream.timesteps:DREAMFUSION", "a draw a view, 0.02 to 0.98", DREAMFUSION),
        "sjc": Part("splatdream.timesteps:SJC", "a draw a view, 0.01 to 0.97", SJC),
        "magic3d": Part(
            "splatdream.timesteps:MAGIC3D",
            "its fine stage: a draw a view, 0.02 to 0.5",
            "Lin et al., Magic3D: High-Resolution Text-to-3D Content Creation, CVPR 2023, arXiv:2211.10440",
        ),
        "prolificdreamer": Part(
            "splatdream.timesteps:PROLIFICDREAMER",
            "a draw a view below 0.98, after a fifth of the run below 0.5",
            PROLIFICDREAMER,
        ),
        "mvdream": Part(
            "splatdream.timesteps:MVDREAM",
            "a draw a view; the range opens from 0.98 to 0.02..0.5",
            MVDREAM,
        ),
        "hifa": Part("splatdream.timesteps:HIFA", "no draw: falls with the root of the time, 0.98 to 0.3", HIFA),
        "rfds": Part("splatdream.timesteps:RFDS", "a draw a view, 0.02 to 0.7", RFDS),
        "sdi": Part("splatdream.timesteps:SDI", "no draw: falls evenly from 1 to 0.2", SDI),
        "dreamgaussian": Part(
            "splatdream.timesteps:DREAMGAUSSIAN",
            "no draw: falls evenly from 0.98 to 0.02",
            DREAMGAUSSIAN,
        ),
        "gaussiandreamer": Part(
            "splatdream.timesteps:GAUSSIANDREAMER",
            "a draw a view below 0.98, after five twelfths of the run below 0.55",
            GAUSSIANDREAMER,
        ),
        "gsgen": Part(
            "splatdream.timesteps:GSGEN",
            "a draw a view below 0.98, after two fifteenths of the run below 0.5",
            GSGEN,
        ),
        "luciddreamer": Part(
            "splatdream.timesteps:LUCIDDREAMER",
            "one draw for all views below an end that falls for 0.3 of the run: 0.98 to 0.5",
            LUCIDDREAMER,
        ),
        "threestudio": Part(
            "splatdream.timesteps:THREESTUDIO",
            "a draw a view below 0.98, after a fifth of the run below 0.5",
            "Guo et al., threestudio: A Unified Framework for 3D Content Generation, 2023",
        ),
    },
    "view_words": {
        "none": Part("splatdream.priors.view_words:NoWords", "the prompt as it is, whatever the view"),
        "named": Part("splatdream.priors.view_words:Named", "front, side, back or overhead view", DREAMFUSION),
        "perp-neg": Part(
            "splatdream.priors.view_words:PerpNeg",
            "mixtures of neighbouring views, turned away from the wrong ones, with its authors' weights",
            PERP_NEG,
        ),
        "perp-neg-threestudio": Part(
            "splatdream.priors.view_words:PerpNegThreestudio", "the same with threestudio's weights", PERP_NEG
        ),
    },
    "prior": {
        "builtin": Part("splatdream.priors:load_prior", "the prior that ships with splatdream"),
        "builtin-mv": Part("splatdream.priors:load_prior", "the same, seeing four views of it at once", MVDREAM),
    },
    "family": {
        "StableDiffusionPipeline": Part("splatdream.priors.sd:StableDiffusion", "Stable Diffusion 1.x and 2.x", LATENT),
        "StableDiffusionXLPipeline": Part(
            "splatdream.priors.sdxl:StableDiffusionXL",
            "Stable Diffusion XL",
            "Podell et al., SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis, ICLR 2024, "
            "arXiv:2307.01952",
        ),
        "StableDiffusion3Pipeline": Part(
            "splatdream.priors.sd3:StableDiffusion3",
            "Stable Diffusion 3 and 3.5, with T5 or without",
            "Esser et al., Scaling Rectified Flow Transformers for High-Resolution Image Synthesis, ICML 2024, "
            "arXiv:2403.03206",
        ),
        "MVDreamPipeline": Part(
            "splatdream.priors.mvdream:MVDream", "MVDream, four views of an object at a time", MVDREAM
        ),
        "SanaPipeline": Part(
            "splatdream.priors.sana:Sana",
            "SANA, a light flow transformer",
            "Xie et al., SANA: Efficient High-Resolution Image Synthesis with Linear Diffusion Transformers, ICLR "
            "2025, arXiv:2410.10629",
        ),
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
        "sphere": Part("splatdream.init.sphere:Sphere", "grey Gaussians, uniform in a ball"),
        "points": Part(
            "splatdream.init.points:FromPoints",
            "a mesh or point cloud of any common format: points:file=chair.obj",
            GAUSSIANDREAMER,
        ),
        "splat": Part("splatdream.init.splat:FromSplat", "another splat of any format: splat:file=chair.spz"),
        "shap-e": Part(
            "splatdream.init.shap_e:ShapE",
            "what Shap-E makes of the prompt in seconds; `splatdream prior fetch openai/shap-e@refs/pr/11`",
            "Jun and Nichol, Shap-E: Generating Conditional 3D Implicit Functions, 2023, arXiv:2305.02463",
        ),
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
        ".ply": Part("splatdream.export.ply:write_ply", "the layout that splat viewers read, exact", KERBL),
        ".compressed.ply": Part(
            "splatdream.export.compressed_ply:write_compressed_ply", "PlayCanvas' packed PLY, a quarter of the size"
        ),
        ".splat": Part("splatdream.export.splat:write_splat", "32 bytes a Gaussian, no view-dependent colour"),
        ".spz": Part("splatdream.export.spz:write_spz", "Niantic's packed layout, about a tenth of the size"),
        ".sog": Part("splatdream.export.sog:write_sog", "PlayCanvas' pictures of numbers, for the web"),
        ".glb": Part("splatdream.export.gltf:write_glb", "glTF with Khronos' KHR_gaussian_splatting, exact"),
        ".gltf": Part("splatdream.export.gltf:write_gltf", "the same as text"),
        ".html": Part("splatdream.export.html:write_html", "a page to look at, with the viewer inside"),
    },
    "mesh": {
        ".glb": Part("splatdream.mesh.gltf:write_glb", "glTF 2.0 with texture and normal map, for Blender and the web"),
        ".obj": Part("splatdream.mesh.obj:write_obj", "Wavefront, with .mtl and .png beside it"),
        ".ply": Part("splatdream.mesh.ply:write_mesh_ply", "triangles with colours at the vertices"),
        ".stl": Part("splatdream.mesh.stl:write_stl", "the shape alone, for printing"),
    },
    "reader": {
        ".ply": Part("splatdream.export.ply:load_ply", "splats in PLY of any tool", KERBL),
        ".compressed.ply": Part("splatdream.export.ply:load_ply", "PlayCanvas' packed PLY"),
        ".splat": Part("splatdream.export.splat:load_splat", "32 bytes a Gaussian"),
        ".spz": Part("splatdream.export.spz:load_spz", "Niantic's packed layout, versions 1 to 4"),
        ".sog": Part("splatdream.export.sog:load_sog", "PlayCanvas' pictures of numbers, version 2"),
        ".glb": Part("splatdream.export.gltf:load_gltf", "glTF with Khronos' KHR_gaussian_splatting"),
        ".gltf": Part("splatdream.export.gltf:load_gltf", "the same as text"),
    },
}
ANNEALED = "splatdream.distill.annealed:Annealed"
"""What a rule becomes whose numbers change during the run."""


def choose(what: str, name: str, choices: list[str]) -> str:
    """`name` if it is among `choices`, else a ValueError that teaches."""
    if name in choices:
        return name
    near = get_close_matches(name, choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {what} {name!r}: choose one of {', '.join(choices)}{hint}")


def find(kind: str, name: str) -> Any:
    """The object behind a name; this imports its module."""
    return load(CATALOG[kind][choose(kind, name, list(CATALOG[kind]))].target)


def load(target: str) -> Any:
    """The object that "module:object" names."""
    module, attribute = target.split(":")
    return getattr(import_module(module), attribute)


def configured(kind: str, spec: str) -> Any:
    """The part that "name:field=value,field=value" describes.

    A part is a dataclass of its options, or one made of it, some of whose options are changed. A number of a rule may
    be written "first..last": it passes from one to the other over the run.
    """
    name, _, options = spec.partition(":")
    maker = find(kind, name)
    if not is_dataclass(maker):
        raise ValueError(f"{kind} {name!r} has no options")
    types = {field.name: getattr(maker, field.name, field.default) for field in fields(maker)}
    values: dict[str, Any] = {}
    last: dict[str, Any] = {}
    for option in filter(None, options.split(",")):
        key, equals, text = option.partition("=")
        choose(f"option of {name}", key.strip(), list(types))
        if not equals:
            raise ValueError(f"option {key!r} of {name} needs a value: {name}:{key}=VALUE")
        like, what = types[key.strip()], f"{name}:{key.strip()}"
        if kind == "distiller" and isinstance(like, float) and ".." in text:
            text, _, end = text.partition("..")
            last[key.strip()] = parse(end.strip(), like, what)
        values[key.strip()] = parse(text.strip(), like, what)
    part = maker(**values) if isinstance(maker, type) else replace(maker, **values)
    return load(ANNEALED)(part, replace(part, **last)) if last else part


def parse(text: str, like: Any, name: str) -> Any:
    """`text` read as the type of `like`; a pair is written "low..high", or as the one number that both are."""
    try:
        if isinstance(like, bool):
            return {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}[text.lower()]
        if isinstance(like, tuple):
            values = tuple(type(like[0])(piece) for piece in text.split(".." if ".." in text else ","))
            if len(values) not in (1, len(like)):
                raise ValueError
            return values if len(values) == len(like) else values * len(like)
        value = text if isinstance(like, str) else type(like)(text)
        if value != value:  # NaN; infinity may mean "no limit"
            raise ValueError
        return value
    except (KeyError, ValueError) as error:
        shape = "LOW..HIGH" if isinstance(like, tuple) else f"a {type(like).__name__}"
        raise ValueError(f"{name} is {shape}, like {like!r}; got {text!r}") from error
