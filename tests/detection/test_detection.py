"""Train the detector further and calibrate it: crops, known answers, a short training."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import expit

from craters.data import SYMMETRIES
from craters.detection import (
    FineTuning,
    LabeledImage,
    fine_tune,
    fit_calibration,
    fit_error_scale,
)
from craters.detection.images import draw_crop, make_levels
from craters.errors import DataError
from craters.models import CircleDetector, LightFrame, network_weights, new_circle_net
from craters.models.circles.description import CircleDescription
from craters.models.circles.export import circles_to_onnx
from craters.synthetic import make_scene
from craters.training import TRUTH_DTYPE
from tests.simulated_gpu import simulated_gpu


def labeled(seed: int, shape: tuple[int, int] = (300, 340), **changes: object) -> LabeledImage:
    scene = make_scene(*shape, seed=seed, look="moon")
    craters = np.zeros(len(scene.craters), TRUTH_DTYPE)
    for name in ("row", "col", "diameter"):
        craters[name] = scene.craters[name]
    craters["counted"] = scene.craters["contrast"] > 0.7
    return LabeledImage(
        name=f"image {seed}",
        group="one",
        pixels=scene.image,
        missing=scene.image == 0,
        craters=craters,
        azimuth=scene.azimuth,
        **changes,  # type: ignore[arg-type]
    )


def marked(seed: int) -> LabeledImage:
    """Return an image of noise with craters at whole pixels, which show where they are."""
    rng = np.random.default_rng(seed)
    craters = np.zeros(30, TRUTH_DTYPE)
    craters["row"], craters["col"] = rng.integers(0, 200, 30), rng.integers(0, 240, 30)
    craters["diameter"], craters["counted"] = 10, True
    pixels = rng.integers(0, 256, (200, 240)).astype(np.uint8)
    return LabeledImage("noise", "one", pixels, pixels == 0, craters, azimuth=270.0)


@pytest.mark.parametrize("azimuth", [10.0, 100.0, 190.0, 280.0, 330.0])
def test_craters_turn_with_their_image(azimuth: float) -> None:
    image = dataclasses.replace(marked(1), azimuth=azimuth)
    turned = image.in_frame(LightFrame())
    for before, after in zip(image.craters, turned.craters, strict=True):
        assert (
            turned.pixels[int(after["row"]), int(after["col"])]
            == image.pixels[int(before["row"]), int(before["col"])]
        )
    assert turned.azimuth == 270


def test_levels_halve_the_craters_and_count_those_of_their_size() -> None:
    image = labeled(2)
    image.craters["counted"] = True
    levels = make_levels(dataclasses.replace(image, azimuth=270.0), LightFrame(), 3)
    for number, level in enumerate(levels):
        diameters = image.craters["diameter"] / 2**number
        counted = level.craters[level.craters["counted"]]
        assert len(counted) == ((diameters >= 7) & (diameters <= 26)).sum()
        assert level.brightness.shape == tuple(-(-n // 64) * 64 // 2**number for n in (300, 340))
    crater = image.craters[image.craters["diameter"] > 30][0]
    same = levels[1].craters[np.isclose(levels[1].craters["diameter"], crater["diameter"] / 2)]
    assert same["row"][0] == pytest.approx((crater["row"] + 0.5) / 2 - 0.5)


@pytest.mark.parametrize("side", [64, 512])
def test_crops_carry_their_craters(side: int) -> None:
    level = make_levels(marked(3), LightFrame(), 1)[0]
    random = np.random.default_rng(0)
    seen = 0
    for _ in range(10):
        crop, craters = draw_crop(level, side, random)
        assert crop.shape == (side, side)
        for crater, whole in zip(craters, level.craters, strict=True):
            row, col = int(crater["row"]), int(crater["col"])
            if 0 <= row < side and 0 <= col < side:
                assert crop[row, col] == level.brightness[int(whole["row"]), int(whole["col"])]
                seen += 1
    assert seen > 10


@pytest.mark.slow
def test_training_finds_more_craters() -> None:
    images = [labeled(seed) for seed in range(6)]
    network = new_circle_net(0)
    how = FineTuning(steps=150, learning_rate=3e-3, rehearsed=0.0, batch_size=4, share=1.0)
    trained = fine_tune(network_weights(network), images, LightFrame(), how)
    detector = CircleDetector(CircleDescription(), circles_to_onnx(trained), threads=1)
    image = labeled(50)
    found = detector.detect(image.pixels, missing=image.missing, azimuth=image.azimuth)
    sure = found[:20]
    large = image.craters[image.craters["diameter"] >= 7]
    distance = np.hypot(sure["row"][:, None] - large["row"], sure["col"][:, None] - large["col"])
    assert (distance.min(axis=1) < 6).mean() > 0.5


def test_training_is_reproducible() -> None:
    images = [labeled(0)]
    how = FineTuning(steps=3, batch_size=2, rehearsed=0.0, seed=4)
    start = network_weights(new_circle_net(0))
    first, second = (fine_tune(start, images, LightFrame(), how) for _ in range(2))
    for name, weight in network_weights(first).items():
        np.testing.assert_array_equal(weight, network_weights(second)[name], err_msg=name)
    assert any(
        not np.array_equal(weight, start[name]) for name, weight in network_weights(first).items()
    )


@pytest.mark.usefixtures("float32_on_cpu")
def test_a_simulated_gpu_gives_the_weights_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    images, start = [labeled(0)], network_weights(new_circle_net(0))
    how = FineTuning(steps=2, batch_size=2, rehearsed=0.0, seed=4)
    expected = network_weights(fine_tune(start, images, LightFrame(), how))
    with simulated_gpu(monkeypatch) as casts:
        found = fine_tune(start, images, LightFrame(), dataclasses.replace(how, device="cuda"))
    assert casts == [("cuda", torch.bfloat16, True)] * 2
    for name, weight in network_weights(found).items():
        np.testing.assert_array_equal(weight, expected[name], err_msg=name)


def test_weights_are_kept_half_way() -> None:
    images, start = [labeled(0)], network_weights(new_circle_net(0))
    ends = [
        network_weights(
            fine_tune(start, images, LightFrame(), FineTuning(steps=2, rehearsed=0.0, share=share))
        )
        for share in (0.0, 0.5, 1.0)
    ]
    for name, weight in ends[1].items():
        if weight.dtype.kind == "f":
            np.testing.assert_allclose(weight, (ends[0][name] + ends[2][name]) / 2, atol=1e-6)
            np.testing.assert_array_equal(ends[0][name], start[name])


def test_images_without_counted_craters_are_refused() -> None:
    image = labeled(0)
    image.craters["counted"] = False
    start = network_weights(new_circle_net(0))
    with pytest.raises(DataError, match="none of the 1 images has a crater"):
        fine_tune(start, [image], LightFrame(), FineTuning(steps=1))


def test_calibration_finds_slope_offset_and_scatter() -> None:
    rng = np.random.default_rng(0)
    n, groups = 40_000, np.repeat([f"g{number}" for number in range(20)], 2000)
    shifts = np.repeat(rng.normal(0, 0.5, 20), 2000)
    logits = rng.normal(-1, 2, n)
    is_crater = rng.random(n) < expit(1.4 * logits + 0.3 + shifts)
    found = fit_calibration(logits, is_crater, groups)
    assert found.slope == pytest.approx(1.4, abs=0.1)
    assert found.offset == pytest.approx(0.3 + shifts.mean(), abs=0.1)
    assert found.share == pytest.approx(is_crater.mean())
    assert found.scatter == pytest.approx(0.5, abs=0.15)
    same = rng.random(n) < expit(1.4 * logits + 0.3)
    assert fit_calibration(logits, same, groups).scatter < 0.1
    with pytest.raises(DataError, match="too few for a calibration"):
        fit_calibration(logits[:30], is_crater[:30], groups[:30])


def test_the_error_scale_makes_errors_one_standard_deviation() -> None:
    rng = np.random.default_rng(1)
    expected = rng.uniform(0.5, 2, 20_000)
    errors = 1.7 * expected * rng.standard_normal(20_000)
    assert fit_error_scale(errors, expected) == pytest.approx(1.7, rel=0.03)


def test_images_are_checked() -> None:
    image = labeled(0)
    with pytest.raises(DataError, match="mask of"):
        dataclasses.replace(image, missing=np.zeros((3, 3), bool))
    with pytest.raises(DataError, match="expected"):
        dataclasses.replace(image, craters=np.zeros(3))
    assert set(SYMMETRIES) >= {"identity"}
