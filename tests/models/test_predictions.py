from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import craters
from craters.errors import DataError
from tests.models.tools import SIDE, write_original


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_original(tmp_path_factory.mktemp("run") / "model")


def patches(count: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE)).astype(np.uint8)


def test_arrays_files_and_pictures_have_the_same_predictions(model: Path, tmp_path: Path) -> None:
    loaded = craters.load_model(model)
    expected = loaded.predict_proba(patches())
    np.save(tmp_path / "X.npy", patches())
    (tmp_path / "pictures").mkdir()
    for number, patch in enumerate(patches()):
        Image.fromarray(patch).save(tmp_path / "pictures" / f"{number}.png")
    for images in (
        patches(),
        patches()[..., None],
        patches() / 255,
        craters.make_patch_set(patches()),
        tmp_path / "X.npy",
        str(tmp_path / "pictures"),
    ):
        for given in (model, str(model.parent), loaded):
            found = craters.predict(images, given)
            assert np.abs(found.probability - expected).max() < 1e-6
            assert np.array_equal(found.labels, (expected >= 0.5).astype(np.int32))
    assert found.ids.tolist() == [f"{number}.png" for number in range(9)]


def test_columns_make_a_data_frame(model: Path) -> None:
    columns = craters.predict(patches(), model).columns
    assert list(columns) == ["id", "probability", "label"]
    assert [type(values[0]) for values in columns.values()] == [str, float, int]
    assert {len(values) for values in columns.values()} == {9}


def test_images_that_cannot_be_used_are_an_error(model: Path, tmp_path: Path) -> None:
    Image.fromarray(patches()[0]).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"none")
    with pytest.raises(DataError, match=r"1 of the images cannot be used; the first: .*b\.png"):
        craters.predict(tmp_path, model)
    with pytest.raises(DataError, match=r"patches have shape \(2, 9, 9\), expected"):
        craters.predict(np.zeros((2, 9, 9), np.uint8), model)
