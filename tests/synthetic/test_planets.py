"""Scenes with a look: seeds, truth, light and shadows, craters, landforms and sensor."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from craters.errors import ConfigError
from craters.synthetic import GENERATOR_VERSION, PRESETS, Scene, make_scene
from craters.synthetic.camera import _SHADOW_STEPS, _add_seam, _blur, _shade, take_image
from craters.synthetic.impacts import COUNTED, IMPACT_DTYPE, add_impacts, draw_impacts
from craters.synthetic.landforms import _steps, make_ground
from tests.golden import make_planets
from tests.synthetic.tools import always, angle_between, brighter_side, calm, factors, planted

LOOKS = sorted(PRESETS)


def same(one: Scene, other: Scene) -> bool:
    return (
        one.image.tobytes() == other.image.tobytes()
        and one.craters.tobytes() == other.craters.tobytes()
        and (one.name, one.azimuth, one.incidence) == (other.name, other.azimuth, other.incidence)
    )


def test_images_change_only_with_the_version():
    with np.load(make_planets.GOLDEN) as stored:
        golden = dict(stored)
    differences = make_planets.differences(make_planets.make(), golden)
    assert not differences, "raise GENERATOR_VERSION, then python -m tests.golden.make_planets"
    assert int(golden["version"]) == GENERATOR_VERSION


def test_small_changes_of_images_and_truth_are_noticed():
    with np.load(make_planets.GOLDEN) as stored:
        golden = dict(stored)
    changed = {name: array.copy() for name, array in golden.items()}
    changed["moon/0/image"][:2] += 1
    changed["mixed/1/truth"][5] += 0.01
    assert make_planets.differences(golden, golden) == []
    assert make_planets.differences(changed, golden) == [
        "mixed/1/truth: other truth", "moon/0/image: 3.1% of the pixels"
    ]  # fmt: skip


@pytest.mark.parametrize("look", LOOKS)
def test_same_seed_same_scene_and_other_seed_other_scene(look):
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    scene = make_scene(80, 96, seed=2, index=3, look=look)
    assert same(scene, make_scene(80, 96, seed=2, index=3, look=PRESETS[look]))
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002
    for other in ({"seed": 1}, {"index": 4}, {"stream": "test"}):
        request = {"seed": 2, "index": 3, "look": look} | other
        assert scene.image.tobytes() != make_scene(80, 96, **request).image.tobytes()


def test_a_scene_without_a_look_is_the_one_that_it_was_and_has_the_same_name():
    plain, moon = make_scene(64, 64, index=5), make_scene(64, 64, index=5, look="moon")
    assert plain.name == moon.name == "ferrara_0_0"
    assert plain.image.tobytes() != moon.image.tobytes()


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("shape", [(16, 16), (20, 150), (150, 20), (97, 130)])
def test_scenes_of_any_shape_have_their_truth(look, shape):
    for index in range(6):
        scene = make_scene(*shape, seed=9, index=index, look=look)
        assert scene.image.shape == shape
        row, col, radius = (scene.craters[k] for k in ("row", "col", "diameter"))
        radius = radius / 2
        assert (np.maximum(-0.5 - row, row - shape[0] + 0.5) <= radius).all()
        assert (np.maximum(-0.5 - col, col - shape[1] + 0.5) <= radius).all()
        assert ((scene.craters["freshness"] >= 0) & (scene.craters["freshness"] <= 1)).all()
        assert np.isfinite(scene.craters["contrast"]).all()
        assert 0 <= scene.azimuth < 360
        assert 20 <= scene.incidence <= 85


def test_density_and_missing_are_part_of_a_look():
    for request in ({"density": 2.0}, {"missing": 0.0}):
        with pytest.raises(ConfigError, match="part of a look"):
            make_scene(64, 64, look="moon", **request)
    with pytest.raises(ConfigError, match="look = 'venus'"):
        make_scene(64, 64, look="venus")


# Light


@pytest.mark.parametrize("thermal", [0, 1])
@pytest.mark.parametrize("azimuth", [0, 45, 90, 180, 270, 300])
def test_a_crater_is_dark_towards_the_light(azimuth, thermal):
    look = calm(azimuth=azimuth, thermal=thermal)
    scene = make_scene(64, 64, look=look, craters=planted((31, 33, 30, 1.0)))
    assert scene.azimuth == azimuth
    assert scene.incidence == 50
    away = brighter_side(scene.image.astype(float), 31, 33, 15)
    assert angle_between(away, azimuth + 180) < 12


def test_lit_from_the_left_a_crater_is_dark_on_the_left():
    image = make_scene(64, 64, look=calm(), craters=planted((32, 32, 30, 1.0))).image.astype(float)
    assert image[26:39, 19:25].mean() + 40 < image[26:39, 40:46].mean()


@pytest.mark.parametrize("index", range(5))
def test_the_light_of_a_scene_without_look_is_that_of_its_craters(index):
    scene = make_scene(64, 64, index=index, missing=0, craters=planted((32, 32, 30, 1.0)))
    away = brighter_side(scene.image.astype(float), 32, 32, 15)
    assert angle_between(away, scene.azimuth + 180) < 20
    assert 45 < scene.incidence < 65


def shade(relief: np.ndarray, **changes: float) -> np.ndarray:
    image, _ = take_image(
        relief, np.zeros_like(relief), factors(**changes), np.random.default_rng(0)
    )
    return image.astype(float)


@pytest.mark.parametrize("azimuth", [0, 90, 180, 270])
def test_shadows_are_cast_away_from_the_light_as_far_as_the_incidence_says(azimuth):
    relief = np.zeros((81, 81), np.float32)
    relief[36:45, 36:45] = 6  # a tower: its shadow has a length of 6 tan(incidence)
    for incidence in (40, 60, 70):
        image = shade(relief, azimuth=azimuth, incidence=incidence)
        turned = np.rot90(image, round((azimuth - 270) / 90))  # light from the left
        dark = turned[40] < np.median(image) - 20
        length = np.flatnonzero(dark).max() - 44
        possible = [step for step in _SHADOW_STEPS if step < 6 * np.tan(np.radians(incidence))]
        assert length == pytest.approx(possible[-1], abs=1)
        assert not dark[:34].any()


def test_thermal_contrast_has_no_cast_shadows():
    relief = np.zeros((81, 81), np.float32)
    relief[36:45, 36:45] = 6
    reflected, thermal = (shade(relief, incidence=65, thermal=share) for share in (0, 1))
    beyond = slice(37, 44), slice(48, 54)
    assert reflected[beyond].mean() < np.median(reflected) - 20
    np.testing.assert_array_equal(thermal[beyond], np.median(thermal))


@pytest.mark.parametrize(
    ("law", "expected"),
    [
        ({"lambert": 1}, np.tan(np.radians(50))),
        ({"lambert": 0}, np.tan(np.radians(50)) / 2),
        ({"thermal": 1}, 1.6 * np.sin(np.radians(50))),
    ],
)
def test_level_ground_has_brightness_1_and_slopes_change_it_by_the_law(law, expected):
    level = np.zeros((8, 8), np.float32)
    brightness, per_slope = _shade(level, factors(**law))
    np.testing.assert_allclose(brightness, 1, rtol=1e-6)
    assert per_slope == pytest.approx(expected)
    tilted = np.float32(0.01) * np.arange(8, dtype=np.float32)[None, :] + level  # faces the light
    np.testing.assert_allclose(_shade(tilted, factors(**law))[0] - 1, 0.01 * expected, rtol=0.02)


# Craters


def measure(freshness: float, diameter: float, n: int = 60, **changes: float) -> np.ndarray:
    """Depth below the ground, height of the rim and diameter of its crest, over the diameter."""
    rows = []
    for seed in range(n):
        relief, albedo = (np.zeros((2 * round(diameter) + 1,) * 2, np.float32) for _ in "ra")
        middle = float(round(diameter))
        craters = np.zeros(1, IMPACT_DTYPE)
        craters[0] = (middle, middle, diameter, freshness, 0)
        add_impacts(relief, albedo, craters, factors(**changes), np.random.default_rng(seed))
        angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)[:, None]
        reach = np.arange(0.3 * diameter, 0.8 * diameter, 0.25)
        along = relief[
            np.rint(middle + reach * np.sin(angle)).astype(int),
            np.rint(middle + reach * np.cos(angle)).astype(int),
        ]
        crest = 2 * reach[along.argmax(axis=1)].mean()
        rows.append([-relief.min(), along.max(axis=1).mean(), crest])
    return np.mean(rows, axis=0) / diameter


def test_new_simple_craters_have_the_depth_rim_and_diameter_of_the_look():
    depth, rim, crest = measure(1, 40)
    assert depth == pytest.approx(0.2, rel=0.05)
    assert rim == pytest.approx(0.2 * 0.2, rel=0.15)
    assert crest == pytest.approx(1, abs=0.06)


def test_complex_craters_are_shallower_by_the_root_of_their_size():
    depth, _, _ = measure(1, 80, n=30, transition=20)
    assert depth == pytest.approx(0.2 / 2, rel=0.06)


def test_erasure_makes_craters_shallow():
    depths = [measure(freshness, 40, n=20)[0] for freshness in (0, 0.3, 0.6, 1)]
    assert depths == sorted(depths)
    assert depths[0] == pytest.approx(0.06 * 0.2, rel=0.3)


def test_filled_craters_have_flat_floors():
    shares = []
    for fill in (0, 1):
        relief = np.zeros((81, 81), np.float32)
        craters = np.zeros(1, IMPACT_DTYPE)
        craters[0] = (40, 40, 60, 1, 0)
        add_impacts(relief, relief.copy(), craters, factors(fill=fill), np.random.default_rng(4))
        shares.append(float((relief < 0.97 * relief.min()).mean()))
    assert shares[1] > 2 * shares[0]


@pytest.mark.parametrize(
    ("factor", "value", "where"),
    [("ejecta", 1, (1.1, 1.5)), ("rings", 1, (0.9, 1.05)), ("rays", 1, (1.2, 2))],
)
def test_bright_and_dark_marks_lie_where_they_should(factor, value, where):
    distance = np.hypot(*(np.mgrid[:121, :121] - 60)) / 20
    ring = (distance > where[0]) & (distance < where[1])
    strength = []
    for each in (0, value):
        albedo = np.zeros((121, 121), np.float32)
        craters = np.zeros(1, IMPACT_DTYPE)
        craters[0] = (60, 60, 40, 1, 0)
        scene = factors(**{factor: each})
        add_impacts(np.zeros_like(albedo), albedo, craters, scene, np.random.default_rng(1))
        strength.append(np.abs(albedo[ring]).mean())
        if not each:
            assert np.abs(albedo[distance > 2.5]).max() == 0
    assert strength[1] > 3 * strength[0] + 0.1


def test_density_and_slope_are_those_of_the_look():
    rng, size, side = np.random.default_rng(0), 48, 240
    scene = factors(density=15, slope=2, smallest=4, largest=2)
    drawn = [draw_impacts((side, side), size, scene, rng) for _ in range(60)]
    craters = np.concatenate(drawn)
    row, col = craters["row"], craters["col"]
    diameters = craters["diameter"][(row > 0) & (row < side) & (col > 0) & (col < side)]
    assert (diameters >= COUNTED).sum() / 60 == pytest.approx(15, rel=0.1)
    assert diameters.min() >= 4
    assert diameters.max() <= 96
    expected = (16.0**-2 - 96.0**-2) / (8.0**-2 - 96.0**-2)
    assert (diameters > 16).sum() / (diameters > 8).sum() == pytest.approx(expected, rel=0.15)


def test_freshness_scatters_around_that_of_the_look():
    rng = np.random.default_rng(0)
    for freshness in (0.2, 0.7):
        scene = factors(density=60, freshness=freshness)
        drawn = draw_impacts((300, 300), 24, scene, rng)["freshness"]
        assert drawn.mean() == pytest.approx(freshness, abs=0.05)
        assert drawn.std() > 0.15


def test_clusters_are_small_craters_close_together():
    rng = np.random.default_rng(3)
    drawn = draw_impacts((400, 400), 48, factors(clusters=3), rng)
    assert len(drawn) > 12
    distance = np.hypot(drawn["row"][:, None] - drawn["row"], drawn["col"][:, None] - drawn["col"])
    np.fill_diagonal(distance, np.inf)
    alone = np.sqrt(400**2 / len(drawn)) / 2  # mean distance to the nearest of as many at random
    assert np.median(distance.min(1)) < 0.6 * alone


def test_younger_craters_cover_older_ones_whose_contrast_is_then_none():
    craters = planted((32, 32, 20, 0.3), (32, 34, 30, 0.9), (10, 10, 12, 0.9))
    scene = make_scene(64, 64, look=calm(), craters=craters)
    assert scene.craters["freshness"].tolist() == [0.3, 0.9, 0.9]
    assert scene.craters["contrast"][0] == 0
    assert (scene.craters["contrast"][1:] > 5).all()


def test_contrast_falls_with_noise_roughness_and_wear():
    crater = planted((32, 32, 24, 1.0))

    def contrast(freshness: float = 1.0, **changes: float) -> float:
        crater["freshness"] = freshness
        return float(
            make_scene(64, 64, look=calm(**changes), craters=crater).craters["contrast"][0]
        )

    clear = contrast(roughness=0.05)
    assert contrast(roughness=0.3) < clear / 2
    assert contrast(roughness=0.05, noise=1) < clear
    assert contrast(freshness=0.1, roughness=0.05) < clear / 2


# Terrain


def relief_of(seed: int = 0, **changes: float) -> np.ndarray:
    return make_ground((128, 128), factors(**changes), np.random.default_rng(seed))[0]


@pytest.mark.parametrize(
    ("factor", "value", "sign"),
    [
        ("hills", 40, 1), ("domes", 20, 1), ("boulders", 100, 1),
        ("pits", 40, -1), ("fractures", 20, -1),
    ],
)  # fmt: skip
def test_landforms_rise_or_sink(factor, value, sign):
    assert np.abs(relief_of()).max() < 1e-6
    relief = sign * relief_of(**{factor: value})
    assert relief.max() > 0.3
    assert relief.min() > -0.3 * relief.max()
    assert (np.abs(relief) > 0.01).mean() > 0.02


def test_channels_sink_between_levees():
    relief = relief_of(channels=8)
    assert relief.min() < -0.5
    assert relief.max() < -0.3 * relief.min()


@pytest.mark.parametrize(("factor", "value"), [("ridges", 20), ("dunes", 0.2), ("mesas", 3)])
def test_other_landforms_change_the_relief(factor, value):
    assert relief_of(**{factor: value}).std() > 0.1


def test_layers_make_steps():
    height = np.linspace(0, 6, 601)
    stairs = height + _steps(height, 2)
    slope = np.gradient(stairs, height)
    assert slope.min() == pytest.approx(0.1, abs=0.01)
    assert slope.max() == pytest.approx(1.9, abs=0.01)
    np.testing.assert_allclose(stairs[::200], [0, 2, 4, 6], atol=1e-9)
    smooth, stepped = (relief_of(roughness=0.05, mesas=8, layers=each) for each in (0, 2))
    assert 0 < np.abs(stepped - smooth).max() < 0.9 * 2 / 6


def test_roughness_is_the_slope_and_stretch_the_shape_of_the_small_relief():
    for roughness in (0.05, 0.2):
        slopes = [np.diff(relief_of(seed, roughness=roughness), axis=1).std() for seed in range(12)]
        assert np.mean(slopes) == pytest.approx(roughness, rel=0.25)
    ratios = []
    for stretch in (1, 5):
        powers = []
        for seed in range(8):
            down, right = np.gradient(relief_of(seed, roughness=0.1, stretch=stretch))
            tensor = np.cov(down.ravel(), right.ravel())
            powers.append(np.divide(*np.linalg.eigvalsh(tensor)[::-1]))
        ratios.append(np.median(powers))
    assert ratios[0] < 1.5
    assert ratios[1] > 3


def test_a_steeper_spectrum_is_smoother():
    curvature = [
        np.abs(np.diff(relief_of(roughness=0.1, power=power), 2)).mean() for power in (1.2, 2.7)
    ]
    assert curvature[1] < 0.6 * curvature[0]


# Sensor


def picture(**changes: float) -> np.ndarray:
    """A rough, cratered scene through the sensor; equal but for the changes."""
    look = calm(roughness=0.1, density=20, **({"spread": 20} | changes))
    return make_scene(96, 128, seed=6, look=look).image.astype(float)


def test_noise_has_the_share_of_the_spread():
    noise = picture(noise=0.5) - picture()
    assert noise.std() == pytest.approx(0.5 * 20, rel=0.05)
    assert abs(noise.mean()) < 0.5


def test_mean_and_spread_are_those_of_the_look():
    image = picture(mean=140, spread=25)
    assert image.mean() == pytest.approx(140, abs=1)
    assert image.std() == pytest.approx(25, rel=0.05)


def test_stripes_are_rows_or_columns_of_equal_offset():
    directions = set()
    for seed in range(6):
        look = calm(roughness=0.1, spread=20)
        striped = dataclasses.replace(look, stripes=always(4))
        plain, other = (make_scene(96, 128, seed=seed, look=each).image.astype(float)
                        for each in (look, striped))  # fmt: skip
        stripes = other - plain
        axis = int(stripes.std(axis=0).mean() > stripes.std(axis=1).mean())
        directions.add(axis)
        assert stripes.std(axis=axis).max() < 1
        assert stripes.mean(axis=axis).std() == pytest.approx(4, rel=0.3)
    assert directions == {0, 1}


@pytest.mark.parametrize("levels", [12, 40])
def test_levels_are_few(levels):
    values = np.unique(picture(levels=levels))
    assert len(values) <= levels + 1
    assert np.diff(values).min() == pytest.approx(255 / levels, abs=1)


def test_gamma_bends_the_brightness():
    plain, bent = picture(), picture(gamma=2)
    expected = 255 * (plain / 255) ** 2
    np.testing.assert_allclose(bent - bent.mean(), expected - expected.mean(), atol=2)


def test_jpeg_is_that_of_the_quality():
    stream = io.BytesIO()
    Image.fromarray(picture().astype(np.uint8)).save(stream, "JPEG", quality=40)
    expected = np.maximum(np.asarray(Image.open(stream)), 1)
    np.testing.assert_array_equal(picture(jpeg=60), expected)


def test_a_missing_wedge_is_cut_from_an_edge_and_nothing_else_changes():
    whole, cut = picture(), picture(missing=0.3)
    hole = cut == 0
    np.testing.assert_array_equal(cut[~hole], whole[~hole])
    edges = (hole[0], hole[-1], hole[:, 0], hole[:, -1])
    assert max(edge.mean() for edge in edges) > 0.35
    assert 0.02 < hole.mean() <= 0.3


def test_a_seam_changes_one_side_of_a_line():
    turned = 0
    for seed in range(8):
        signal = np.full((60, 90), 100, np.float32)
        _add_seam(signal, 30, np.random.default_rng(seed))
        assert np.unique(signal).tolist() == [100, 130]
        for axis in (0, 1):  # at most one step along each row and column
            assert np.abs(np.diff(signal, axis=axis)).sum(axis=axis).max() <= 30
        turned += signal[0, 0] > signal[-1, -1]
    assert 0 < turned < 8
    assert 0.02 < (picture(seams=30) != picture()).mean() < 0.98


def test_blur_is_a_gaussian_of_its_sigma():
    point = np.zeros((41, 31), np.float32)
    point[20, 15] = 1
    for sigma in (0.7, 1.2):
        spread = _blur(point, sigma)
        assert spread.sum() == pytest.approx(1, abs=1e-5)
        for axis, middle in ((0, 15), (1, 20)):
            profile = spread.sum(axis=axis)
            variance = (profile * (np.arange(len(profile)) - middle) ** 2).sum()
            assert variance == pytest.approx(sigma**2, rel=0.1)


def test_albedo_is_over_that_of_the_shading():
    shading = np.random.default_rng(0).normal(0, 0.05, (200, 200)).astype(np.float32).cumsum(1)
    albedo = np.random.default_rng(1).normal(0, 1, (200, 200)).astype(np.float32)
    images = []
    for share in (0, 1):
        rng = np.random.default_rng(0)
        images.append(take_image(shading, albedo, factors(albedo=share), rng)[0].astype(float))
    assert abs(np.corrcoef(images[0].ravel(), albedo.ravel())[0, 1]) < 0.03
    assert np.corrcoef(images[1].ravel(), albedo.ravel())[0, 1] > 0.5
