"""The direction of light that the shipped network estimates without labels, and the true one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

import harness
from craters.core import Progress, files
from craters.data import SYMMETRIES, transform
from craters.models import Classifier, load_model, turn_azimuth
from craters.synthetic import make_scene
from harness import MODEL, Bench, BenchError, Keys, Row, Rows
from pretrained import sets, windows

NAME = "light"
TITLE = "Direction of light, estimated without labels"
RESULT_VERSION = 1
SCENES, SCENE_SIDE, SIDE, STEP = 100, 416, 48, 24
SEED = 24_001  # not that of the training

LEAST_DIAMETER, FEWEST = 16.0, 5  # px and craters, for a direction measured from circles
TURNED = 60  # windows that are turned eight ways

_SETS = ("tiles", "nanedi_west", "nanedi_center", "hrsc", "ctx_mars", "nac_moon")
_TITLES = {
    "within": ["within 45 degrees", 3],
    "error": ["median error, degrees", 1],
    "certain": ["share called certain", 3],
    "within_certain": ["of those, within 45 degrees", 3],
    "turned": ["greatest change when turned back, degrees", 2],
    "n": ["directions", 0],
}
_TABLES = {"Scenes and images": tuple(_TITLES)}


def run(bench: Bench, progress: Progress) -> Row:
    """Estimate the light of the sets whose rows are missing."""
    classifier = load_model(MODEL)

    def measure(name: str, _: int) -> Row:
        row = _scenes(classifier) if name == "scenes" else _real(classifier, name, bench)
        progress.say(f"{name}: {row['within']:.3f} within 45 degrees, n = {row['n']}")
        return row

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure))


def keys(bench: Bench) -> Keys:
    """Return what the row of each set depends on."""
    if not (MODEL / "model.onnx").is_file():
        raise BenchError(f"{MODEL}: missing; `craters pretrain` makes it")
    model, data = files.sha256_of(MODEL / "model.onnx"), bench.data.parent
    settings: dict[str, Row] = {"scenes": {"n": SCENES, "side": SCENE_SIDE, "seed": SEED}}
    for name in _SETS:
        if sets.folder_of(name, data).is_dir():
            settings[name] = {"set": sets.fingerprint(name, data)}
    return {
        (name, 0): harness.row_key(bench, name, 0, {**each, "model": model}, RESULT_VERSION)
        for name, each in settings.items()
    }


def shading(patch: np.ndarray, row: float, col: float, radius: float) -> np.ndarray:
    """Return the dipole of the brightness inside a disc, right and down, in units of its spread."""
    down = np.arange(patch.shape[0])[:, None] - row
    right = np.arange(patch.shape[1])[None, :] - col
    inside = np.hypot(down, right) <= radius
    if inside.sum() < 9 or float(patch[inside].std()) < 1e-6:
        return np.zeros(2)
    contrast = np.where(inside, patch - patch[inside].mean(), 0) / patch[inside].std()
    moments = np.array([(contrast * right).sum(), (contrast * down).sum()])
    return moments / (inside.sum() * radius)


def direction_of(dipoles: np.ndarray) -> float:
    """Return the azimuth of light: craters are darkest towards it; dipoles are (K, 2)."""
    right, down = -np.asarray(dipoles).mean(0)
    return math.degrees(math.atan2(right, -down)) % 360


def true_lights(name: str, data: Path) -> dict[str, tuple[np.ndarray, float]]:
    """Return windows of each image or region, and its direction of light measured from labels."""
    (one,) = sets.load_sets(data, (name,))
    if not one.stride:
        craters, middle = one.images[one.labels == 1].astype(float), (one.images.shape[1] - 1) / 2
        dipoles = [shading(each, middle, middle, 0.3 * one.images.shape[1]) for each in craters]
        return {name: (one.images, direction_of(np.array(dipoles)))}
    by_group: dict[str, list[np.ndarray]] = {}
    pairs = sets.pairs_of(name, sets.folder_of(name, data))
    groups = dict(zip(one.sources, one.groups, strict=True))
    for image in windows.read_images(pairs, in_pixels=name != "tiles"):
        group = groups.get(image.chart.image.name)
        if group is None:
            continue
        for row, col, diameter in zip(
            image.craters.rows, image.craters.cols, image.diameters, strict=True
        ):
            if diameter >= LEAST_DIAMETER:
                by_group.setdefault(group, []).append(
                    shading(image.pixels.astype(float), row, col, 0.4 * diameter)
                )
    return {
        group: (one.images[one.groups == group], direction_of(np.array(dipoles)))
        for group, dipoles in by_group.items()
        if len(dipoles) >= FEWEST
    }


def _off(first: float, second: float) -> float:
    return abs((first - second + 180) % 360 - 180)


def _scenes(classifier: Classifier) -> Row:
    """Estimate the light of synthetic scenes from the windows of a grid."""
    corners = range(0, SCENE_SIDE - SIDE + 1, STEP)
    estimates, truths = [], []
    turned = 0.0
    for index in range(SCENES):
        scene = make_scene(SCENE_SIDE, SCENE_SIDE, seed=SEED, index=index, look="mixed")
        seen = np.stack([scene.image[r : r + SIDE, c : c + SIDE] for r in corners for c in corners])
        estimates.append(classifier.find_light(seen).groups[""])
        truths.append(scene.azimuth)
        if index < 10:
            turned = max(turned, _turned(classifier, seen))
    return _figures(estimates, truths, turned)


def _real(classifier: Classifier, name: str, bench: Bench) -> Row:
    """Compare the light of each image, or of a whole set of patches, with the labels'."""
    estimates, truths, turned = [], [], 0.0
    pairs = {}
    for group, (images, truth) in true_lights(name, bench.data.parent).items():
        light = classifier.find_light(images).groups[""]
        estimates.append(light)
        truths.append(truth)
        turned = max(turned, _turned(classifier, images))
        pairs[group] = [round(light.azimuth), round(truth), round(light.certainty or 0, 2)]
    return {**_figures(estimates, truths, turned), "pairs": pairs}


def _turned(classifier: Classifier, images: np.ndarray) -> float:
    """Return the greatest difference between the estimate and those of transformed images."""
    images = images[:: max(1, len(images) // TURNED)]
    azimuth = classifier.find_light(images).groups[""].azimuth
    return max(
        _off(
            classifier.find_light(np.ascontiguousarray(transform(images, name))).groups[""].azimuth,
            turn_azimuth(azimuth, name),
        )
        for name in SYMMETRIES
    )


def _figures(estimates: list, truths: list[float], turned: float) -> Row:
    off = np.array([_off(one.azimuth, truth) for one, truth in zip(estimates, truths, strict=True)])
    certain = np.array([one.is_used for one in estimates])
    return {
        "n": len(off),
        "within": float((off <= 45).mean()),
        "error": float(np.median(off)),
        "certain": float(certain.mean()),
        "within_certain": float((off[certain] <= 45).mean()) if certain.any() else None,
        "turned": turned,
    }


def _result(rows: Rows) -> Row:
    """Assemble the result."""
    contenders = []
    for (name, _), row in rows.items():
        measures = [measure for measure in _TITLES if row[measure] is not None]
        label = f"{SCENES} synthetic scenes, look `mixed`" if name == "scenes" else f"`{name}`"
        contenders.append(harness.contender(label, {0: row}, measures, baseline=False))
    findings = [
        f"{name}, {group}: estimated {pair[0]}, by labels {pair[1]} degrees, certainty {pair[2]}."
        for (name, _), row in rows.items()
        for group, pair in row.get("pairs", {}).items()
    ]
    return harness.result(
        NAME,
        TITLE,
        rows=list(rows.values()),
        about=[
            f"Azimuths are degrees clockwise from image up. Scenes of {SCENE_SIDE} x {SCENE_SIDE} "
            f"px are seen in windows of {SIDE} px every {STEP} px, at most 512 of them. Of real "
            "images and regions, the true direction is that in which listed craters are darkest, "
            "on average.",
        ],
        settings={"scenes": SCENES},
        titles=_TITLES,
        tables=_TABLES,
        contenders=contenders,
        findings=findings,
    )
