"""The one build of gsplat's kernels, announced before it begins."""

from splatdream_cli.console import duration, stderr


def prepare_kernels() -> None:
    """Builds gsplat's kernels if this machine lacks them and can: one process at a time, and said beforehand."""
    from splatdream.render.gsplat import compiled
    from splatdream.render.gsplat_build import job_count, kernels

    found = kernels()
    if found.state == "unbuilt":
        minutes = duration(60 * found.minutes)
        stderr().print(f"building gsplat's CUDA kernels, once: about {minutes} with MAX_JOBS={job_count()}")
        compiled()
