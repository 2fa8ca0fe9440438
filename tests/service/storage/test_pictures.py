"""What is stored of a part that passed, and what is drawn of it when somebody asks."""

from __future__ import annotations

import io

import numpy as np
import pytest

from glad.image_codec import decode_image
from service.storage.pictures import DRAWN_NAMES, Drawing, overlay_ground
from tests.support.line import picture

IMAGE = picture(96, 48)
ORIGINAL = decode_image(IMAGE).pixels


def a_drawing() -> Drawing:
    """With a map that float16 holds without rounding."""
    values = np.zeros((32, 64), np.float32)
    values[8:16, 20:40] = np.linspace(0.5, 2.0, 20 * 8, dtype=np.float16).reshape(8, 20)
    return Drawing(values, top=2.0, threshold=1.0)


@pytest.mark.parametrize("name", DRAWN_NAMES)
def test_what_is_drawn_later_is_what_would_have_been_drawn_at_once(name: str) -> None:
    drawing = a_drawing()
    at_once = {one: drawing.draw(one, overlay_ground(ORIGINAL)) for one in DRAWN_NAMES}
    (drawn,) = [one for one in DRAWN_NAMES if one == name]
    assert Drawing.from_bytes(drawing.to_bytes()).draw(drawn, ORIGINAL) == at_once[drawn]
    assert len(set(at_once.values())) == len(DRAWN_NAMES)


def test_a_drawing_is_half_a_map_and_a_map_is_float32_all_the_same() -> None:
    rng = np.random.default_rng(3)
    values = rng.gamma(2.0, 0.5, (64, 64)).astype(np.float32)
    stored = Drawing(values, 2.0, 1.0).to_bytes()
    found = np.load(io.BytesIO(Drawing.from_bytes(stored).draw("map.npy")))
    assert len(stored) < 0.6 * values.nbytes
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, values, rtol=2**-11)


def test_what_float16_cannot_hold_stays_large() -> None:
    values = np.array([[1e6, -1e6], [0.0, np.inf]], np.float32)
    found = Drawing.from_bytes(Drawing(values, 2.0, 1.0).to_bytes()).map
    assert found.tolist() == [[65504.0, -65504.0], [0.0, 65504.0]]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", picture()])
def test_other_bytes_are_no_drawing(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a drawing|pickled"):
        Drawing.from_bytes(content)


def test_an_overlay_needs_the_original() -> None:
    with pytest.raises(ValueError, match="original"):
        a_drawing().draw("overlay.png")
