"""Cells of CSV files are no formulas in a spreadsheet, and numbers stay numbers."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.csv_lines import csv_line, guarded, unguarded

SIGNS = "=+-@＝＋－＠"


@pytest.mark.parametrize("before", ["", " ", '"', ";", "a;", "a; ", 'a;"', "a\t", "a\n", "a\r"])
@pytest.mark.parametrize("sign", SIGNS)
def test_no_text_begins_a_formula_wherever_a_spreadsheet_parts_cells(before: str, sign: str) -> None:
    line = csv_line([f"{before}{sign}1+1", "b"])
    for separator in ",;\t":
        cells = [cell for row in csv.reader(io.StringIO(line, newline=""), delimiter=separator) for cell in row]
        assert not any(cell.strip(" \t\r\n\"'").startswith(sign) and not cell.startswith("'") for cell in cells)


@pytest.mark.parametrize("text", ["\t1", "\r1"])
def test_a_tab_or_a_return_that_a_spreadsheet_skips_does_not_begin_a_cell(text: str) -> None:
    assert guarded(text) == f"'{text}"


def test_numbers_stay_numbers_and_a_text_that_looks_like_one_is_a_text() -> None:
    cells = (-0.5, np.float32(-0.5), -3, True, None, "-0.5", "SN-7", "a;b")
    assert csv_line(cells) == "-0.5,-0.5,-3,True,,'-0.5,SN-7,a;b\r\n"


@given(st.text(alphabet=f"{SIGNS}'\";\t\r\n a1", max_size=8))
def test_a_guard_is_taken_off_again_without_doubt(text: str) -> None:
    assert unguarded(guarded(text)) == text
