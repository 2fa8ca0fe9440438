"""Products and nodes shared out over pools: each pool a queue of its own, with the nodes that serve it."""

from __future__ import annotations

from collections.abc import Mapping

from bench.plant.lines import Plant


def pool_of_groups(plant: Plant, pools: int) -> dict[str, str]:
    """group -> pool: the busiest group first, each to the pool with the least to do. ValueError for too many pools."""
    demand: dict[str, float] = {}
    for line in plant.lines:
        demand[line.product.group] = demand.get(line.product.group, 0.0) + 1 / line.takt_s
    if not 1 <= pools <= len(demand):
        raise ValueError(f"{pools} pools for {len(demand)} models: there must be one, and no more than models")
    load = {f"pool-{number}": 0.0 for number in range(pools)}
    found: dict[str, str] = {}
    for group in sorted(demand, key=lambda name: (-demand[name], name)):
        pool = min(load, key=lambda name: load[name])
        found[group] = pool
        load[pool] += demand[group]
    return found


def nodes_of_pools(plant: Plant, pool_of: Mapping[str, str], nodes: int) -> dict[str, int]:
    """pool -> nodes, by what there is to do, at least one each. ValueError for fewer nodes than pools."""
    demand: dict[str, float] = {}
    for line in plant.lines:
        pool = pool_of[line.product.group]
        demand[pool] = demand.get(pool, 0.0) + 1 / line.takt_s
    if nodes < len(demand):
        raise ValueError(f"{nodes} nodes for {len(demand)} pools: each pool needs a node of its own")
    found = dict.fromkeys(sorted(demand), 1)
    for _ in range(nodes - len(demand)):
        neediest = max(found, key=lambda name: demand[name] / found[name])
        found[neediest] += 1
    return found
