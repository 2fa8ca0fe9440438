"""The image's own seeded noise, epsilon of Eq. 1: the same pixels give the same noise today and next year.

SHA-256 of the pixels keys a Philox counter; its raw bits, which NumPy keeps stable, become normal by Box-Muller in
float64. No library's normal sampler, whose stream may change, and nothing of batch, clock or bundle version enters.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from math import prod, tau

import numpy as np
from numpy.typing import NDArray

FORMAT = "glad-noise/1"
"""Part of the hash: a change of anything here is a new format, and changes every score."""


def image_noise(pixels: NDArray[np.uint8], noise_seed: int, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return standard normal noise for one image, float32.

    Args:
        pixels: the upright RGB original, (H, W, 3) uint8.
        noise_seed: the bundle's.
        shape: (C, h, w) of the latent, and of the noise.

    Raises:
        ValueError: if the pixels are of another shape or type.
    """
    return digest_noise(pixel_digest(pixels, noise_seed), shape)


def digest_noise(digest: bytes, shape: tuple[int, int, int], tile: int = 0) -> NDArray[np.float32]:
    """Return the noise of `image_noise` from the pixels' digest, which is made once for all tiles of an image.

    Args:
        digest: of `pixel_digest`.
        shape: (C, h, w) of the latent, and of the noise.
        tile: the tile's index; that of a whole image, and of the first tile, is 0.
    """
    count = prod(shape)
    tile_digest = digest if tile == 0 else hashlib.sha256(f"{FORMAT} tile={tile}\n".encode() + digest).digest()
    raw = _raw_bits(tile_digest, 2 * ((count + 1) // 2))
    return _box_muller(raw)[:count].reshape(shape).astype(np.float32)


def fixed_digest(noise_seed: int) -> bytes:
    """Return the digest that takes the place of `pixel_digest` where every image draws the same noise."""
    return hashlib.sha256(f"{FORMAT} fixed seed={noise_seed}\n".encode()).digest()


@lru_cache(maxsize=64)
def fixed_noise(noise_seed: int, shape: tuple[int, int, int], tile: int = 0) -> NDArray[np.float32]:
    """Return the noise that a tile of every image draws: `digest_noise` of `fixed_digest`, made once.

    Callers share the array: nobody may write into it.
    """
    return digest_noise(fixed_digest(noise_seed), shape, tile)


def pixel_digest(pixels: NDArray[np.uint8], noise_seed: int) -> bytes:
    """Return the SHA-256 of the pixels (H, W, 3) uint8, their size and the seed.

    Raises:
        ValueError: if the pixels are of another shape or type.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}; give upright RGB: uint8 (H, W, 3)")
    height, width = pixels.shape[:2]
    header = f"{FORMAT} {width}x{height} seed={noise_seed} tile=0\n"
    hashed = hashlib.sha256(header.encode())
    hashed.update(np.ascontiguousarray(pixels).data)
    return hashed.digest()


def _raw_bits(digest: bytes, count: int) -> NDArray[np.uint64]:
    """Return `count` raw 64-bit words of Philox 4x64-10.

    The key is the digest's first half; its second half becomes the two high words of the counter, whose low ones count.
    """
    words = np.frombuffer(digest, dtype="<u8").astype(np.uint64)
    counter = np.array([0, 0, words[2], words[3]], dtype=np.uint64)
    return np.asarray(np.random.Philox(key=words[:2], counter=counter).random_raw(count), dtype=np.uint64)


def _box_muller(raw: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return as many standard normal values as there are raw words, an even number.

    r = sqrt(-2 ln u_1) from the first half of the words, theta = 2 pi u_2 from the second; r cos theta, r sin theta.
    """
    half = len(raw) // 2
    units = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53  # [0, 1), 53 bits
    radii = np.sqrt(-2.0 * np.log(1.0 - units[:half]))  # 1 - u lies in (0, 1]: never log(0)
    angles = tau * units[half:]
    return np.concatenate([radii * np.cos(angles), radii * np.sin(angles)])
