"""The table of completeness: what it states between and beyond its rows, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from craters.detection.size_frequency.recall import read_recall
from craters.errors import DataError

HEAD = "diameter_low_km,diameter_high_km,freshness,recall,low,high\n"


def test_recall_by_diameter(tmp_path: Path) -> None:
    """Of all craters; ranges without a statement are left out."""
    path = tmp_path / "completeness.csv"
    path.write_text(
        HEAD + "2,4,all,0.9,0.8,0.95\n1,2,all,0.6,0.5,0.7\n1,2,fresh,1,0.9,1\n4,8,all,,,\n"
    )
    table = read_recall(path)
    assert table.edges.tolist() == [[1, 2], [2, 4]]
    assert table.trusted_from == 2.0
    at = np.array([0.9, 1.0, np.sqrt(2), 2.0, np.sqrt(8), 100.0])
    best = table.at(at, np.zeros(1))[0]
    assert best.tolist() == pytest.approx([np.nan, 0.6, 0.6, 0.75, 0.9, 0.9], nan_ok=True)
    low, high = table.at(at[[2, 4]], np.array([-1.96, 1.96]))
    assert low.tolist() == pytest.approx([0.5, 0.8])
    assert high.tolist() == pytest.approx([0.7, 0.95])
    path.write_text(HEAD + "1,2,all,0.9,0.8,1\n2,4,all,0.7,0.6,0.8\n")
    assert read_recall(path).trusted_from is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("diameter_low_km,recall\n1,2\n", "lacks diameter_high_km, low, high"),
        (HEAD, "lacks"),
        (HEAD + ",,all,0.9,0.8,1\n", "no recall for any range of diameters in km"),
        (HEAD + "1,2,all,much,0.8,1\n", "something else than numbers"),
        (HEAD + "1,2,all,0.9,0.95,1\n", "is impossible"),
        (HEAD + "1,2,all,0.9,0.8,1\n1.5,3,all,0.9,0.8,1\n", "is impossible"),
    ],
)
def test_damaged_tables(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "completeness.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_recall(path)
