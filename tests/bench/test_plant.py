"""The plant in virtual time: nothing lost, nothing doubled, the same by the same seed, and what the hand adds up."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from bench.plant.arithmetic import mean_comparisons, mean_device_s, mean_nodes
from bench.plant.device import SimulatedRunner, Spent
from bench.plant.figures import figures
from bench.plant.lines import Habits, Line, Outcomes, Picture, Plant, Product, mixed_plant, shots
from bench.plant.node import NodeSettings
from bench.plant.parts import Decoded, Loaded
from bench.plant.pools import nodes_of_pools, pool_of_groups
from bench.plant.search import smallest
from bench.plant.simulation import Fleet, Loss, Measured, Shift, Story, simulate
from bench.plant.steps import Clock, StepTimes
from bench.plant.timeline import LocalClock, Timeline
from glad.settings.method import MethodSettings
from service.contract import Priority, State

TIMES = StepTimes(
    device="cpu",
    device_name="",
    engine="by hand",
    threads=1,
    clock=Clock.WALL,
    product="toy",
    version="1",
    settings=MethodSettings(resolution=64, start=400, steps=4, t_min=200, trigger={"delta": 0.1}),
    encode_s=0.25,
    denoise_s=(0.125, 0.25),
    compare_s=(0.5, 1.0),
    finish_s=0.25,
    decode_s=0.0625,
    draw_s=0.125,
    load_s=0.5,
    image_bytes=1000,
    artifact_bytes=2000,
)
GRID = TIMES.settings.grid
SECOND = Outcomes("by hand", good=(GRID[1],), defect=(GRID[1],))
"""Every image triggers at the second step of its four: two comparisons."""
MEASURED = Measured(TIMES, {"all": SECOND})
ALONE_S = 0.0625 + 0.25 + 4 * 0.125 + 2 * 0.5 + 0.25 + 0.125
"""Read, encode, four steps of which two compare, finish, draw: 2.1875 s."""
STEADY = Habits(jitter=0.0, stop_every_s=1e9, defect_share=0.0)
FOUR = NodeSettings(lanes=2, max_bundles=4)


def one_product(*takts: float, priority: Priority = Priority.NORMAL, deadline_ms: int | None = None) -> Plant:
    """A line per takt, all of one product."""
    product = Product("product", "unet", "all")
    lines = [Line(f"line-{n}", product, takt, priority, deadline_ms) for n, takt in enumerate(takts)]
    return Plant(tuple(lines), STEADY)


def several_products(seed: int = 0) -> Plant:
    """Six lines of six products, two of them in one model, with stops and jitter."""
    return mixed_plant(
        6, 6, ("all",), sharing=2, deadline_s=30.0, habits=Habits(stop_every_s=40.0, stop_s=10.0), seed=seed
    )


def is_sound(story: Story) -> bool:
    """Every accepted part has its one end."""
    return sorted(end.part.id for end in story.ends) == sorted(part.id for part in story.accepted)


def test_parts_that_never_meet_take_what_the_hand_adds_up() -> None:
    story = simulate(one_product(10.0), Fleet(1, FOUR), Shift(60.0), MEASURED)
    assert [end.took_s for end in story.ends] == pytest.approx([ALONE_S] * 6)
    assert [(spent.claims, spent.choices) for spent in story.spent.values()] == [(6, 0)]


def test_two_pictures_at_once_take_the_ways_that_the_engine_gives_them() -> None:
    # An image compares at its first step only. The engine claims the second one when it has listened to its codec
    # threads for 0.05 s. The first is read at 0.0625, takes its lane and one step alone; then the second enters, and
    # three steps take both of them; the first is finished before the second takes its last step alone.
    taken = (Picture(0.0, GRID[0]), Picture(0.0, GRID[0]))
    story = simulate(one_product(1.0), Fleet(1, FOUR), Shift(1.0, taken=taken), MEASURED)
    alone = 0.0625 + 0.25 + (0.125 + 0.5)
    both = 0.25 + (0.25 + 0.5) + 0.25 + 0.25
    first = alone + both + 0.25
    assert [end.at_s for end in story.ends] == pytest.approx([first + 0.125, first + 0.125 + 0.25 + 0.125])


def test_two_lanes_share_their_steps() -> None:
    clock = LocalClock()
    runner = SimulatedRunner(TIMES, 2, clock, Spent())
    for job in "ab":
        runner.admit(job, Decoded(Loaded("unet"), denoising_step=GRID[1]))
    finished: tuple[str, ...] = ()
    while not finished:
        finished = runner.step("unet", ("a", "b")).finished
    # Two encodes; two steps that compare, 0.25 + 1 each; two that do not, 0.25 each.
    assert (finished, clock()) == (("a", "b"), 0.5 + 2 * 1.25 + 2 * 0.25)


def test_a_lane_is_never_given_twice() -> None:
    runner = SimulatedRunner(TIMES, 1, LocalClock(), Spent())
    image = Decoded(Loaded("unet"), denoising_step=GRID[1])
    runner.admit("a", image)
    with pytest.raises(RuntimeError, match="1 of 1 are taken"):
        runner.admit("b", image)
    runner.release("a")
    runner.admit("b", image)


def test_what_was_accepted_ends_once_though_the_plant_is_overloaded() -> None:
    # 6 lines on one node that needs 2 s an image: the backlog grows until the limit refuses.
    plant = several_products()
    fleet = Fleet(1, FOUR, max_backlog=20)
    story = simulate(plant, fleet, Shift(60.0), MEASURED)
    found = figures(plant, fleet, Shift(60.0), MEASURED, story)
    assert is_sound(story)
    assert found.refused["full"] > 0
    assert (found.unended, found.double) == (0, 0)
    assert 0 < found.choices <= found.claims <= found.accepted  # one node: what it leaves waits
    assert found.accepted == found.done + found.expired


def test_a_lost_node_loses_nothing_and_its_parts_wait_for_the_lease_and_no_longer() -> None:
    plant, shift = one_product(1.5, 1.5), Shift(60.0, Loss(at_s=31.0, back_s=45.0))
    settings = replace(FOUR, lease_ms=3000)
    story = simulate(plant, Fleet(3, settings), shift, MEASURED)
    found = figures(plant, Fleet(3, settings), shift, MEASURED, story)
    assert is_sound(story)
    assert all(end.state is State.DONE for end in story.ends)
    assert found.held_at_loss > 0
    # The last renewal was at most a second before the loss, so that its lease ends 2 to 3 s after; another keeper looks
    # within a second; then each runs alone.
    assert found.recovery_s is not None
    assert 2.0 <= found.recovery_s <= 4.0 + found.held_at_loss * (ALONE_S + 0.5) + 2 * ALONE_S


def test_a_shift_is_told_by_its_seed() -> None:
    def ends(seed: int) -> list[tuple[str, float, State]]:
        shift = Shift(60.0, Loss(20.0, 50.0), seed)
        story = simulate(several_products(), Fleet(4, FOUR), shift, MEASURED)
        assert is_sound(story)
        return [(end.part.id, end.at_s, end.state) for end in story.ends]

    assert ends(1) == ends(1)
    assert ends(1) != ends(2)


def test_high_priority_waits_less_and_the_others_are_not_starved() -> None:
    product = Product("product", "unet", "all")
    kinds = [Priority.HIGH] * 2 + [Priority.NORMAL] * 2
    lines = [Line(f"line-{n}", product, 1.0, kind, None) for n, kind in enumerate(kinds)]
    plant, fleet, shift = Plant(tuple(lines), STEADY), Fleet(4, FOUR, max_backlog=200), Shift(60.0)
    story = simulate(plant, fleet, shift, MEASURED)
    found = figures(plant, fleet, shift, MEASURED, story)
    assert found.priorities["high"].p50_s < found.priorities["normal"].p50_s
    # Each fourth job given out is a normal one while pictures are still taken: some end before the last high one.
    last_high = max(end.at_s for end in story.ends if end.part.line.priority is Priority.HIGH)
    early = [end for end in story.ends if end.part.line.priority is Priority.NORMAL and end.at_s < last_high]
    assert len(early) >= len(story.ends) // 8


def test_a_part_nobody_waits_for_any_more_takes_no_lane() -> None:
    plant = one_product(0.5, deadline_ms=5000)
    story = simulate(plant, Fleet(1, FOUR), Shift(30.0), MEASURED)
    found = figures(plant, Fleet(1, FOUR), Shift(30.0), MEASURED, story)
    assert is_sound(story)
    assert found.expired + found.refused.get("late", 0) > 0
    assert found.done > 0


def test_more_products_than_a_worker_keeps_are_loaded_again_and_again() -> None:
    plant = mixed_plant(6, 6, ("all",), sharing=0, deadline_s=60.0)
    shift = Shift(60.0)
    loads = {}
    for kept in (1, 6):
        fleet = Fleet(6, replace(FOUR, max_bundles=kept))
        story = simulate(plant, fleet, shift, MEASURED)
        loads[kept] = figures(plant, fleet, shift, MEASURED, story).loads
    assert loads[6] <= 6 * 6  # each node each bundle, at most once
    assert loads[1] > loads[6]


def test_a_pool_serves_its_own_products_only() -> None:
    plant = mixed_plant(6, 6, ("all",), sharing=2, deadline_s=60.0)
    pools = pool_of_groups(plant, 3)
    assert set(pools) == {product.group for product in plant.products}
    assert sum(nodes_of_pools(plant, pools, 7).values()) == 7
    story = simulate(plant, Fleet(7, FOUR, pools=3), Shift(60.0), MEASURED)
    assert is_sound(story)
    # Six products, five models: no node loads more than its pool's.
    most = max(sum(pools[product.group] == pool for product in plant.products) for pool in set(pools.values()))
    assert all(spent.loads <= most for spent in story.spent.values())
    with pytest.raises(ValueError, match="each pool needs a node"):
        nodes_of_pools(plant, pools, 2)
    with pytest.raises(ValueError, match="no more than models"):
        pool_of_groups(plant, 6)


def test_the_mean_device_time_is_the_hands() -> None:
    # Two lines: 0.5 and 0.25 images a second; device time 0.25 + 4 * 0.125 + 2 * 0.5 + 0.25 = 2 s: 1.5 nodes.
    plant = one_product(2.0, 4.0)
    assert mean_device_s(plant, MEASURED) == 2.0
    assert mean_nodes(plant, MEASURED) == 2
    # Two lanes all the way: the same steps cost both of them 0.25 and 1.
    assert mean_device_s(plant, MEASURED, together=2) == 0.25 + (4 * 0.25 + 2 * 1.0) / 2 + 0.25
    # A good part triggers at the second step, a defective one at the first; one of four is defective.
    mixed = Outcomes("by hand", good=(GRID[1],), defect=(GRID[0],))
    assert mean_comparisons(mixed, GRID, 0.25) == 0.75 * 2 + 0.25 * 1


def test_a_line_makes_up_for_a_stop_and_keeps_its_takt() -> None:
    line = Line("line", Product("product", "unet", "all"), 1.0, Priority.NORMAL, None)
    habits = Habits(jitter=0.0, stop_every_s=100.0, stop_s=20.0)
    stopped = list(shots(line, habits, seed=3, until_s=5000.0))
    assert len(stopped) == pytest.approx(5000, abs=60)  # what is owed at the end is still missing
    gaps = {round(after - before, 3) for before, after in itertools.pairwise(stopped)}
    assert {1.0, round(1 / habits.catch_up, 3)} <= gaps
    assert max(gaps) > 5
    assert stopped == list(shots(line, habits, seed=3, until_s=5000.0))


@pytest.mark.parametrize("answer", [1, 4, 5, 7, 8, 13, 40])
def test_the_search_finds_the_smallest_number(answer: int) -> None:
    tried: list[int] = []

    def fits(number: int) -> bool:
        tried.append(number)
        return number >= answer

    assert smallest(fits, 5, 1, 40) == answer
    assert len(tried) == len(set(tried))


def test_the_search_gives_up_where_nothing_fits() -> None:
    assert smallest(lambda number: False, 5, 1, 40) is None


def test_nothing_happens_in_the_past() -> None:
    timeline = Timeline()
    timeline.at(1.0, lambda: None)
    timeline.run(lambda: False)
    with pytest.raises(ValueError, match="has passed"):
        timeline.at(0.5, lambda: None)


def test_a_step_that_was_not_measured_is_not_made_up() -> None:
    with pytest.raises(ValueError, match="measure with `glad bench steps --lanes 3`"):
        TIMES.step_s(3, 0)
