"""Masks as Label Studio's brush writes them: run lengths (thi.ng's rle-pack) of the mask as an RGBA picture.

A head of 32 bits for the number of values, 5 for the bits of a value less 1, and four times 4 for the bits of a length
less 1. Then runs: one bit, which is 1 where all values of the run are equal; two bits, which of the four widths the
length has; the length less 1; and the value, or all of them. Label Studio's own package does the same, in Python by
the bit; it brings OpenCV, pandas and more, 500 MB.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LENGTH_BITS = (3, 4, 8, 16)
CHANNELS = 4
VALUE_BITS = 8
HEAD_BITS = 32 + 5 + 4 * len(LENGTH_BITS)


def encode_brush(mask: NDArray[np.bool_]) -> list[int]:
    """Return the bytes of a mask (H, W), as `value.rle` of a brush's result has them."""
    values = mask.ravel()
    starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    lengths = np.diff(np.append(starts, values.size)) * CHANNELS
    head = f"{values.size * CHANNELS:032b}{VALUE_BITS - 1:05b}" + "".join(f"{bits - 1:04b}" for bits in LENGTH_BITS)
    runs = (
        run
        for start, length in zip(starts, lengths, strict=True)
        for run in _runs(int(length), 255 if values[start] else 0)
    )
    text = head + "".join(runs)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8))


def _runs(length: int, value: int) -> list[str]:
    """Return so many equal values as runs of bits; more than one where the length is larger than any width holds."""
    runs = []
    while length:
        part = min(length, 1 << LENGTH_BITS[-1])
        index, bits = next((i, bits) for i, bits in enumerate(LENGTH_BITS) if part <= 1 << bits)
        runs.append(f"1{index:02b}{part - 1:0{bits}b}{value:0{VALUE_BITS}b}")
        length -= part
    return runs


def decode_brush(data: Sequence[int], width: int, height: int) -> NDArray[np.bool_]:
    """Return the mask (H, W) of a brush's bytes: True wherever it is not transparent.

    Raises:
        ValueError: if they are no such mask of this size.
    """
    bits = np.unpackbits(np.asarray(data, dtype=np.uint8))
    expected = width * height * CHANNELS
    if len(bits) < HEAD_BITS:
        raise ValueError(f"it has {len(data)} bytes, less than its head: export it again")
    count, value_bits, *length_bits = _head(bits)
    if (count, value_bits) != (expected, VALUE_BITS):
        raise ValueError(
            f"it has {count} values of {value_bits} bits; an image of {width}×{height} has {expected} of {VALUE_BITS}: "
            "look whether its original_width and original_height are right"
        )
    values, at, done = np.zeros(expected, dtype=np.uint8), HEAD_BITS, 0
    while done < expected:
        equal, index = _number(bits, at, 1), _number(bits, at + 1, 2)
        end = done + _number(bits, at + 3, length_bits[index]) + 1
        at += 3 + length_bits[index]
        words = 1 if equal else end - done
        if end > expected or at + words * VALUE_BITS > len(bits):
            raise ValueError(f"its runs end after {done} of {expected} values, or go beyond: export it again")
        values[done:end] = np.packbits(bits[at : at + words * VALUE_BITS])
        at, done = at + words * VALUE_BITS, end
    return np.asarray(values.reshape(height, width, CHANNELS)[:, :, -1] > 0)


def _head(bits: NDArray[np.uint8]) -> list[int]:
    lengths = (_number(bits, 37 + 4 * index, 4) + 1 for index in range(len(LENGTH_BITS)))
    return [_number(bits, 0, 32), _number(bits, 32, 5) + 1, *lengths]


def _number(bits: NDArray[np.uint8], start: int, count: int) -> int:
    """Return the number of so many bits; bits behind the end count as 0."""
    number = 0
    for bit in bits[start : start + count].tolist():
        number = number << 1 | bit
    return number
