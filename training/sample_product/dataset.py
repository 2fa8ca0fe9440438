"""The sample product as a dataset on disk, in MVTec-AD's layout; an interrupted run is taken up where it stopped."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.sample_product.flaws import DEFECTS, SEVERITIES
from training.sample_product.renderer import RENDERER_VERSION, Lamp, render

RECORD = "sample.json"
TOP_LEVEL = frozenset({RECORD, f"{RECORD}.part", "train", "calibration", "test", "ground_truth"})
CHUNK = 8  # images a worker takes at a time
SPLITS = ("train", "calibration", "test")


@dataclass(frozen=True)
class DatasetImage:
    """An image to write: its place in the dataset, from which its random stream follows."""

    split: str
    index: int
    defect: str | None = None
    severity: int | None = None

    @property
    def image_path(self) -> Path:
        """The place of the image, relative to the dataset."""
        if self.defect is None:
            return Path(self.split, "good", f"{self.index:04d}.png")
        return Path(self.split, self.defect, f"s{self.severity}_{self.index:04d}.png")

    @property
    def mask_path(self) -> Path | None:
        """The place of the mask, relative to the dataset; None for a good part."""
        if self.defect is None:
            return None
        return Path("ground_truth", self.defect, f"s{self.severity}_{self.index:04d}_mask.png")

    def entropy(self, seed: int) -> tuple[int, ...]:
        """Return the image's own seed: no other place in any split shares it.

        It does not depend on the splits' sizes.
        """
        defect_id = 0 if self.defect is None else 1 + DEFECTS.index(self.defect)
        return seed, SPLITS.index(self.split), defect_id, self.severity or 0, self.index


def write_dataset(
    folder: Path,
    *,
    seed: int,
    train: int = 0,
    calibration: int = 0,
    good: int = 0,
    defects: int = 0,
    lamp: Lamp = Lamp.USUAL,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the dataset with all processors and return how many images (without masks) it holds.

    A larger split repeats the images of a smaller one. In a script, the call must stand under `if __name__ ==
    "__main__":`, because workers are spawned.

    Args:
        train, calibration, good: images of good parts in train/, calibration/ and test/.
        defects: test images of each defect and severity.
        lamp: where it stands; another one shows the same parts in another light.
        progress: progress(done, total), called as images come.

    Raises:
        FileExistsError: the folder holds something else, or a dataset of another seed, lamp or renderer version.
    """
    _claim(folder, seed, lamp)
    pictures = list(_layout(train, calibration, good, defects))
    missing = [picture for picture in pictures if not (folder / picture.image_path).exists()]
    done = len(pictures) - len(missing)
    if progress is not None:
        progress(done, len(pictures))
    for written in _write_all(folder, seed, lamp, missing):
        done += written
        if progress is not None:
            progress(done, len(pictures))
    return len(pictures)


def _layout(train: int, calibration: int, good: int, defects: int) -> Iterator[DatasetImage]:
    for split, count in zip(SPLITS, (train, calibration, good), strict=True):
        yield from (DatasetImage(split, index) for index in range(count))
    for defect in DEFECTS:
        for severity in SEVERITIES:
            yield from (DatasetImage("test", index, defect, severity) for index in range(defects))


def _claim(folder: Path, seed: int, lamp: Lamp) -> None:
    """Record whose folder this is, or check that it is ours."""
    ours: dict[str, object] = {"seed": seed, "renderer_version": RENDERER_VERSION}
    if lamp is not Lamp.USUAL:  # folders from before there was a choice say nothing about it
        ours["lamp"] = str(lamp)
    folder.mkdir(parents=True, exist_ok=True)
    strangers = sorted(entry.name for entry in folder.iterdir() if entry.name not in TOP_LEVEL)
    record = folder / RECORD
    if not record.exists():
        strangers = sorted(entry.name for entry in folder.iterdir() if entry.name != f"{RECORD}.part")
    if strangers:
        raise FileExistsError(
            f"{folder} holds other content ({', '.join(strangers[:5])}): give an empty or a new folder"
        )
    if not record.exists():
        _write_text(record, json.dumps(ours))
        return
    recorded = json.loads(record.read_text(encoding="utf-8"))
    if recorded != ours:
        raise FileExistsError(
            f"{folder} holds a dataset of {recorded}, asked for {ours}: give the same, or a new folder"
        )


def _write_text(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _write_all(folder: Path, seed: int, lamp: Lamp, pictures: list[DatasetImage]) -> Iterator[int]:
    """Write in worker processes; yields how many images each finished chunk held."""
    chunks = [pictures[start : start + CHUNK] for start in range(0, len(pictures), CHUNK)]
    if not chunks:
        return
    workers = min(os.cpu_count() or 1, len(chunks))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
        running = [pool.submit(_write_chunk, folder, seed, lamp, chunk) for chunk in chunks]
        try:
            for finished in as_completed(running):
                yield finished.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _write_chunk(folder: Path, seed: int, lamp: Lamp, pictures: list[DatasetImage]) -> int:
    for picture in pictures:
        sample = render(picture.entropy(seed), picture.defect, picture.severity, lamp)
        if picture.mask_path is not None:  # the mask first: an image that exists is a finished one
            _write_png(folder / picture.mask_path, sample.mask.astype(np.uint8) * np.uint8(255))
        _write_png(folder / picture.image_path, sample.image)
    return len(pictures)


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    Image.fromarray(pixels).save(unfinished, format="PNG", compress_level=1)
    unfinished.replace(path)
