"""The procedural Mars: seeds, the label rule, the light, and the file layout."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from craters.errors import ConfigError, DataError
from craters.synthetic import (
    PatchSample,
    Scene,
    light,
    make_patches,
    make_scene,
    terrain,
    write_dataset,
)
from craters.synthetic import craters as crater_models
from craters.synthetic.patches import _choose_corners, _patch_scene, _share_inside
from craters.synthetic.scenes import STREAMS, _name_scene

SIZE = 48


@pytest.fixture(scope="module")
def sample() -> PatchSample:
    return make_patches(160, crater_share=0.55, seed=5)


@pytest.fixture(scope="module")
def scenes(sample: PatchSample) -> dict[str, Scene]:
    made = {}
    for index in range(100):
        scene = _patch_scene(index, 5, "labeled", SIZE)
        made[scene.name] = scene
        if set(sample.groups) <= set(made):
            return made
    raise AssertionError("a group names no scene")


def planted(*craters: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(list(craters), crater_models.CRATER_DTYPE)


def shares_inside(crater: np.void, row: int, col: int) -> float:
    """Count pixels one by one: those of the disc, and those of them inside the patch."""
    total = inside = 0
    reach = int(crater["diameter"]) + 2
    for r in range(int(crater["row"]) - reach, int(crater["row"]) + reach):
        for c in range(int(crater["col"]) - reach, int(crater["col"]) + reach):
            if (r - crater["row"]) ** 2 + (c - crater["col"]) ** 2 <= crater["diameter"] ** 2 / 4:
                total += 1
                inside += row <= r < row + SIZE and col <= c < col + SIZE
    return inside / total


def test_same_seed_same_bytes_and_other_seed_other_bytes():
    first = make_scene(96, 80, seed=2, index=3)
    again = make_scene(96, 80, seed=2, index=3)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.craters.tobytes() == again.craters.tobytes()
    others = [{"seed": 1, "index": 3}, {"seed": 2, "index": 4}]
    others.append({"seed": 2, "index": 3, "stream": "test"})
    for other in others:
        assert first.image.tobytes() != make_scene(96, 80, **other).image.tobytes()


def test_patches_repeat_and_leave_the_global_generator_alone():
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    first = make_patches(12, crater_share=0.5, seed=9, size=28)
    again = make_patches(12, crater_share=0.5, seed=9, size=28)
    assert first.images.tobytes() == again.images.tobytes()
    assert first.groups.tolist() == again.groups.tolist()
    other = make_patches(12, crater_share=0.5, seed=10, size=28)
    assert first.images.tobytes() != other.images.tobytes()
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002


def test_scenes_do_not_depend_on_how_many_patches_are_asked_for(sample, scenes):
    few = make_patches(9, crater_share=0.55, seed=5)
    for patches in (few, sample):
        assert set(patches.groups) <= set(scenes)
        for image, group, row, col in zip(
            patches.images, patches.groups, patches.rows, patches.cols, strict=True
        ):
            cut = scenes[group].image[row : row + SIZE, col : col + SIZE]
            np.testing.assert_array_equal(image, cut)


def test_labels_follow_the_rule_by_brute_force_count(sample, scenes):
    for label, group, row, col in zip(
        sample.labels, sample.groups, sample.rows, sample.cols, strict=True
    ):
        craters = scenes[group].craters
        craters = craters[craters["diameter"] >= crater_models.MIN_DIAMETER]
        near = [c for c in craters if abs(c["row"] - row - 24) < 90 > abs(c["col"] - col - 24)]
        if label == 0:
            assert not any(shares_inside(c, row, col) for c in near)
        else:
            fits = [c for c in near if c["diameter"] <= SIZE]
            assert any(shares_inside(c, row, col) >= 0.5 for c in fits)


def test_patches_of_a_scene_barely_overlap(sample):
    for group in set(sample.groups):
        own = np.flatnonzero(sample.groups == group)
        assert len(own) <= 10
        for k, one in enumerate(own):
            for two in own[:k]:
                down = max(0, SIZE - abs(sample.rows[one] - sample.rows[two]))
                right = max(0, SIZE - abs(sample.cols[one] - sample.cols[two]))
                assert down * right <= SIZE**2 / 5


@hypothesis.settings(max_examples=12, deadline=None, derandomize=True)
@hypothesis.given(n=st.integers(0, 12), share=st.floats(0, 1), seed=st.integers(0, 2**40))
def test_share_of_craters_is_exact(n, share, seed):
    made = make_patches(n, crater_share=share, seed=seed, size=28)
    assert len(made.images) == len(made.groups) == len(made.rows) == n
    assert np.bincount(made.labels, minlength=2).tolist() == [
        n - round(n * share),
        round(n * share),
    ]
    side = _patch_scene(0, seed, "labeled", 28).image.shape[0]
    for corner in (*made.rows, *made.cols):
        assert 0 <= corner <= side - 28


def test_streams_share_no_scene_and_test_has_regions_of_its_own():
    names = {
        stream: {_name_scene(number, index)[0] for index in range(1500)}
        for number, stream in enumerate(STREAMS)
    }
    assert all(len(own) == 1500 for own in names.values())
    assert len(set.union(*names.values())) == 6000
    regions = {stream: {name.split("_")[0] for name in own} for stream, own in names.items()}
    assert not regions["test"] & (regions["labeled"] | regions["unlabeled"])
    images = [
        make_patches(6, crater_share=0.5, seed=0, stream=stream, size=28).images.tobytes()
        for stream in STREAMS
    ]
    assert len(set(images)) == 4


def test_mean_crater_is_dark_on_the_left_and_bright_on_the_right(sample):
    mean = sample.images[sample.labels == 1].astype(float).mean(axis=0)
    left, right = mean[12:36, 8:22].mean(), mean[12:36, 26:40].mean()
    assert left < mean.mean() < right
    assert right - left > 2


@pytest.mark.parametrize("index", range(4))
def test_light_comes_from_the_left_on_a_fresh_crater(index):
    crater = planted((32, 40, 24, 1.0))
    image = make_scene(64, 80, index=index, missing=0, craters=crater).image.astype(float)
    left, right = image[28:37, 29:37].mean(), image[28:37, 44:52].mean()
    assert left + 40 < right


def test_degraded_crater_is_fainter_than_a_fresh_one():
    spans = []
    for freshness in (0.0, 0.5, 1.0):
        crater = planted((32, 32, 24, freshness))
        image = make_scene(64, 64, missing=0, craters=crater).image.astype(float)
        spans.append(image[28:37, 36:44].mean() - image[28:37, 21:29].mean())
    assert spans[0] < spans[1] < spans[2]


def test_hills_are_shaded_the_other_way_round():
    for seed in range(6):
        relief = np.zeros((64, 64), np.float32)
        terrain.paint_knob(relief, np.random.default_rng(seed))
        if relief.max() > 1:
            break
    look = terrain.SceneParameters(0, 2, 1, 0, 0, 0, 0, contrast=60, albedo=0, noise=0, blur=0.1,
                       azimuth=0, elevation=0.6)  # fmt: skip
    image = light.expose(relief, np.zeros_like(relief), look, np.random.default_rng(0))
    column = int(relief.max(axis=0).argmax())
    assert image[:, :column].max() > image[:, column + 1 :].max()
    assert image[:, :column].min() > image[:, column + 1 :].min()


def test_missing_wedge_is_zero_at_an_edge_and_nothing_else_is():
    whole = make_scene(100, 120, seed=4, missing=0).image
    cut = make_scene(100, 120, seed=4, missing=1).image
    assert whole.min() >= 1
    hole = cut == 0
    assert 0.005 < hole.mean() < 0.25
    np.testing.assert_array_equal(cut[~hole], whole[~hole])
    edges = (hole[0], hole[-1], hole[:, 0], hole[:, -1])
    assert max(edge.sum() for edge in edges) > 0.3 * min(whole.shape)


def test_rectangular_scene_holds_only_craters_that_touch_it():
    scene = make_scene(120, 300, seed=6, density=30)
    assert scene.image.shape == (120, 300)
    row, col, radius = (scene.craters[k] for k in ("row", "col", "diameter"))
    radius = radius / 2
    assert len(row) > 20
    assert (row > -1 - radius).all()
    assert (row < 121 + radius).all()
    assert (col > -1 - radius).all()
    assert (col < 301 + radius).all()
    assert (2 * radius >= 3).all()
    assert ((scene.craters["freshness"] >= 0) & (scene.craters["freshness"] <= 1)).all()


def test_corners_stay_inside_a_rectangular_scene():
    scene = make_scene(120, 300, seed=6, density=8)
    found = _choose_corners(scene, (3, 3), SIZE, np.random.default_rng(0))
    assert {label for label, _, _ in found} == {0, 1}
    for _, row, col in found:
        assert 0 <= row <= 120 - SIZE
        assert 0 <= col <= 300 - SIZE


def test_hidden_crater_does_not_count_as_seen():
    image = np.full((100, 100), 99, np.uint8)
    crater = planted((50, 50, 20, 1))[0]
    assert _share_inside(image, crater, 30, 30, SIZE) == 1
    image[:, :60] = 0
    assert _share_inside(image, crater, 30, 30, SIZE) < 0.05


def test_big_craters_are_rarer_by_the_power_law():
    rng = np.random.default_rng(0)
    diameters = np.concatenate(
        [crater_models.draw_craters(800, 800, 3.0, rng)["diameter"] for _ in range(20)]
    )
    counts = [int((diameters > d).sum()) for d in (4, 8, 16)]
    ends = crater_models.LARGEST**-crater_models.SLOPE
    expected = [d**-crater_models.SLOPE - ends for d in (4, 8, 16)]
    assert counts[1] / counts[0] == pytest.approx(expected[1] / expected[0], rel=0.15)
    assert counts[2] / counts[1] == pytest.approx(expected[2] / expected[1], rel=0.15)


def test_dataset_has_the_original_layout(tmp_path):
    paths = write_dataset(tmp_path / "new", n_labeled=50, n_unlabeled=30, n_test=20)
    expected = {
        "Xtrain1": ((50, 2304), np.uint8),
        "Ytrain1": ((50,), np.int32),
        "groups_train": ((50,), None),
        "Xtrain1_extra": ((30, 2304), np.uint8),
        "Ytrain1_extra_truth": ((30,), np.int32),
        "groups_extra": ((30,), None),
        "Xtest1": ((20, 2304), np.uint8),
        "Ytest1": ((20,), np.int32),
        "groups_test": ((20,), None),
    }
    assert set(paths) == set(expected)
    assert {p.name for p in (tmp_path / "new").iterdir()} == {f"{n}.npy" for n in expected}
    arrays = {name: np.load(path, allow_pickle=False) for name, path in paths.items()}
    for name, (shape, dtype) in expected.items():
        assert arrays[name].shape == shape
        assert arrays[name].dtype.kind == "U" if dtype is None else arrays[name].dtype == dtype
    sums = [int(arrays[k].sum()) for k in ("Ytrain1", "Ytrain1_extra_truth", "Ytest1")]
    assert sums == [32, 6, round(20 * 0.57)]
    groups = [set(arrays[f"groups_{k}"]) for k in ("train", "extra", "test")]
    assert len(set.union(*groups)) == sum(len(own) for own in groups)
    labeled = make_patches(50, crater_share=0.64, seed=0)
    np.testing.assert_array_equal(arrays["Xtrain1"].reshape(-1, SIZE, SIZE), labeled.images)
    np.testing.assert_array_equal(arrays["Ytrain1"], labeled.labels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": -1}, "n, seed = -1"),
        ({"seed": -1}, "n, seed = 5, -1"),
        ({"crater_share": 1.1}, "crater_share = 1.1"),
        ({"size": 8}, "size = 8"),
        ({"stream": "train"}, "stream = 'train': use one of scene, labeled"),
    ],
)
def test_bad_requests_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_patches(**{"n": 5, "crater_share": 0.5, "seed": 0, **settings})


def test_bad_scenes_are_named():
    with pytest.raises(ConfigError, match="height, width = 8, 64"):
        make_scene(8, 64)
    with pytest.raises(ConfigError, match="index"):
        make_scene(64, 64, index=-1)


def test_gives_up_where_no_patch_can_be_found(monkeypatch):
    monkeypatch.setattr("craters.synthetic.patches._choose_corners", lambda *_: [])
    with pytest.raises(DataError, match="could not be found"):
        make_patches(1, crater_share=1.0, seed=0, size=16)
