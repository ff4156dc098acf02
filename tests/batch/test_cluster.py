"""A real Ray cluster of three nodes on one machine: a worker and a node die, and nothing is lost or done twice."""

import os
import random
import sys

import pytest
from tiny import tiny_prior_folder
from trials import TINY, begun, whole

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(monkeypatch):
    """A head without room for work, and two nodes with a core each."""
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "300")  # a busy machine is slow to start them
    here = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [here.add_node(num_cpus=1) for _ in range(2)]
    yield here, nodes
    ray.shutdown()
    here.shutdown()


def test_a_worker_and_a_node_die_and_their_prompts_go_on(cluster, tmp_path) -> None:
    from splatdream.batch.cluster import join, places, run_ray

    here, nodes = cluster
    base = TINY.replace(prior=str(tiny_prior_folder(tmp_path / "tiny")), steps=6)
    jobs, claims = begun(tmp_path / "b", [base.replace(seed=seed) for seed in range(12)], retries=5, stale_seconds=20.0)
    joined = join(here.address)
    assert places(joined, 1.0, 0.0) == 2
    chance, killed, lost = random.Random(0), set(), False
    for _ in run_ray(joined, tmp_path / "b", claims, 2):
        done = len(claims.jobs("done"))
        working = [status for status in claims.workers().values() if status["job"]]
        if working and not killed and done >= 2:
            killed.add(chance.choice(working)["pid"])
            os.kill(next(iter(killed)), 9)
        if done >= 5 and not lost:
            here.remove_node(nodes[0], allow_graceful=False)
            lost = True
    print(f"\n{len(jobs)} prompts, {len(killed)} worker and {int(lost)} node killed", file=sys.stderr)
    assert killed
    assert lost
    assert whole(tmp_path / "b", jobs, claims) == []
