"""Speed of the generator of labeled patches: one process, at most ten patches a scene."""

from __future__ import annotations

import time

import harness
from craters.core import Progress
from craters.synthetic import GENERATOR_VERSION, PRESETS, sample_scenes
from harness import Bench, Keys, Row, Rows

NAME = "generator"
TITLE = "Speed of the synthetic patches"
RESULT_VERSION = 1
SCENES, PER_SCENE, ROUNDS, SEED = 100, 10, 5, 24_002

_SIDES = {"mixed": (24, 48, 64)}  # px; other looks at 48 px
_TITLES = {
    "per_second": ["patches a second of one core", 0],
    "per_scene": ["patches a scene", 1],
    "scene_ms": ["milliseconds a scene", 1],
}


def run(bench: Bench, progress: Progress) -> Row:
    """Measure the rounds that are missing."""
    sample_scenes(range(5), seed=SEED)  # imports and caches are not measured

    def measure(label: str, number: int) -> Row:
        look, side = _parts(label)
        row = _time(look, side, number)
        progress.say(f"{label}, round {number}: {row['per_second']:.0f} patches a second")
        return row

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure))


def keys(bench: Bench) -> Keys:
    """Return what each row depends on."""
    settings = {"scenes": SCENES, "per_scene": PER_SCENE, "generator": GENERATOR_VERSION}
    return {
        (label, number): harness.row_key(bench, label, number, settings, RESULT_VERSION)
        for number in range(ROUNDS)
        for label in _labels()
    }


def _labels() -> list[str]:
    return [f"`{look}`, {side} px" for look in PRESETS for side in _SIDES.get(look, (48,))]


def _parts(label: str) -> tuple[str, int]:
    """Return look and side of a label."""
    look, side = label.replace("`", "").removesuffix(" px").split(", ")
    return look, int(side)


def _time(look: str, side: int, number: int) -> Row:
    """Time a round of new scenes by the CPU time of the process."""
    scenes = range(number * SCENES, (number + 1) * SCENES)
    start = time.process_time()
    patches = sample_scenes(scenes, seed=SEED, size=side, look=look, per_scene=PER_SCENE)
    seconds = time.process_time() - start
    count = len(patches.labels)
    return {
        "per_second": count / seconds,
        "per_scene": count / SCENES,
        "scene_ms": 1000 * seconds / SCENES,
    }


def _result(rows: Rows) -> Row:
    """Assemble the result."""
    found = harness.by_contender(rows, _labels())
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            f"Labeled patches of {SCENES} new scenes a round, by `sample_scenes` in one process of "
            f"one thread, at most {PER_SCENE} patches a scene, half of them with crater. Times are "
            "CPU times of the process.",
        ],
        settings={"scenes": SCENES, "per_scene": PER_SCENE, "rounds": ROUNDS},
        titles=_TITLES,
        tables={"Looks and sides of a patch": tuple(_TITLES)},
        contenders=[
            harness.contender(label, by_round, _TITLES, baseline=False)
            for label, by_round in found.items()
        ],
        findings=[
            f"{label}: {harness.spread(row['per_second'] for row in by_round.values())} patches a "
            "second of one core (median and range)."
            for label, by_round in found.items()
        ],
    )
