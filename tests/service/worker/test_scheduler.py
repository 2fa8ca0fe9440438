"""The scheduler's promises, in plain Python."""

from __future__ import annotations

import pytest

from service.worker.scheduler import Place, Scheduler, Turn


def walking(scheduler: Scheduler, *jobs: str, group: str = "unet-a") -> None:
    """Bring jobs into lanes."""
    for job in jobs:
        scheduler.claimed(job)
        scheduler.prepared(job, group)
    assert scheduler.admit() == jobs


def test_an_empty_house_claims_its_lanes_and_its_buffer() -> None:
    assert Scheduler(lanes=4, buffer=2, leaving=8).room() == 6


def test_claims_stop_when_lanes_and_buffer_are_full() -> None:
    scheduler = Scheduler(lanes=2, buffer=1, leaving=8)
    walking(scheduler, "a", "b")
    assert scheduler.room() == 1
    scheduler.claimed("c")
    assert scheduler.room() == 0


def test_a_lane_is_refilled_the_moment_its_image_leaves() -> None:
    scheduler = Scheduler(lanes=2, buffer=1, leaving=8)
    walking(scheduler, "a", "b")
    scheduler.claimed("c")
    scheduler.prepared("c", "unet-a")
    assert scheduler.admit() == ()
    scheduler.left("a")
    assert scheduler.admit() == ("c",)
    assert scheduler.turn() == Turn("unet-a", ("b", "c"))


def test_images_enter_in_the_order_they_came_though_decoded_in_another() -> None:
    scheduler = Scheduler(lanes=1, buffer=2, leaving=8)
    for job in "abc":
        scheduler.claimed(job)
    scheduler.prepared("c", "unet-a")
    scheduler.prepared("b", "unet-a")
    assert scheduler.admit() == ("b",)


def test_an_image_still_decoding_does_not_hold_up_the_next_one() -> None:
    scheduler = Scheduler(lanes=1, buffer=1, leaving=8)
    scheduler.claimed("slow")
    scheduler.claimed("quick")
    scheduler.prepared("quick", "unet-a")
    assert scheduler.admit() == ("quick",)


def test_groups_take_turns() -> None:
    scheduler = Scheduler(lanes=4, buffer=0, leaving=8)
    walking(scheduler, "a1", "a2", group="unet-a")
    walking(scheduler, "b1", group="unet-b")
    turns = [scheduler.turn() for _ in range(4)]
    assert turns == [Turn("unet-a", ("a1", "a2")), Turn("unet-b", ("b1",))] * 2


def test_groups_together_have_no_more_lanes_than_the_house() -> None:
    scheduler = Scheduler(lanes=2, buffer=2, leaving=8)
    walking(scheduler, "a", group="unet-a")
    walking(scheduler, "b", group="unet-b")
    scheduler.claimed("c")
    scheduler.prepared("c", "unet-c")
    assert scheduler.admit() == ()


def test_nobody_walking_means_no_turn() -> None:
    scheduler = Scheduler(lanes=2, buffer=2, leaving=8)
    scheduler.claimed("a")
    assert scheduler.turn() is None


def test_a_suspect_has_the_house_to_itself() -> None:
    scheduler = Scheduler(lanes=4, buffer=4, leaving=8)
    scheduler.claimed("suspect", alone=True)
    assert scheduler.room() == 0
    scheduler.left("suspect")
    assert scheduler.room() == 0
    scheduler.gone("suspect")
    assert scheduler.room() == 8


def test_a_suspect_is_refused_while_others_are_here() -> None:
    scheduler = Scheduler(lanes=4, buffer=4, leaving=8)
    scheduler.claimed("a")
    with pytest.raises(ValueError, match="must run alone, but 1 jobs are here"):
        scheduler.claimed("suspect", alone=True)


def test_results_that_wait_to_be_written_stop_the_claims() -> None:
    scheduler = Scheduler(lanes=1, buffer=1, leaving=2)
    walking(scheduler, "a")
    scheduler.left("a")
    walking(scheduler, "b")
    scheduler.left("b")
    assert scheduler.room() == 0
    scheduler.gone("a")
    assert scheduler.room() == 2


def test_a_job_that_went_away_leaves_no_trace() -> None:
    scheduler = Scheduler(lanes=1, buffer=0, leaving=1)
    walking(scheduler, "a")
    scheduler.gone("a")
    assert scheduler.empty
    assert scheduler.place("a") is None
    assert scheduler.turn() is None
    walking(scheduler, "a")
    assert scheduler.place("a") is Place.WALKING


def test_a_job_is_never_here_twice() -> None:
    scheduler = Scheduler(lanes=1, buffer=1, leaving=1)
    scheduler.claimed("a")
    with pytest.raises(ValueError, match="already here, preparing"):
        scheduler.claimed("a")


def test_a_job_cannot_skip_its_decoding() -> None:
    scheduler = Scheduler(lanes=2, buffer=0, leaving=1)
    walking(scheduler, "a")
    with pytest.raises(ValueError, match="is walking, not preparing"):
        scheduler.prepared("a", "unet-a")


@pytest.mark.parametrize(("lanes", "buffer", "leaving"), [(0, 1, 1), (1, -1, 1), (1, 1, 0)])
def test_impossible_sizes_are_refused(lanes: int, buffer: int, leaving: int) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        Scheduler(lanes, buffer, leaving)


def test_a_job_of_many_tiles_takes_the_free_lanes_and_more_as_they_come_free() -> None:
    scheduler = Scheduler(lanes=2, buffer=1, leaving=8)
    scheduler.claimed("big")
    scheduler.prepared("big", "unet-a", tiles=3)
    assert scheduler.admit() == ("big", "big")
    assert scheduler.walking == 2
    assert scheduler.turn() == Turn("unet-a", ("big",))
    scheduler.freed("big")
    assert scheduler.admit() == ("big",)
    scheduler.freed("big")
    assert scheduler.admit() == ()
    assert scheduler.walking == 1


def test_images_of_one_tile_pass_by_an_image_of_many_that_keeps_a_lane() -> None:
    scheduler = Scheduler(lanes=3, buffer=4, leaving=8)
    scheduler.claimed("big")
    scheduler.prepared("big", "unet-a", tiles=63)
    assert scheduler.admit() == ("big", "big", "big")
    for job in "ab":
        scheduler.claimed(job)
        scheduler.prepared(job, "unet-a")
    scheduler.freed("big")
    assert scheduler.admit() == ("a",)
    scheduler.freed("big")
    assert scheduler.admit() == ("b",)
    scheduler.freed("big")  # it has no lane now, and came before all others
    for job in "cd":
        scheduler.claimed(job)
        scheduler.prepared(job, "unet-a")
    assert scheduler.admit() == ("big",)
    scheduler.left("a")
    assert scheduler.admit() == ("c",)


def test_two_images_of_many_tiles_share_the_lanes() -> None:
    scheduler = Scheduler(lanes=4, buffer=4, leaving=8)
    for job in ("one", "two"):
        scheduler.claimed(job)
        scheduler.prepared(job, "unet-a", tiles=20)
    assert scheduler.admit() == ("one", "two", "one", "two")


def test_the_lanes_of_a_job_count_where_there_is_room_for_more_jobs() -> None:
    scheduler = Scheduler(lanes=4, buffer=2, leaving=8)
    scheduler.claimed("big")
    assert scheduler.room() == 5
    scheduler.prepared("big", "unet-a", tiles=20)
    scheduler.admit()
    assert scheduler.room() == 2


def test_a_job_that_fails_or_goes_gives_back_all_its_lanes() -> None:
    scheduler = Scheduler(lanes=2, buffer=2, leaving=8)
    scheduler.claimed("big")
    scheduler.prepared("big", "unet-a", tiles=9)
    scheduler.admit()
    scheduler.left("big")
    assert scheduler.walking == 0
    assert scheduler.admit() == ()
    with pytest.raises(ValueError, match="holds no lane"):
        scheduler.freed("big")
