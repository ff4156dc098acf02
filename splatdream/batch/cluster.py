"""The engine on a Ray cluster: workers as actors, on any number of machines that see the batch's folder.

Ray finds a place for each worker and tells when one is lost; who does which job is decided by the claims alone.
"""

import logging
import os
import threading
from collections.abc import Generator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from splatdream.batch.claims import Claims, Hopeless, new_worker
from splatdream.batch.local import LEAVE_SECONDS, Patience
from splatdream.cache import tell_compilers

POLL_SECONDS = 1.0


class Worker:
    """What Ray runs: one call works, another one, beside it, asks it to stop."""

    def __init__(self) -> None:
        self.stop = threading.Event()

    def work(
        self, batch: str, name: str, retries: int, stale_seconds: float, cache: str | None, environment: dict[str, str]
    ) -> None:
        os.environ.update(environment)
        if cache is not None:
            tell_compilers(Path(cache), os.environ)  # before they are loaded
        from splatdream.batch.worker import work

        options = {"retries": retries, "stale_seconds": stale_seconds, "cache": Path(cache) if cache else None}
        work(Path(batch), name, self.stop, **options)

    def leave(self) -> None:
        self.stop.set()


def join(address: str | None) -> Any:
    """Ray, in the cluster at `address` ("auto": this machine's; None: a new one of this machine alone).

    ImportError where Ray is not installed, ConnectionError where there is no cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError("--engine ray needs Ray: pip install 'splatdream[ray]'") from error
    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    return ray


def places(ray: Any, cpus: float, gpus: float) -> int:
    """How many workers the cluster has room for at present."""
    has = ray.cluster_resources()
    room = has.get("GPU", 0.0) / gpus if gpus else has.get("CPU", 0.0) / cpus
    return max(1, int(room))


def run_ray(
    ray: Any,
    batch: Path,
    claims: Claims,
    count: int,
    *,
    cpus: float = 1.0,
    gpus: float = 0.0,
    cache: Path | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Generator[list[str], None, None]:
    """As `local.run_local`, with `count` workers of so many cores and GPUs each; those without a place yet wait.

    `cache` is a path on whichever machine a worker finds its place; `environment` is what each is told beside.
    """
    Actor = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_concurrency=2)(Worker)
    crew: dict[Any, tuple[str, Any]] = {}
    patience = Patience(claims, count)

    def start() -> None:
        name, actor = new_worker(), Actor.remote()
        kept = str(cache) if cache is not None else None
        told = claims.retries, claims.stale_seconds, kept, dict(environment)
        working = actor.work.remote(str(batch), name, *told)
        crew[working] = name, actor

    try:
        for _ in range(count):
            start()
        while crew and not (nobody_works(claims, crew) and claims.over()):
            yield [name for name, _ in crew.values()]
            ready, _ = ray.wait(list(crew), timeout=POLL_SECONDS)
            for working in ready:
                name, _ = crew.pop(working)
                try:
                    ray.get(working)
                    continue
                except ray.exceptions.RayError as error:
                    if isinstance(getattr(error, "cause", None), Hopeless):
                        raise Hopeless(str(error.cause)) from error
                    why = " ".join(str(error).split())[:300]
                    erred = isinstance(error, ray.exceptions.RayTaskError)
                how = f"by Ray's account: {why}"
                held = claims.bury(name, how)
                patience.bear(how, killed=held > 0 and not erred)
                if not claims.over():
                    start()
    finally:
        stop(ray, crew, claims)


def nobody_works(claims: Claims, crew: dict[Any, tuple[str, Any]]) -> bool:
    """Whether all that are left in the crew never got a place."""
    return not claims.workers().keys() & {name for name, _ in crew.values()}


def stop(ray: Any, crew: dict[Any, tuple[str, Any]], claims: Claims) -> None:
    """Lets the workers save what they have and go; those without a place, or out of reach, are given up."""
    at_work = claims.workers()
    reachable = [working for working, (name, _) in crew.items() if name in at_work]
    for working in reachable:
        crew[working][1].leave.remote()
    if reachable:
        ray.wait(reachable, num_returns=len(reachable), timeout=LEAVE_SECONDS)
    for _, actor in crew.values():
        ray.kill(actor)
