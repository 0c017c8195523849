"""The record of training pixels, and reading arrays by the range of a model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from craters.data import PixelRecord, differences, make_patch_set, read_job_data, to_8bit
from craters.errors import DataError
from tests.conftest import write_job

RANDOM = np.random.default_rng(2)
WIDE = RANDOM.integers(9000, 30_000, (20, 12, 12)).astype(np.uint16)
UINT16 = PixelRecord(dtype="uint16", range=(0, 65535))
FLOATS = PixelRecord(dtype="float32", range=(0, 255))
UNIT = PixelRecord(dtype="float32", range=(0, 1))


def test_statistics_are_those_of_numpy() -> None:
    images = RANDOM.integers(3, 200, (5000, 8, 8)).astype(np.uint8)
    record = PixelRecord().measured(images)
    assert record.mean == pytest.approx(images.mean(), abs=1e-4)
    assert record.spread == pytest.approx(images.std(), abs=1e-4)
    expected = np.percentile(images, (1, 5, 50, 95, 99), method="inverted_cdf")
    assert record.percentiles == tuple(expected.tolist())
    assert PixelRecord().measured(images[:0]) == PixelRecord()


def test_a_record_survives_json_and_odd_ones_are_refused() -> None:
    record = dataclasses.replace(UINT16, stretch=(32.4, 217.5), fill=97).measured(WIDE.view("u1"))
    plain = json.loads(json.dumps(dataclasses.asdict(record)))
    assert PixelRecord.from_dict(plain, "x") == record
    wrong: list[dict] = [
        {"dtype": "complex64"}, {"range": [255, 0]}, {"range": [0, float("inf")]}, {"given": 1},
        {"stretch": [3, 300]}, {"fill": "a"}, {"mean": 3.0}, {"percentiles": [1, 2, 3]}, {"x": 1},
        {"mean": 3.0, "spread": 1.0, "percentiles": [5, 4, 3, 2, 1]}, {"range": 5}, {"dtype": []},
    ]  # fmt: skip
    for values in wrong:
        with pytest.raises(DataError, match=r"model\.json: "):
            PixelRecord.from_dict(values, "model.json")


# A range that is a part of the model's, or ambiguous, is read by the model's.
@pytest.mark.parametrize(
    ("images", "trained", "factor"),
    [
        (WIDE, None, 1 / 257),
        (WIDE % 9000 + 300, UINT16, 1 / 257),  # looks like 14 bits otherwise
        (WIDE // 200, None, 1),
        (WIDE // 200, PixelRecord(), 1),  # a model of 8-bit patches says nothing of 16 bits
        (WIDE, UNIT, 1 / 257),
        (WIDE / 65535, UNIT, 255),
        (WIDE / 65535, UINT16, 255),
        (WIDE / 257, UNIT, 1),  # beyond its range, and clear
        (WIDE / 20_000, FLOATS, 1),  # 0..1.5 is ambiguous otherwise
    ],
)
def test_arrays_are_read_by_the_range_of_the_model(images, trained, factor: float) -> None:
    assert (to_8bit(images, "x", trained)[0] == np.rint(images * factor)).all()


@pytest.mark.parametrize(
    ("images", "trained", "hint"),
    [(WIDE // 200, UINT16, "255 or 65535"), (WIDE / 65535, FLOATS, "1 or 255")],
)
def test_what_may_be_of_either_range_is_refused(images, trained, hint: str) -> None:
    with pytest.raises(DataError, match=f"white may be {hint}"):
        to_8bit(images, "x", trained)


def test_a_range_that_a_user_gave_holds_within_it() -> None:
    given = PixelRecord(dtype="uint16", range=(1000, 31_000), given=True)
    expected = np.rint((WIDE.astype(float) - 1000) * (255 / 30_000))
    assert (to_8bit(WIDE, "x", given)[0] == expected).all()
    with pytest.raises(DataError, match="looks like 14-bit data"):
        to_8bit(WIDE % 9000 + 300, "x", given)


def test_notes_say_how_patches_differ_from_the_training_ones() -> None:
    images = RANDOM.integers(80, 170, (50, 12, 12)).astype(np.uint8)
    trained = PixelRecord().measured(images)
    assert make_patch_set(images, trained=trained).notes == ()
    dark = make_patch_set(images // 10, names=("a.npy", "", ""), trained=trained)
    assert dark.notes == (
        f"a.npy is much darker than training patches (mean 12 of 255, there {trained.mean:.0f})",
        f"a.npy has much less contrast than training patches (deviation 3, there "
        f"{trained.spread:.0f})",
    )
    assert make_patch_set(images // 10, trained=PixelRecord()).notes == ()  # nothing is known
    assert differences(130, 100, 125, 40) == [
        "has much more contrast than training patches (deviation 100, there 40)"
    ]


def test_a_job_takes_the_scaling_that_is_recorded_beside_8_bit_arrays(tmp_path: Path) -> None:
    folder = write_job(tmp_path / "DATA", side=12)
    plain = read_job_data(folder)
    assert (plain.pixels, plain.scaled) == (PixelRecord(), None)
    (folder / "summary.json").write_text('{"pixels": 2304}')  # of another program
    assert read_job_data(folder).pixels == PixelRecord()
    (folder / "labels.json").write_text(json.dumps({"pixels": dataclasses.asdict(UINT16)}))
    data = read_job_data(folder)
    assert data.pixels == UINT16
    assert data.training_pixels == UINT16.measured(data.train.images)
    assert data.train.pixel_range == "0..255"
    images = np.array(data.train.images)
    (folder / "Xtrain1.npy").unlink()  # mapped
    np.save(folder / "Xtrain1.npy", images / 255)
    assert read_job_data(folder).pixels == PixelRecord(dtype="float64", range=(0, 1))
    (folder / "Xtrain1.npy").unlink()
    np.save(folder / "Xtrain1.npy", images)
    (folder / "summary.json").write_text('{"pixels": {"dtype": "uint8", "range": [3]}}')
    with pytest.raises(DataError, match=r"summary\.json: .*no valid record of pixels"):
        read_job_data(folder)
