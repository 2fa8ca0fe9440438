"""The scheduler's promises, in plain Python."""

from __future__ import annotations

import pytest

from service.worker.scheduler import JobStage, Scheduler, Turn


def assigned(scheduler: Scheduler) -> tuple[str, ...]:
    """Every free lane is given away; the jobs that took one."""
    return tuple(iter(scheduler.assign_lane, None))


def denoising(scheduler: Scheduler, *jobs: str, group: str = "unet-a") -> None:
    """Bring jobs into lanes."""
    for job in jobs:
        scheduler.add(job)
        scheduler.mark_ready(job, group)
    assert assigned(scheduler) == jobs


def test_an_empty_house_claims_its_lanes_and_its_buffer() -> None:
    assert Scheduler(lanes=4, buffer=2, storing=8).claimable() == 6


def test_claims_stop_when_lanes_and_buffer_are_full() -> None:
    scheduler = Scheduler(lanes=2, buffer=1, storing=8)
    denoising(scheduler, "a", "b")
    assert scheduler.claimable() == 1
    scheduler.add("c")
    assert scheduler.claimable() == 0


def test_a_lane_is_refilled_the_moment_its_image_leaves() -> None:
    scheduler = Scheduler(lanes=2, buffer=1, storing=8)
    denoising(scheduler, "a", "b")
    scheduler.add("c")
    scheduler.mark_ready("c", "unet-a")
    assert assigned(scheduler) == ()
    scheduler.mark_storing("a")
    assert assigned(scheduler) == ("c",)
    assert scheduler.next_turn() == Turn("unet-a", ("b", "c"))


def test_images_enter_in_the_order_they_came_though_decoded_in_another() -> None:
    scheduler = Scheduler(lanes=1, buffer=2, storing=8)
    for job in "abc":
        scheduler.add(job)
    scheduler.mark_ready("c", "unet-a")
    scheduler.mark_ready("b", "unet-a")
    assert assigned(scheduler) == ("b",)


def test_an_image_still_decoding_does_not_hold_up_the_next_one() -> None:
    scheduler = Scheduler(lanes=1, buffer=1, storing=8)
    scheduler.add("slow")
    scheduler.add("quick")
    scheduler.mark_ready("quick", "unet-a")
    assert assigned(scheduler) == ("quick",)


def test_groups_take_turns() -> None:
    scheduler = Scheduler(lanes=4, buffer=0, storing=8)
    denoising(scheduler, "a1", "a2", group="unet-a")
    denoising(scheduler, "b1", group="unet-b")
    turns = [scheduler.next_turn() for _ in range(4)]
    assert turns == [Turn("unet-a", ("a1", "a2")), Turn("unet-b", ("b1",))] * 2


def test_groups_together_have_no_more_lanes_than_the_house() -> None:
    scheduler = Scheduler(lanes=2, buffer=2, storing=8)
    denoising(scheduler, "a", group="unet-a")
    denoising(scheduler, "b", group="unet-b")
    scheduler.add("c")
    scheduler.mark_ready("c", "unet-c")
    assert assigned(scheduler) == ()


def test_nobody_walking_means_no_turn() -> None:
    scheduler = Scheduler(lanes=2, buffer=2, storing=8)
    scheduler.add("a")
    assert scheduler.next_turn() is None


def test_a_suspect_has_the_house_to_itself() -> None:
    scheduler = Scheduler(lanes=4, buffer=4, storing=8)
    scheduler.add("suspect", alone=True)
    assert scheduler.claimable() == 0
    scheduler.mark_storing("suspect")
    assert scheduler.claimable() == 0
    scheduler.remove("suspect")
    assert scheduler.claimable() == 8


def test_a_suspect_is_refused_while_others_are_here() -> None:
    scheduler = Scheduler(lanes=4, buffer=4, storing=8)
    scheduler.add("a")
    with pytest.raises(ValueError, match="must run alone, but 1 jobs are in flight"):
        scheduler.add("suspect", alone=True)


def test_results_that_wait_to_be_written_stop_the_claims() -> None:
    scheduler = Scheduler(lanes=1, buffer=1, storing=2)
    denoising(scheduler, "a")
    scheduler.mark_storing("a")
    denoising(scheduler, "b")
    scheduler.mark_storing("b")
    assert scheduler.claimable() == 0
    scheduler.remove("a")
    assert scheduler.claimable() == 2


def test_a_job_that_went_away_leaves_no_trace() -> None:
    scheduler = Scheduler(lanes=1, buffer=0, storing=1)
    denoising(scheduler, "a")
    scheduler.remove("a")
    assert scheduler.empty
    assert scheduler.stage("a") is None
    assert scheduler.next_turn() is None
    denoising(scheduler, "a")
    assert scheduler.stage("a") is JobStage.DENOISING


def test_a_job_is_never_here_twice() -> None:
    scheduler = Scheduler(lanes=1, buffer=1, storing=1)
    scheduler.add("a")
    with pytest.raises(ValueError, match="already in flight, decoding"):
        scheduler.add("a")


def test_a_job_cannot_skip_its_decoding() -> None:
    scheduler = Scheduler(lanes=2, buffer=0, storing=1)
    denoising(scheduler, "a")
    with pytest.raises(ValueError, match="is denoising, not decoding"):
        scheduler.mark_ready("a", "unet-a")


@pytest.mark.parametrize(("lanes", "buffer", "leaving"), [(0, 1, 1), (1, -1, 1), (1, 1, 0)])
def test_impossible_sizes_are_refused(lanes: int, buffer: int, leaving: int) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        Scheduler(lanes, buffer, leaving)


def test_a_job_of_many_tiles_takes_the_free_lanes_and_more_as_they_come_free() -> None:
    scheduler = Scheduler(lanes=2, buffer=1, storing=8)
    scheduler.add("big")
    scheduler.mark_ready("big", "unet-a", tiles=3)
    assert assigned(scheduler) == ("big", "big")
    assert scheduler.occupied_lanes == 2
    assert scheduler.next_turn() == Turn("unet-a", ("big",))
    scheduler.free_lane("big")
    assert assigned(scheduler) == ("big",)
    scheduler.free_lane("big")
    assert assigned(scheduler) == ()
    assert scheduler.occupied_lanes == 1


def test_images_of_one_tile_pass_by_an_image_of_many_that_keeps_a_lane() -> None:
    scheduler = Scheduler(lanes=3, buffer=4, storing=8)
    scheduler.add("big")
    scheduler.mark_ready("big", "unet-a", tiles=63)
    assert assigned(scheduler) == ("big", "big", "big")
    for job in "ab":
        scheduler.add(job)
        scheduler.mark_ready(job, "unet-a")
    scheduler.free_lane("big")
    assert assigned(scheduler) == ("a",)
    scheduler.free_lane("big")
    assert assigned(scheduler) == ("b",)
    scheduler.free_lane("big")  # it has no lane now, and came before all others
    for job in "cd":
        scheduler.add(job)
        scheduler.mark_ready(job, "unet-a")
    assert assigned(scheduler) == ("big",)
    scheduler.mark_storing("a")
    assert assigned(scheduler) == ("c",)


def test_two_images_of_many_tiles_share_the_lanes() -> None:
    scheduler = Scheduler(lanes=4, buffer=4, storing=8)
    for job in ("one", "two"):
        scheduler.add(job)
        scheduler.mark_ready(job, "unet-a", tiles=20)
    assert assigned(scheduler) == ("one", "two", "one", "two")


def test_the_lanes_of_a_job_count_where_there_is_room_for_more_jobs() -> None:
    scheduler = Scheduler(lanes=4, buffer=2, storing=8)
    scheduler.add("big")
    assert scheduler.claimable() == 5
    scheduler.mark_ready("big", "unet-a", tiles=20)
    assigned(scheduler)
    assert scheduler.claimable() == 2


def test_a_job_that_fails_or_goes_gives_back_all_its_lanes() -> None:
    scheduler = Scheduler(lanes=2, buffer=2, storing=8)
    scheduler.add("big")
    scheduler.mark_ready("big", "unet-a", tiles=9)
    assigned(scheduler)
    scheduler.mark_storing("big")
    assert scheduler.occupied_lanes == 0
    assert assigned(scheduler) == ()
    with pytest.raises(ValueError, match="holds no lane"):
        scheduler.free_lane("big")
