"""What a training has read off its images survives a kill: it goes on, and ends in the same numbers, bit for bit."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.killed_encoding import Fuse, encode_by_autoencoder, encode_by_backbone, rebuild
from training.kept_arrays import PER_FILE, made_once

CHILDREN = get_context("forkserver")  # imports torch once, for all of them
CHILDREN.set_forkserver_preload(["tests.support.killed_encoding"])


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """The stages set their number of threads: the next test gets its own back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("stage", "killed_at", "left"),
    [
        (encode_by_autoencoder, 18, 3 + 19),  # 17 of 19 calls are done, of which two files of 8 calls each stay
        (encode_by_autoencoder, 19 + 9, 11),  # the first side is whole; of the other one 8 calls are in a file
        (rebuild, 10, 11),
        (encode_by_backbone, 5, 300),  # among the images that make the space
        (encode_by_backbone, 8 + 100, 300 - PER_FILE),  # 107 sides are encoded; the space and 64 of them stay
    ],
)
def test_what_is_on_disk_is_not_made_again_after_a_kill(
    stage: Callable[[Path, Fuse], list[Tensor]], killed_at: int, left: int, tmp_path: Path
) -> None:
    process = CHILDREN.Process(target=stage, args=(tmp_path / "killed", Fuse(at=killed_at)))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    resumed, whole = Fuse(), Fuse()
    found = stage(tmp_path / "killed", resumed)
    expected = stage(tmp_path / "unbroken", whole)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert [one.stride() for one in found] == [one.stride() for one in expected]  # sums depend on the order
    assert resumed.calls == left
    again = Fuse()
    assert all(torch.equal(one, other) for one, other in zip(stage(tmp_path / "killed", again), expected, strict=True))
    assert again.calls == 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_results_lie_in_memory_as_if_they_had_just_been_made(layout: torch.memory_format, tmp_path: Path) -> None:
    images = torch.arange(70 * 3 * 4 * 4, dtype=torch.float32).reshape(70, 3, 4, 4)

    def make(few: Tensor) -> Tensor:
        return (few * 2).contiguous(memory_format=layout)

    def made() -> Tensor:
        return made_once(images, make, tmp_path, at_once=8, title="images")

    first, second = made(), made()
    assert torch.equal(first, images * 2)
    assert torch.equal(second, first)
    assert first.stride() == second.stride() == make(images).stride()
