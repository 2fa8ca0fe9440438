"""What the engine asks of its parts: the queue, the bundles, the codec threads and the device.

The worker's own parts keep these promises, and so do those of `glad bench plant`, which only take time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from service.contract import Failure, State
from service.queue.claims import ClaimedJob
from service.worker.runner import Stepped


class Loaded(Protocol):
    """As much of a loaded bundle as the engine looks at."""

    @property
    def group(self) -> str:
        """Whose lanes its images share."""


class Framed(Protocol):
    """As much of a framed image as the engine looks at."""

    @property
    def tiles(self) -> Sized:
        """One for each lane that it takes."""


class Decoded(Protocol):
    """As much of a decoded image as the engine looks at."""

    @property
    def bundle(self) -> Loaded:
        """What it will be inspected with."""

    @property
    def framed(self) -> Framed:
        """How it lies in its lanes."""


Image = TypeVar("Image", bound=Decoded)
"""A decoded image."""
Bundle = TypeVar("Bundle", bound=Loaded)
"""A loaded bundle."""
Found = TypeVar("Found")
"""What the device found in an image."""

_ImageIn_contra = TypeVar("_ImageIn_contra", bound=Decoded, contravariant=True)
_BundleIn_contra = TypeVar("_BundleIn_contra", bound=Loaded, contravariant=True)
_BundleOut_co = TypeVar("_BundleOut_co", bound=Loaded, covariant=True)
_FoundIn_contra = TypeVar("_FoundIn_contra", contravariant=True)
_FoundOut_co = TypeVar("_FoundOut_co", covariant=True)


@dataclass(frozen=True, eq=False)
class Ready(Generic[Image]):
    """An image is decoded."""

    claimed: ClaimedJob
    prepared: Image


@dataclass(frozen=True, eq=False)
class Gone:
    """A job is completed, failed, handed back, or somebody else's by now."""

    claimed: ClaimedJob


class Queue(Protocol):
    """Where jobs come from: `service.queue.jobs.JobQueue`."""

    def claim(
        self, count: int, block_ms: int = 0, *, idle: bool = True, should_stop: Callable[[], bool] = ...
    ) -> list[ClaimedJob]:
        """At most so many jobs; RedisError or OSError if there is no answer."""


class Bundles(Protocol[_BundleOut_co]):
    """What is loaded: `service.worker.bundle_cache.BundleCache`."""

    def holds(self, bundle_hash: str, /) -> bool:
        """`get` would give it at once."""

    def get(self, product: str, version: str, bundle_hash: str, /) -> _BundleOut_co:
        """The bundle, loaded if need be; BundleUnavailable if it cannot be used."""


class Threads(Protocol[_BundleIn_contra, Image, _FoundIn_contra]):
    """What happens before and after the device: `service.worker.codec_threads.Codecs`. Every call but the first two
    is told in the end by `hear`."""

    def hear(self, wait_s: float = 0.0) -> Ready[Image] | Gone | None:
        """The next thing that happened; waits at most so long."""

    def let_go(self) -> None:
        """From now on nothing is tried a second time."""

    def prepare(self, claimed: ClaimedJob, bundle: _BundleIn_contra, began_at: float) -> None:
        """Decodes an image."""

    def conclude(self, claimed: ClaimedJob, prepared: Image, found: _FoundIn_contra, began_at: float) -> None:
        """Stores what was found, and ends the job."""

    def fail(self, claimed: ClaimedJob, failure: Failure, state: State = State.FAILED) -> None:
        """Ends the job without a verdict."""

    def retry_or_fail(self, claimed: ClaimedJob, failure: Failure) -> None:
        """Hands the job back for a little later, or ends it."""

    def hand_back(self, claimed: ClaimedJob) -> None:
        """Gives the job to another worker."""


class Device(Protocol[_ImageIn_contra, _FoundOut_co]):
    """Where images walk: `service.worker.runner.Runner`."""

    def admit(self, job: str, prepared: _ImageIn_contra) -> None:
        """Gives the image, or its next tile, a lane."""

    def step(self, group: str, jobs: Sequence[str]) -> Stepped:
        """Advances these jobs, all of this group, by one step."""

    def finish(self, job: str) -> _FoundOut_co:
        """What was found in an image that has walked all its way."""

    def release(self, job: str) -> None:
        """Frees the job's lanes, if it has any."""

    def check_device(self) -> None:
        """Raises if the device itself has failed."""
