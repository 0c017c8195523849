"""The transforms of training keep the light, as labels show it or the pretrained model sees it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from craters.core import NullProgress
from craters.data import (
    SYMMETRIES,
    JobData,
    PatchSet,
    make_patch_set,
    measure_light,
    measure_symmetry,
    transform,
)
from craters.errors import ConfigError
from craters.models import Light, folder, turn_azimuth
from craters.pipeline import light
from craters.pipeline.light import choose_transforms, keep_light
from craters.pipeline.stages import run_stages
from craters.settings import JobSettings
from tests.models.tools import lit_patches, write_lit

AUTO = JobSettings(threads=1, start="random")


@pytest.fixture(autouse=True)
def _small_pretrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(folder._SHIPPED, "pretrained", write_lit(tmp_path / "lit"))


def patches_of(n: int, azimuth: float, seed: int = 1, side: int = 32) -> PatchSet:
    return make_patch_set(*lit_patches(n, azimuth, seed, side))


def angle(first: float, second: float) -> float:
    return abs((first - second + 180) % 360 - 180)


@pytest.mark.parametrize("azimuth", [0, 45, 100, 190, 275])
def test_labels_show_the_light_and_follow_the_eight_transforms(azimuth: float) -> None:
    images, labels = lit_patches(300, azimuth, 2)
    measured = measure_light(images, labels)
    assert measured is not None
    assert angle(measured, azimuth) < 12
    for name in SYMMETRIES:
        turned = measure_light(transform(images, name), labels)
        assert turned is not None
        assert angle(turned, turn_azimuth(measured, name)) < 1e-3, name


def test_labels_show_no_light_where_it_is_not_clear() -> None:
    images, labels = lit_patches(300, 90, 2)
    few = np.flatnonzero(labels == 1)[:19]
    rows = np.concatenate([few, np.flatnonzero(labels == 0)])
    assert measure_light(images[rows], labels[rows]) is None  # fewer than 20 craters
    noise = np.random.default_rng(0).normal(120, 8, images.shape).clip(0, 255).astype(np.uint8)
    assert measure_light(noise, labels) is None
    half = np.arange(300) % 4 < 2
    both = np.where(half[:, None, None], images, transform(images, "rotate-180"))
    assert measure_light(both, labels) is None
    slope = np.linspace(-40, 40, 32)[None, None] * labels[:, None, None]
    sloped = (noise + slope).clip(0, 255).astype(np.uint8)
    assert measure_light(sloped, labels) is None  # a slope of brightness is no shading


@pytest.mark.parametrize(
    ("azimuth", "mirror"),
    [
        (270, "up-down"), (249, "up-down"), (85, "up-down"), (0, "left-right"), (200, "left-right"),
        (315, "transpose"), (130, "transpose"), (45, "anti-transpose"), (230, "anti-transpose"),
    ],
)  # fmt: skip
def test_the_mirror_that_keeps_the_light_is_allowed(azimuth: float, mirror: str) -> None:
    report = keep_light(Light(azimuth))
    assert report.allowed == ("identity", mirror)
    assert angle(turn_azimuth(azimuth, mirror), azimuth) <= 45


def test_few_labels_leave_the_light_to_the_pretrained_model() -> None:
    train, pool = patches_of(99, 90), patches_of(200, 90, seed=3)
    report = choose_transforms(train, pool, AUTO)
    assert report.allowed == ("identity", "up-down")
    assert report.correlation == {}
    assert report.sentence.startswith("symmetry auto: identity and up-down keep the light from ")
    assert report.sentence.endswith("estimated from 64 patches")
    assert report.warning == ""
    above = patches_of(60, 0)
    no_pool = choose_transforms(above, above.take(np.arange(0)), AUTO)
    assert no_pool.allowed == ("identity", "left-right")


def test_from_a_hundred_labels_on_they_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    train, pool = patches_of(100, 90), patches_of(200, 0)
    expected = measure_symmetry(train.images, train.labels)
    assert choose_transforms(train, train, AUTO, compare=True) == expected

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(light, "_find_light", refuse)
    assert choose_transforms(train, pool, AUTO) == expected
    few = train.take(np.arange(50))
    for symmetry in ("none", "flips", "dihedral"):
        fixed = choose_transforms(few, pool, dataclasses.replace(AUTO, symmetry=symmetry))
        assert fixed.sentence.startswith(f"symmetry {symmetry}: ")


def test_a_stated_light_decides_whatever_the_labels_show() -> None:
    train, pool = patches_of(300, 90), patches_of(10, 90)
    stated = choose_transforms(train, pool, dataclasses.replace(AUTO, sun_azimuth=100.0))
    assert stated.allowed == ("identity", "up-down")
    assert stated.sentence == (
        "symmetry auto: identity and up-down keep the light from 100 degrees (image right), as "
        "stated"
    )
    assert stated.warning == ""
    wrong = choose_transforms(train, pool, dataclasses.replace(AUTO, sun_azimuth=360.0))
    assert wrong.allowed == ("identity", "left-right")
    assert "; stated: from 0 degrees (image up)." in wrong.warning


def test_labels_that_contradict_the_pretrained_model_are_a_warning() -> None:
    train, pool = patches_of(200, 90), patches_of(200, 90, seed=3)
    swapped = dataclasses.replace(train, labels=1 - train.labels)
    report = choose_transforms(swapped, pool, AUTO, compare=True)
    assert report.warning.startswith(
        "by the shading of the labeled craters, the light comes from 2"
    )
    assert "estimated by the pretrained model: from " in report.warning
    assert "(image right). Are the images negatives, or the labels interchanged?" in report.warning
    without = dataclasses.replace(report, warning="")
    assert without == choose_transforms(swapped, pool, AUTO)  # it changes nothing else


def test_an_uncertain_estimate_leaves_it_to_the_labels() -> None:
    noise = np.random.default_rng(0).integers(90, 150, (60, 32, 32)).astype(np.uint8)
    train = make_patch_set(noise, np.arange(60) % 2)
    report = choose_transforms(train, train, AUTO)
    measured = measure_symmetry(train.images, train.labels)
    assert report.allowed == measured.allowed
    assert report.sentence.startswith(f"{measured.sentence}; the pretrained model cannot tell the ")
    small = patches_of(60, 90, side=20)
    assert choose_transforms(small, small, AUTO) == measure_symmetry(small.images, small.labels)


def test_a_direction_that_nothing_uses_is_refused() -> None:
    for more in ({"symmetry": "none"}, {"network": "original", "method": "supervised"}):
        with pytest.raises(
            ConfigError, match="sun_azimuth is 90, but applies with symmetry 'auto'"
        ):
            JobSettings(sun_azimuth=90.0, **more)
    for azimuth in (-1.0, 361.0, float("nan")):
        with pytest.raises(ConfigError, match="sun_azimuth is .* 0 to 360 degrees"):
            JobSettings(sun_azimuth=azimuth)


class Warnings(NullProgress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, text: str) -> None:
        self.texts.append(text)


def test_a_job_warns_and_keeps_the_warning_for_its_report() -> None:
    train = patches_of(120, 90)
    swapped = dataclasses.replace(train, labels=1 - train.labels)
    data = JobData(train=swapped, pool=patches_of(20, 90, seed=3), test=patches_of(10, 90, seed=4))
    progress = Warnings()
    settings = dataclasses.replace(AUTO, method="supervised", epochs=1)
    result = run_stages(data, settings, progress=progress)
    assert result.symmetry.warning in progress.texts
    assert result.symmetry.warning.startswith("by the shading of the labeled craters")


@pytest.mark.parametrize("azimuth", [270, 90])
def test_the_middle_of_large_patches_shows_the_light_for_circles(azimuth: float) -> None:
    images, labels = lit_patches(60, azimuth, 3)
    large = make_patch_set(np.pad(images, ((0, 0), (40, 40), (40, 40)), "edge"), labels)
    config = JobSettings(network="circles", method="supervised", threads=1)
    report = choose_transforms(large, large.take(np.arange(0)), config)
    assert turn_azimuth(azimuth, report.turn) == 270
    compact = dataclasses.replace(config, network="compact", symmetry="flips")
    assert choose_transforms(large, large.take(np.arange(0)), compact).turn == "identity"
