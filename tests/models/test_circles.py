"""The circle detector: pixels, peaks, merging, blocks, graph, model folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from craters.data import SYMMETRIES, transform, transform_places
from craters.errors import DataError, ExistsError, ModelError
from craters.models import (
    CIRCLE_DTYPE,
    CIRCLES,
    Calibration,
    CircleDescription,
    CircleDetector,
    Classifier,
    find_pretrained,
    halve,
    merge_circles,
    new_circle_net,
    read_weights,
    restore_circle_net,
    standardize,
    turn_azimuth,
    write_circle_model,
)
from craters.models.circles import decode, detector
from craters.synthetic import make_scene
from craters.synthetic.craters import CRATER_DTYPE
from tests.models import tools


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a network with random weights, whose logits are spread so that it finds some."""
    network = new_circle_net(3).eval()
    with torch.no_grad():
        network.last.bias[0] = -1.0
        network.last.weight[0] *= 30
    folder = tmp_path_factory.mktemp("circles") / "model"
    return write_circle_model(folder, network, CircleDescription(error_scale=2.0))


@pytest.fixture(scope="module")
def circles(model: Path) -> CircleDetector:
    return CircleDetector.load(model, threads=1)


def _is_shipped() -> bool:
    try:
        return find_pretrained(CIRCLES).is_dir()
    except ModelError:
        return False


def scene(height: int, width: int) -> np.ndarray:
    return make_scene(height, width, seed=5, missing=0.0).image


# --- pixels -------------------------------------------------------------------------------------


def slow_standard(pixels: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Standardize at the middle of a cell, where nothing is interpolated along one axis."""
    size, reach, result = 8, 8, {}
    for row in range(pixels.shape[0] // size):
        for col in range(pixels.shape[1] // size):
            rows = slice(max(0, (row - reach) * size), (row + reach + 1) * size)
            cols = slice(max(0, (col - reach) * size), (col + reach + 1) * size)
            seen = pixels[rows, cols][~missing[rows, cols]]
            result[row, col] = (seen.mean(), seen.std()) if len(seen) else (0.0, 0.0)
    means, spreads = (
        np.array([[result[row, col][part] for col in range(pixels.shape[1] // size)]
                  for row in range(pixels.shape[0] // size)])
        for part in (0, 1)
    )  # fmt: skip
    return np.stack([means, spreads])


def test_brightness_is_standardized_by_the_surroundings() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (160, 192)).astype(np.float32)
    missing = rng.random(pixels.shape) < 0.2
    means, spreads = slow_standard(pixels, missing)
    found = standardize(pixels, missing)
    # Between the middles of four cells, the four pixels around the corner average them equally.
    for row, col in ((3, 4), (10, 12), (15, 20)):
        top, left = 8 * row + 8, 8 * col + 8
        for down in (-1, 0):
            for right in (-1, 0):
                weights = np.outer(
                    [0.5625, 0.4375][:: 1 if down else -1], [0.5625, 0.4375][:: 1 if right else -1]
                )
                mean = (means[row : row + 2, col : col + 2] * weights).sum()
                spread = ((spreads + 3)[row : row + 2, col : col + 2] * weights).sum()
                value = (pixels[top + down, left + right] - mean) / spread
                value /= np.sqrt(1 + (value / 3) ** 2)
                expected = 0 if missing[top + down, left + right] else value
                assert found[top + down, left + right] == pytest.approx(expected, abs=1e-4)


def test_a_part_is_standardized_like_the_whole() -> None:
    pixels = scene(400, 480)
    missing = np.zeros(pixels.shape, bool)
    missing[100:140, 200:300] = True
    whole = standardize(pixels, missing)
    part = standardize(pixels[80:400, 104:480], missing[80:400, 104:480])
    np.testing.assert_allclose(part[72:-72, 72:-72], whole[152:-72, 176:-72], atol=1e-5)


def test_shading_and_contrast_hardly_change_the_brightness() -> None:
    pixels = scene(256, 256).astype(np.float32)
    missing = np.zeros(pixels.shape, bool)
    base = standardize(pixels, missing)
    shaded = pixels * 0.5 + np.linspace(0, 60, 256)[:, None]
    assert np.corrcoef(base.ravel(), standardize(shaded, missing).ravel())[0, 1] > 0.97


def test_half_size_means_the_pixels_that_are_there() -> None:
    pixels = np.array([[1, 3, 10, 10], [5, 7, 20, 99]], np.uint8)
    missing = np.array([[0, 0, 1, 0], [0, 0, 0, 1]], bool)
    values, gone = halve(pixels, missing)
    assert (values.tolist(), gone.tolist()) == ([[4.0, 15.0]], [[False, False]])
    missing[1, 2] = True
    assert halve(pixels, missing)[1].tolist() == [[False, True]]


# --- circles ------------------------------------------------------------------------------------


def make(rows: list[tuple[float, ...]]) -> np.ndarray:
    """Make circles from row, column, diameter and logit."""
    found = np.zeros(len(rows), CIRCLE_DTYPE)
    for name, values in zip(
        ("row", "col", "diameter", "logit"), zip(*rows, strict=True), strict=True
    ):
        found[name] = values
    found["error"] = 1
    return found


def test_peaks_give_centre_diameter_and_error() -> None:
    maps = np.full((5, 12, 10), -5.0, np.float32)
    maps[:, 4, 6] = 2.0, 0.25, -0.5, np.log(1.5), np.log(0.1)
    maps[0, 4, 7] = 1.0  # beside the peak
    maps[:, 9, 3] = 1.0, 0, 0, np.log(3.0), 0  # too large for this level
    (found,) = decode.find_peaks(maps, (2, 11, 2, 9), stride=4, usual_diameter=12)
    assert found["row"] == pytest.approx((2 + 0.5 + 0.25) * 4 - 0.5)
    assert found["col"] == pytest.approx((4 + 0.5 - 0.5) * 4 - 0.5)
    assert (found["diameter"], found["error"]) == pytest.approx((18, 1.8))


def test_of_equal_places_one_is_the_peak_and_neighbours_outside_are_seen() -> None:
    maps = np.zeros((5, 8, 8), np.float32)
    maps[0] = -5
    maps[0, 3, 3:5] = 1.0
    assert len(decode.find_peaks(maps, (1, 7, 1, 7), stride=4, usual_diameter=12)) == 1
    maps[0, 3, 3] = 2.0
    assert len(decode.find_peaks(maps, (1, 7, 4, 7), stride=4, usual_diameter=12)) == 0


def slow_merge(circles: np.ndarray) -> list[int]:
    order = np.lexsort((circles["col"], circles["row"], circles["level"], -circles["logit"]))
    kept: list[int] = []
    for place in order.tolist():
        one = circles[place]
        for other in circles[kept]:
            distance = np.hypot(one["row"] - other["row"], one["col"] - other["col"])
            sizes = sorted([one["diameter"], other["diameter"]])
            ratio = sizes[1] / sizes[0]
            if (distance < 0.35 * sizes[0] and ratio < 2) or (
                distance < 0.5 * sizes[0] and ratio < 1.5
            ):
                break
        else:
            kept.append(place)
    return kept


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 60))
def test_merging_is_greedy_and_does_not_depend_on_the_order(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    rows = np.stack(
        [rng.uniform(0, 80, n), rng.uniform(0, 80, n), rng.uniform(7, 60, n),
         rng.integers(-2, 3, n).astype(float)], 1,
    )  # fmt: skip
    circles = make([tuple(row) for row in rows]) if n else np.zeros(0, CIRCLE_DTYPE)
    merged = merge_circles(circles)
    expected = circles[slow_merge(circles)]
    assert merged.tolist() == expected.tolist()
    shuffled = merge_circles(circles[rng.permutation(n)])
    assert shuffled.tolist() == merged.tolist()


def _first_row(circles: np.ndarray) -> float:
    return float(circles["row"].min(initial=np.inf))


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6), st.integers(0, 80), st.integers(1, 6))
def test_merging_in_parts_keeps_what_merging_all_at_once_keeps(
    seed: int, n: int, n_parts: int
) -> None:
    rng = np.random.default_rng(seed)
    circles = np.zeros(n, CIRCLE_DTYPE)
    circles["row"], circles["col"] = rng.uniform(0, 200, n), rng.uniform(0, 40, n)
    circles["diameter"], circles["error"] = 7 * 2 ** rng.uniform(0, 4, n), rng.uniform(0, 1, n)
    circles["logit"], circles["level"] = rng.integers(-2, 2, n), rng.integers(0, 2, n)
    # Parts overlap, as blocks of different stages do: what counts is the first row of later ones.
    place = np.minimum(circles["row"] / 200 + rng.exponential(0.1, n), 0.999) * n_parts
    members = [circles[place.astype(int) == number] for number in range(n_parts)]
    members.sort(key=_first_row)
    later = [members[number + 1 :] for number in range(n_parts)]
    least = [min(map(_first_row, parts), default=np.inf) for parts in later]
    merged = np.concatenate(list(decode.merge_parts(zip(members, least, strict=True))))
    assert np.sort(merged).tolist() == np.sort(merge_circles(circles)).tolist()


def test_merging_in_parts_waits_for_no_more_than_the_neighbours() -> None:
    circles = make([(10.0, 10, 10, 0), (30, 10, 10, 1), (50, 10, 10, 2), (50, 90, 90, 0)])
    parts = [(circles[[0, 3]], 30.0), (circles[1:2], 50.0), (circles[2:3], np.inf)]
    merged = [part["row"].tolist() for part in decode.merge_parts(parts)]
    assert merged == [[10], [30], [50, 50]]
    # 15 suppresses 18, which is not kept, so that 21 is: each of the three waits for the one below.
    chain = make([(15.0, 10, 10, 2), (18, 10, 10, 1), (21, 10, 10, 0)])
    parts = [(chain[2:], 15.0), (chain[:1], 18.0), (chain[1:2], np.inf)]
    merged = [part["row"].tolist() for part in decode.merge_parts(parts)]
    assert merged == [[], [], [15, 21]]


# --- detector -----------------------------------------------------------------------------------


def test_the_halo_covers_what_a_place_depends_on() -> None:
    network = new_circle_net(0).eval()
    one = torch.randn(1, 384, 384, generator=torch.Generator().manual_seed(0))
    other = one.clone()
    other[:, :, :128] = 0
    with torch.inference_mode():
        change = (network(one) - network(other)).abs().amax((0, 1, 2))
    reach = 4 * (int(change.nonzero().max()) + 1) - 128
    assert 0 < reach <= detector.HALO - detector.STRIDE  # a place of the neighbourhood of a peak
    other = one.clone()
    other[:, :, 256:] = 0
    with torch.inference_mode():
        change = (network(one) - network(other)).abs().amax((0, 1, 2))
    reach = 256 - 4 * int(change.nonzero().min())
    assert 0 < reach <= detector.HALO - detector._FAR - detector.STRIDE


@pytest.mark.parametrize("shape", [(700, 500), (97, 1300), (33, 40)])
def test_blocks_do_not_change_the_circles(
    circles: CircleDetector, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    image = scene(*shape)
    missing = np.zeros(shape, bool)
    missing[: shape[0] // 3, : shape[1] // 4] = True
    whole = circles.detect(image, missing=missing, azimuth=200)
    monkeypatch.setattr(detector, "BLOCK", 160)
    parts = circles.detect(image, missing=missing, azimuth=200)
    assert len(whole) == len(parts)
    assert len(whole) > 5 or min(shape) < 50
    for name in ("row", "col", "diameter", "error", "logit", "level"):
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-2, err_msg=name)


@pytest.mark.parametrize("name", SYMMETRIES)
def test_a_turned_image_gives_turned_circles(circles: CircleDetector, name: str) -> None:
    image = scene(256, 256)
    turned = np.ascontiguousarray(transform(image[None], name)[0])
    found = circles.detect(turned, azimuth=turn_azimuth(290, name))
    # Among the eight, two turns meet the frame; pixels are sampled alike in mirrored images only.
    expected = circles.detect(image, azimuth=290)
    assert len(found) == pytest.approx(len(expected), rel=0.3)
    if name in ("identity", "transpose"):
        row, col = transform_places(expected["row"], expected["col"], image.shape, name)
        order, other = np.lexsort((col, row)), np.lexsort((found["col"], found["row"]))
        np.testing.assert_allclose(found["row"][other], row[order], atol=1e-2)
        np.testing.assert_allclose(found["diameter"][other], expected["diameter"][order], atol=1e-2)


def test_maps_are_turned_back(circles: CircleDetector) -> None:
    maps = np.random.default_rng(1).standard_normal((5, 4, 6)).astype(np.float32)
    for name, (transposed, rows, columns) in SYMMETRIES.items():
        turned = transform(maps, name).copy()
        signs = np.array([-1 if rows else 1, -1 if columns else 1])[:, None, None]
        offsets = turned[[2, 1] if transposed else [1, 2]] * signs  # what was down is right
        turned[1:3] = offsets
        np.testing.assert_allclose(detector._turn_back(turned, name), maps, err_msg=name)


def test_levels_reach_a_quarter_of_the_image() -> None:
    for shape, levels in (((64, 5000), 1), ((20, 20), 1), ((1000, 1000), 5)):
        assert detector.count_levels(shape) == levels
        assert decode.LEVEL_RANGE[1] * 2 ** (levels - 1) >= min(shape) / 4
    stages = detector.plan_blocks((3000, 5000))
    assert [sum(block.height * block.width for block in blocks) for blocks in stages[:2]] == [
        3000 * 5000,
        750 * 1250,
    ]


def test_missing_pixels_alone_give_no_circle(circles: CircleDetector) -> None:
    image = scene(200, 200)
    assert len(circles.detect(image, missing=np.ones(image.shape, bool))) == 0


def test_circles_are_in_the_image_and_scaled(model: Path, circles: CircleDetector) -> None:
    image = scene(300, 300)
    found = circles.detect(image, azimuth=270)
    assert ((found["row"] >= -0.5) & (found["row"] < 299.5)).all()
    assert (np.diff(found["logit"]) <= 0).all()
    description = dataclasses.replace(circles.description, error_scale=4.0, diameter_scale=1.1)
    wider = CircleDetector(description, (model / "model.onnx").read_bytes(), threads=1)
    scaled = wider.detect(image, azimuth=270)
    np.testing.assert_allclose(scaled["diameter"][:5], 1.1 * found["diameter"][:5])
    np.testing.assert_allclose(scaled["error"][:5], 2.2 * found["error"][:5])


def test_wrong_images_are_refused(circles: CircleDetector) -> None:
    with pytest.raises(DataError, match="float64 of shape"):
        circles.detect(np.zeros((40, 40)))
    with pytest.raises(DataError, match="the mask has shape"):
        circles.detect(np.zeros((40, 40), np.uint8), missing=np.zeros((40, 41), bool))


_SIDE = 330  # px of an image with blocks of 160 px


@pytest.mark.parametrize("where", ["seam", "corner of blocks", "edge", "corner"])
@settings(deadline=None, max_examples=6)
@given(st.integers(0, 10**6), st.sampled_from([13.0, 26.0, 52.0]), st.booleans())
def test_a_planted_crater_is_found_once(where: str, seed: int, change: float, turned: bool) -> None:
    """Of a diameter at which one level ends or the next one begins, on seams and at the frame."""
    if not _is_shipped():
        pytest.skip("this installation lacks the circle detector")
    random = np.random.default_rng(seed)
    diameter = change * 2 ** random.uniform(-0.1, 0.1)

    def at_seam() -> float:
        return 160 + random.uniform(-3, 3)

    def at_edge() -> float:
        away = 1 + diameter * random.uniform(0.52, 0.62)
        return away if random.random() < 0.5 else _SIDE - 1 - away

    anywhere = random.uniform(diameter, _SIDE - diameter)
    row, col = {
        "seam": (anywhere, at_seam()),
        "corner of blocks": (at_seam(), at_seam()),
        "edge": (anywhere, at_edge()),
        "corner": (at_edge(), at_edge()),
    }[where]
    crater = np.zeros(1, CRATER_DTYPE)
    crater["row"], crater["col"] = (col, row) if turned else (row, col)
    crater["diameter"], crater["freshness"] = diameter, 1.0
    image = make_scene(_SIDE, _SIDE, seed=seed, craters=crater, missing=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "BLOCK", 160)
        found = CircleDetector.load(CIRCLES, threads=1).detect(image.image, azimuth=image.azimuth)
    away = np.hypot(found["row"] - crater["row"], found["col"] - crater["col"])
    alike = np.abs(np.log2(found["diameter"] / diameter)) < 0.5
    assert np.count_nonzero((away < 0.25 * diameter) & alike) == 1


# --- model folder -------------------------------------------------------------------------------


def test_a_model_folder_gives_the_network_back(model: Path, tmp_path: Path) -> None:
    network = restore_circle_net(read_weights(model))
    again = write_circle_model(tmp_path / "again", network, CircleDescription(error_scale=2.0))
    assert (again / "model.onnx").read_bytes() == (model / "model.onnx").read_bytes()
    with pytest.raises(ExistsError, match="again"):
        write_circle_model(again, network, CircleDescription())


def test_the_description_is_checked() -> None:
    full = CircleDescription(
        calibration=Calibration(slope=1.2, offset=-0.4, share=0.3, candidates=100, scatter=0.2),
        training={"images": "synthetic"},
        metrics={"hrsc": {"f1": 0.8}},
    )
    assert CircleDescription.from_json(full.to_json()) == full
    for text, message in (
        (full.to_json().replace('"circles"', '"compact"'), "expected a circle detector"),
        (full.to_json().replace('"slope": 1.2', '"slope": -1'), "no valid calibration"),
        (full.to_json().replace('"error_scale": 1.0', '"error_scale": "1"'), "error_scale is '1'"),
        (full.to_json().replace('"metrics"', '"figures"'), "unknown key 'figures'"),
        ("[]", "no JSON object"),
    ):
        with pytest.raises(ModelError, match=message):
            CircleDescription.from_json(text)


def test_models_of_the_other_kind_are_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is of a circle detector") as caught:
        Classifier.load(model)
    assert "craters scan" in caught.value.hint
    tools.write_original(tmp_path / "original")
    with pytest.raises(ModelError, match="network 'original', expected a circle detector"):
        CircleDetector.load(tmp_path / "original")
