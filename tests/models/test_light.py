from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from craters.data import SYMMETRIES, make_patch_set, transform
from craters.errors import ConfigError, ModelError
from craters.models import (
    Classifier,
    Light,
    LightFrame,
    Lights,
    predict_table,
    predictions,
    turn_azimuth,
    turn_to_frame,
)
from craters.models.light import name_azimuth, orientations, turn_back
from tests.conftest import Estimates
from tests.models.tools import lit_description, lit_graph, lit_patches

EVERYWHERE = [*range(0, 360, 15), 44, 46, 301.5, 239.5]


def classifier(**changes: object) -> Classifier:
    return Classifier(lit_description(**changes), lit_graph(), threads=1)


@pytest.fixture(scope="module")
def lit() -> Classifier:
    return classifier()


def arrow(azimuth: float) -> np.ndarray:
    """Patches (1, 41, 41) with one bright pixel on the side of an azimuth."""
    images = np.zeros((1, 41, 41), np.uint8)
    right, down = math.sin(math.radians(azimuth)), -math.cos(math.radians(azimuth))
    images[0, 20 + round(18 * down), 20 + round(18 * right)] = 255
    return images


@pytest.mark.parametrize("name", SYMMETRIES)
@pytest.mark.parametrize("azimuth", [0, 30, 90, 145, 270, 300])
def test_azimuths_and_directions_turn_as_the_pixels_do(name: str, azimuth: float) -> None:
    turned = turn_azimuth(azimuth, name)
    assert np.array_equal(transform(arrow(azimuth), name), arrow(turned))
    right, down = math.sin(math.radians(turned)), -math.cos(math.radians(turned))
    expected = [math.sin(math.radians(azimuth)), -math.cos(math.radians(azimuth))]
    np.testing.assert_allclose(turn_back(np.array([[right, down]]), name)[0], expected, atol=1e-12)


@pytest.mark.parametrize("frame", [LightFrame(), LightFrame(azimuth=0, tolerance=50)])
@pytest.mark.parametrize("azimuth", EVERYWHERE)
def test_all_eight_forms_of_a_patch_are_turned_to_the_same_pixels(
    azimuth: float, frame: LightFrame
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 9, 9)).astype(np.uint8)
    mirror = "up-down" if frame.azimuth == 270 else "left-right"

    def forms(images: np.ndarray, light: float) -> set[bytes]:
        views = [transform(images, name) for name in orientations(light, frame)]
        if (light - frame.azimuth) % 90 == 0:  # its mirror image is the same to the network
            views += [transform(view, mirror) for view in views]
        return {view.tobytes() for view in views}

    for name in SYMMETRIES:
        turned = turn_azimuth(azimuth, name)
        assert forms(transform(image, name), turned) == forms(image, azimuth)
    for name in orientations(azimuth, frame):
        offset = (turn_azimuth(azimuth, name) - frame.azimuth + 180) % 360 - 180
        assert 0 <= offset <= frame.tolerance
    near = turn_to_frame(image, azimuth, frame)
    assert np.array_equal(near, transform(image, orientations(azimuth, frame)[0]))


def test_two_orientations_are_averaged_where_both_are_within_the_tolerance() -> None:
    counts = {azimuth: len(orientations(azimuth, LightFrame())) for azimuth in range(270, 361, 5)}
    assert counts == {azimuth: 2 if 300 <= azimuth <= 330 else 1 for azimuth in counts}
    assert len(orientations(math.nan, LightFrame())) == 4


@pytest.mark.parametrize("azimuth", EVERYWHERE[::3])
def test_light_is_estimated_and_follows_the_transforms(lit: Classifier, azimuth: float) -> None:
    images, labels = lit_patches(100, azimuth, 7)
    light = lit.find_light(images).groups[""]
    assert abs((light.azimuth - azimuth + 180) % 360 - 180) < 15
    assert light.certainty is not None
    assert light.certainty > 0.9
    assert (light.patches, light.is_used) == (64, True)
    probability = lit.predict_proba(images)
    assert ((probability > 0.5) == labels).mean() > 0.9
    for name in SYMMETRIES:
        view = transform(images, name)
        theirs = lit.find_light(view).groups[""]
        turned = turn_azimuth(light.azimuth, name)
        assert abs((theirs.azimuth - turned + 180) % 360 - 180) < 1e-9
        assert theirs.certainty == pytest.approx(light.certainty, abs=1e-12)
        assert np.array_equal(lit.predict_proba(view), probability)


@pytest.mark.parametrize("azimuth", [0, 45, 270, 300, 315, 333.3])
def test_predictions_with_a_stated_light_follow_the_transforms(
    lit: Classifier, azimuth: float
) -> None:
    images = lit_patches(20, azimuth, 3)[0]
    expected = lit.predict_proba(images, sun_azimuth=azimuth)
    for name in SYMMETRIES:
        turned = turn_azimuth(azimuth, name)
        theirs = lit.predict_proba(transform(images, name), sun_azimuth=turned)
        assert np.array_equal(theirs, expected)
    assert not np.allclose(lit.predict_proba(images, sun_azimuth=(azimuth + 90) % 360), expected)


def test_uncertain_light_means_an_average_over_four_orientations() -> None:
    doubtful = classifier(light=LightFrame(least_certainty=1))
    images = lit_patches(20, 270, 3)[0]
    light = doubtful.find_light(images)
    assert np.isnan(light.azimuth).all()
    assert not light.is_known
    assert light.sentence.startswith("direction of light unknown (")
    assert light.sentence.endswith("predictions are averaged over four orientations")
    turns = [doubtful.logits(images, azimuth=azimuth) for azimuth in (270, 180, 90, 0)]
    expected = doubtful.probability(np.mean(turns, axis=0, dtype=np.float64).astype(np.float32))
    for name in SYMMETRIES:
        theirs = doubtful.predict_proba(transform(images, name))
        np.testing.assert_allclose(theirs, expected, atol=1e-6)
        assert np.array_equal(theirs, doubtful.predict_proba(images))


def test_pieces_do_not_change_predictions(lit: Classifier, monkeypatch) -> None:
    images = np.concatenate([lit_patches(60, 100, 1)[0], lit_patches(10, 190, 2)[0]])
    patches = make_patch_set(images)
    whole = predict_table(lit, patches)
    monkeypatch.setattr(predictions, "_PREDICTED", 64)  # batches are as before
    pieces = predict_table(lit, patches)
    assert np.array_equal(whole.probability, pieces.probability)
    assert np.array_equal(whole.probability, lit.predict_proba(images))
    assert whole.light is not None
    assert pieces.light is not None
    assert whole.light.groups == pieces.light.groups
    assert whole.to_dict()["light"] == [
        {
            "group": "",
            "azimuth": pytest.approx(100, abs=15),
            "certainty": pytest.approx(0.8, abs=0.2),
            "patches": 64,
            "is_used": True,
            "is_own": True,
        }
    ]


def test_the_time_left_of_predictions(lit: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, run = Estimates(), Classifier._run_batches

    def counted(self: Classifier, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        heard.now += len(images)
        return run(self, images)

    monkeypatch.setattr(Classifier, "_run_batches", counted)
    monkeypatch.setattr(predictions, "_PREDICTED", 32)
    monkeypatch.setattr("craters.models.light.SAMPLES", (30, 512))
    images = lit_patches(400, 100, 1)[0]
    predict_table(lit, make_patch_set(images), progress=heard)
    assert heard.now == 4 * 30 + 400
    heard.check()


def test_each_group_has_its_light_and_a_doubtful_one_that_of_all(lit: Classifier) -> None:
    plain = lit_patches(40, 0, 5)
    parts = [
        lit_patches(40, 20, 1)[0],
        lit_patches(40, 50, 2)[0],
        plain[0][plain[1] == 0][:3],  # shows no light
    ]
    groups = np.repeat(["a", "b", "c"], [40, 40, 3])
    light = lit.find_light(np.concatenate(parts), groups=groups)
    assert light.groups["a"].azimuth == pytest.approx(20, abs=15)
    assert light.groups["b"].azimuth == pytest.approx(50, abs=15)
    assert light.groups["c"].azimuth == pytest.approx(35, abs=15)
    assert [light.groups[name].is_own for name in "abc"] == [True, True, False]
    expected = np.repeat([light.groups[name].azimuth for name in "abc"], [40, 40, 3])
    assert np.array_equal(light.azimuth, expected)
    assert light.is_known
    assert "estimated for each of 3 groups: from 3" in light.sentence
    assert "that of all patches together taken for 1 uncertain ones" in light.sentence
    shown = lit.predict_proba(make_patch_set(np.concatenate(parts), groups=groups))
    alone = lit.predict_proba(parts[0], sun_azimuth=light.groups["a"].azimuth)
    np.testing.assert_allclose(shown[:40], alone, atol=1e-6)


def test_groups_lit_from_everywhere_do_not_lend_each_other_light(lit: Classifier) -> None:
    parts = [lit_patches(40, azimuth, 3)[0] for azimuth in (0, 90, 180, 270)]
    plain = lit_patches(40, 0, 5)
    images = np.concatenate([*parts, plain[0][plain[1] == 0][:3]])
    groups = np.repeat(["a", "b", "c", "d", "e"], [40, 40, 40, 40, 3])
    light = lit.find_light(images, groups=groups)
    assert [light.groups[name].is_used for name in "abcde"] == [True] * 4 + [False]
    assert np.isnan(light.azimuth[-3:]).all()
    assert light.sentence.endswith(
        "unknown in 1, where predictions are averaged over four orientations"
    )


def test_a_large_array_is_sampled_evenly(lit: Classifier, tmp_path: Path) -> None:
    images = np.concatenate([lit_patches(300, 90, seed)[0] for seed in range(3)])
    np.save(tmp_path / "many.npy", images)
    mapped = np.load(tmp_path / "many.npy", mmap_mode="r")
    light = lit.find_light(mapped).groups[""]
    assert light.certainty > 0.8
    assert light.patches == 64
    rows = np.linspace(0, 899, 64).round().astype(int)
    assert light.azimuth == lit.find_light(images[rows]).groups[""].azimuth
    assert np.array_equal(lit.predict_proba(mapped), lit.predict_proba(images))


def test_more_patches_are_seen_where_a_few_are_not_clear(lit: Classifier) -> None:
    """From two sides in turn, none of which is that of most craters."""
    parts = [lit_patches(300, azimuth, azimuth)[0] for azimuth in (90, 180)]
    images = np.stack(parts, axis=1).reshape(600, *parts[0].shape[1:])
    light = lit.find_light(images).groups[""]
    assert light.certainty < 0.8
    assert light.patches == 512


def test_no_patches_at_all(lit: Classifier) -> None:
    none = np.zeros((0, 32, 32), np.uint8)
    assert lit.predict_proba(none).shape == (0,)
    assert lit.logits(none, azimuth=20).shape == (0,)


def test_sentences() -> None:
    assert Light(268.2, 0.934, 512).sentence == (
        "light from 268 degrees (image left), certainty 0.93, estimated from 512 patches"
    )
    stated = Lights(np.full(3, 45.0), {"": Light(45)})
    assert stated.sentence == "light from 45 degrees (image up right), as stated"
    assert name_azimuth(359.7) == "0 degrees (image up)"


def test_what_cannot_be_is_refused(lit: Classifier) -> None:
    images = lit_patches(4, 0, 1)[0]
    for azimuth in (-1, 361, math.nan):
        with pytest.raises(ConfigError, match="expected 0 to 360 degrees"):
            lit.predict_proba(images, sun_azimuth=azimuth)
    with pytest.raises(ModelError, match="is no valid light"):
        LightFrame(azimuth=45)
    with pytest.raises(ModelError, match="expected azimuth, least_certainty, tolerance"):
        LightFrame.from_dict({"azimuth": 270})
