"""The scan of `craters demo`: find the craters of a synthetic scene, whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_SIDE = 2000  # px
_LEAST = 12.0  # px: diameter of the craters that are counted
_NEAR, _LIKE = 0.5, 2.0  # as of `craters match`: distance in diameters, ratio of diameters
_FOUND, _FALSE, _MISSED = "#ffd60a", "#ff3b6b", "#4cc2ff"


def scan_scene(folder: Path, seed: int, *, side: int = _SIDE) -> list[str]:
    """Search a synthetic scene with the circle detector, and compare the result with the truth.

    Parameters
    ----------
    folder : Path
        Receives circles.csv and circles.png; created if missing.
    seed : int
        The scene.
    side : int
        Height and width of the scene in pixels.

    Returns
    -------
    list of str
        The result in sentences.
    """
    from craters.core import files
    from craters.evaluation import operating_point, scene_probability
    from craters.models import CIRCLES, CircleDetector, size_strata
    from craters.synthetic import make_scene

    scene, detector = make_scene(side, side, seed=seed), CircleDetector.load(CIRCLES)
    candidates = detector.detect(scene.image, missing=scene.image == 0, azimuth=scene.azimuth)
    calibration = detector.description.calibration
    p = scene_probability(
        candidates["logit"],
        slope=calibration.slope,
        offset=calibration.offset,
        share=calibration.share,
        strata=size_strata(candidates),
    ).probability
    is_detection = p >= operating_point(p).threshold
    circles, p = candidates[is_detection], p[is_detection]
    found, hits = _match(scene.craters, circles)
    row, col = scene.craters["row"], scene.craters["col"]
    counted = (np.minimum(row, col) > 0) & (np.maximum(row, col) < side - 1)
    counted &= scene.craters["diameter"] >= _LEAST
    folder.mkdir(parents=True, exist_ok=True)
    names = ("row", "col", "diameter", "error")
    lines = zip(*(circles[name].round(2).tolist() for name in names), p.round(4), hits, strict=True)
    table = files.to_csv([(*names, "p_crater", "is_crater"), *lines])
    files.write_text(folder / "circles.csv", table)
    drawn = [(circles[hits], _FOUND), (circles[~hits], _FALSE),
             (scene.craters[counted & ~found], _MISSED)]  # fmt: skip
    _draw(folder / "circles.png", scene.image, drawn)
    return [
        f"Synthetic image of {side} x {side} pixels, searched by the shipped circle detector:",
        f"  {(counted & found).sum()} of {counted.sum()} craters of at least {_LEAST:g} px found; "
        f"of {len(circles)} detections, {hits.sum()} are craters (expected: {p.mean():.0%})",
        f"Circles: {folder / 'circles.csv'}; picture (yellow: craters, red: no craters, blue: "
        f"missed): {folder / 'circles.png'}",
    ]


def _match(craters: np.ndarray, circles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Match craters and circles one to one; return which craters are found, which circles true."""
    away = np.hypot(*(craters[name][:, None] - circles[name] for name in ("row", "col")))
    ratio = circles["diameter"] / craters["diameter"][:, None]
    share = away / craters["diameter"][:, None]
    pairs = np.argwhere((share <= _NEAR) & (ratio <= _LIKE) & (ratio >= 1 / _LIKE))
    found, hits = np.zeros(len(craters), bool), np.zeros(len(circles), bool)
    for crater, circle in pairs[np.argsort(share[tuple(pairs.T)], kind="stable")]:
        if not found[crater] and not hits[circle]:
            found[crater] = hits[circle] = True
    return found, hits


def _draw(path: Path, image: np.ndarray, drawn: list[tuple[np.ndarray, str]]) -> None:
    from PIL import Image, ImageDraw

    picture = Image.fromarray(image).convert("RGB")
    canvas = ImageDraw.Draw(picture)
    for circles, color in drawn:
        for circle in circles:
            place = circle["col"], circle["row"]
            canvas.circle(place, circle["diameter"] / 2, outline=color, width=2)
    picture.save(path)
