"""What Pillow and Python keep for the whole process, and decoding changes for a moment; safe with several threads.

Neither holds a lock while an image is decoded: one slow image would make all others wait. The service decodes
images in processes of their own; commands and training decode in threads.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import TiffImagePlugin


class QuietPillow:
    """Silences Pillow's warnings while any thread is inside, because warning filters belong to the whole process.

    The first thread that enters installs the filter, and the last one that leaves takes it away. Warnings of other code
    are silent meanwhile too.

    Use one object for all threads: two of them would take each other's filters away.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.__exit__(None, None, None)


_libtiff_lock = threading.Lock()


@contextmanager
def tiffs_through_libtiff() -> Iterator[None]:
    """Let Pillow choose libtiff for every TIFF that is opened in the block, uncompressed ones too.

    Open a file in it, which reads the header alone, and decode it afterwards: one thread at a time is inside.
    """
    with _libtiff_lock:
        before = TiffImagePlugin.READ_LIBTIFF
        TiffImagePlugin.READ_LIBTIFF = True
        try:
            yield
        finally:
            TiffImagePlugin.READ_LIBTIFF = before
