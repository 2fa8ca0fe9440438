"""The printed label: what a good part carries, what a wrong one may carry, and the ink of both."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

from training.sample_product.geometry import LABEL, Field

INK_SCALE = 2  # texture pixels per image pixel
_DRAW_SCALE = 6  # drawn larger, then reduced: smooth glyph edges

Colour = tuple[int, int, int]

ORANGE: Colour = (222, 92, 18)
BLUE: Colour = (26, 84, 168)
GREEN: Colour = (30, 128, 72)
VIOLET: Colour = (120, 40, 132)
PAPER: Colour = (232, 230, 222)
INK: Colour = (24, 24, 28)


@dataclass(frozen=True)
class Print:
    """The print: the part type in big characters, a barcode by its seed, the colours and the layout."""

    type_text: str
    barcode_seed: int
    band: Colour = ORANGE
    paper: Colour = PAPER
    ink: Colour = INK
    band_below: bool = False
    upside_down: bool = False


GOOD_PRINT = Print("KX-42", 42)
WRONG_TYPES = (Print("RB-17", 17), Print("MT-86", 86), Print("HZ-93", 93), Print("WN-05", 5), Print("PD-61", 61))
WRONG_BANDS = (BLUE, GREEN, VIOLET)


def other_label(index: int) -> Print:
    """Return one of the quite different labels: the good one upside down, or inverted colours in another layout."""
    if index == 0:
        return replace(GOOD_PRINT, upside_down=True)
    wrong = WRONG_TYPES[(index - 1) % len(WRONG_TYPES)]
    return replace(wrong, band=WRONG_BANDS[index % 3], paper=(30, 32, 38), ink=(226, 226, 220), band_below=True)


def _font(height_px: float) -> FreeTypeFont:
    font = ImageFont.load_default(size=height_px)
    if not isinstance(font, FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType; the label needs it: install a Pillow wheel")
    return font


def _write(drawing: ImageDraw.ImageDraw, text: str, box: tuple[float, float, float, float], ink: Colour) -> None:
    """Write text stretched to fill a box (left, top, right, bottom) in drawing pixels."""
    left, top, right, bottom = (round(edge) for edge in box)
    font = _font(2.0 * (bottom - top))
    text_left, text_top, text_right, text_bottom = (round(edge) for edge in font.getbbox(text))
    glyphs = Image.new("L", (text_right - text_left, text_bottom - text_top))
    ImageDraw.Draw(glyphs).text(
        (-text_left, -text_top), text, fill=255, font=font, stroke_width=round(0.03 * (bottom - top)), stroke_fill=255
    )
    drawing.bitmap((left, top), glyphs.resize((right - left, bottom - top), Image.Resampling.LANCZOS), fill=ink)


def _barcode(drawing: ImageDraw.ImageDraw, seed: int, box: tuple[float, float, float, float], ink: Colour) -> None:
    left, top, right, bottom = box
    modules = np.random.Generator(np.random.Philox(np.random.SeedSequence([7, seed]))).integers(1, 4, size=64)
    unit = (right - left) / float(modules.sum())
    edges = left + unit * np.concatenate([[0], np.cumsum(modules)])
    for start, stop in zip(edges[0:-1:2], edges[1::2], strict=True):
        drawing.rectangle((float(start), top, float(stop), bottom), fill=ink)


@cache
def label_ink(printed: Print) -> Field:
    """Return the printed sheet, sRGB values in [0, 1]: (2·half_height·INK_SCALE, 2·half_width·INK_SCALE, 3)."""
    scale = float(_DRAW_SCALE)
    width, height = 2 * LABEL.half_width * scale, 2 * LABEL.half_height * scale
    sheet = Image.new("RGB", (round(width), round(height)), printed.paper)
    drawing = ImageDraw.Draw(sheet)
    drawing.fontmode = "L"
    band_top = height - 30 * scale if printed.band_below else 0.0
    text_top = 8 * scale if printed.band_below else 36 * scale
    code_top = 54 * scale if printed.band_below else 84 * scale
    drawing.rectangle((0, band_top, width, band_top + 26 * scale), fill=printed.band)
    for text, start, stop in (("GLAD MECHANICAL", 10, 118), ("24V DC", 146, 196)):
        _write(
            drawing, text, (start * scale, band_top + 8 * scale, stop * scale, band_top + 18 * scale), (245, 243, 238)
        )
    _write(drawing, printed.type_text, (10 * scale, text_top, 146 * scale, text_top + 40 * scale), printed.ink)
    for line, text in enumerate(("IP67 3.2A", "-25..70C", "EN 61984")):
        line_top = text_top + (2 + 13 * line) * scale
        _write(drawing, text, (156 * scale, line_top, 198 * scale, line_top + 8 * scale), printed.ink)
    _barcode(drawing, printed.barcode_seed, (10 * scale, code_top, 198 * scale, code_top + 20 * scale), printed.ink)
    if printed.upside_down:
        sheet = sheet.transpose(Image.Transpose.ROTATE_180)
    reduced = sheet.resize(
        (round(2 * LABEL.half_width * INK_SCALE), round(2 * LABEL.half_height * INK_SCALE)), Image.Resampling.BOX
    )
    return np.asarray(reduced, dtype=np.float32) / np.float32(255)
