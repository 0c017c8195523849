"""What makes a network that was pretrained on synthetic planets work on real images."""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import time
from pathlib import Path

import harness
from craters.core import Progress
from craters.pretraining import Recipe, pretrain
from craters.settings import PretrainConfig
from craters.synthetic import PRESETS, Look, Sometimes, Uniform
from harness import Bench, Keys, Row, Rows
from pretrained import quality, scores, sets

NAME = "pretraining_ideas"
TITLE = "Pretraining: ideas tried"
RESULT_VERSION = 1
ROUNDS = 3

_OFF = Sometimes(0, Uniform(0, 1))
_MIXED, _RECIPE = PRESETS["mixed"], Recipe()


@dataclasses.dataclass(frozen=True)
class Idea:
    """A change of the pretraining: of its look, its recipe or its settings."""

    title: str
    look: Look = _MIXED
    recipe: Recipe = _RECIPE
    rounds: int = ROUNDS
    settings: dict[str, float] = dataclasses.field(default_factory=dict)


def _without(*factors: str, **others: object) -> Look:
    """Return the mixed look without some factors, or with others."""
    return dataclasses.replace(_MIXED, **dict.fromkeys(factors, _OFF), **others)


IDEAS = {
    "shipped": Idea(f"the shipped recipe, {ROUNDS} rounds"),
    "all-lights": Idea("light from all sides, not turned", recipe=Recipe(in_frame=False)),
    "no-light-output": Idea("no output for light", recipe=Recipe(light_weight=0, free=0)),
    "fixed-contrast": Idea("brightness by constants", recipe=Recipe(patch_contrast=False)),
    "wide": Idea("1.8 times the weights", recipe=Recipe(channels=(32, 64, 128))),
    "half-rate": Idea("half the learning rate", recipe=Recipe(learning_rate=2e-3)),
    "one-light": Idea(
        "one direction and height of light",
        _without(azimuth=Uniform(260, 280), incidence=Uniform(50, 65)),
    ),
    "no-look-alikes": Idea(
        "no look-alikes",
        _without(
            "hills", "pits", "domes", "boulders", "ridges", "fractures", "channels", "dunes",
            "layers", "mesas",
        ),
    ),
    "one-sensor": Idea(
        "one sensor",
        _without(
            "stripes", "jpeg", "levels", "seams", "missing",
            blur=Uniform(0.7, 0.8), noise=Uniform(0.04, 0.06), gamma=Uniform(1, 1),
            mean=Uniform(120, 130), spread=Uniform(30, 40),
        ),
    ),
    "fresh": Idea("fresh craters only", _without(freshness=Uniform(0.75, 0.95))),
    "plain-craters": Idea(
        "no ejecta, rays, rings, clusters or fills",
        _without("ejecta", "rays", "rings", "clusters", "fill"),
    ),
    "mars-thermal": Idea("look `mars-thermal` alone", PRESETS["mars-thermal"]),
    "moon": Idea("look `moon` alone", PRESETS["moon"]),
    "least-11": Idea("craters count from 11 px, not 9", settings={"least_diameter": 11}),
    "longer": Idea(f"{4 * ROUNDS} rounds", rounds=4 * ROUNDS),
}  # fmt: skip

_TITLES = {
    "themis48": ["themis48, macro F1", 3],
    "nanedi": ["Nanedi, macro F1", 3],
    "tiles": ["tiles, average precision", 3],
    "hrsc": ["hrsc, average precision", 3],
    "ctx_mars": ["ctx_mars, average precision", 3],
    "nac_moon": ["nac_moon, ROC AUC", 3],
    "mean": ["mean of the columns", 3],
}


def run(bench: Bench, progress: Progress) -> Row | None:
    """Pretrain with each idea that has no row, and predict the real sets."""
    if not bench.full:
        return harness.tell_stored(NAME, progress)

    def measure(name: str, seed: int) -> Row:
        row = try_idea(IDEAS[name], seed, bench.data.parent, progress)
        progress.say(f"{name}: {', '.join(f'{key} {row[key]:.3f}' for key in _TITLES)}")
        return row

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure))


def keys(bench: Bench) -> Keys:
    """Return what the row of each idea depends on."""
    data = bench.data.parent
    parts = {name: sets.fingerprint(name, data) for name in sets.NAMES}
    return {
        (name, 0): harness.row_key(
            bench, name, 0, {"idea": dataclasses.asdict(idea), "sets": parts}, RESULT_VERSION
        )
        for name, idea in IDEAS.items()
    }


def try_idea(idea: Idea, seed: int, data: Path, progress: Progress) -> Row:
    """Pretrain a network with an idea and predict the real sets."""
    folder = harness.WORK / "ideas"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = time.perf_counter()
    config = PretrainConfig(folder / "model", rounds=idea.rounds, seed=seed, **idea.settings)
    made = pretrain(config, look=idea.look, recipe=idea.recipe, progress=progress)
    seconds = time.perf_counter() - start
    predict = quality.predictor(made.folder)
    figures = {}
    for one in map(sets.coarse, sets.load_sets(data, cache=harness.WORK / "sets")):
        figures[one.name] = scores.figures(one.labels, predict(one.images, one.groups), one.stride)
    row = {
        "themis48": figures["themis48"]["macro_f1"],
        "nanedi": statistics.fmean(
            figures[name]["macro_f1"] for name in ("nanedi_west", "nanedi_center")
        ),
        **{name: figures[name]["average_precision"] for name in ("tiles", "hrsc", "ctx_mars")},
        "nac_moon": figures["nac_moon"]["roc_auc"],
    }
    return {
        **row,
        "mean": statistics.fmean(row.values()),
        "seconds": seconds,
        "sets": figures,
        "history": made.history,
    }


def _result(rows: Rows) -> Row:
    """Assemble the result."""
    contenders = [
        harness.contender(IDEAS[name].title, {seed: row}, _TITLES, baseline=name == "shipped")
        for (name, seed), row in rows.items()
    ]
    return harness.result(
        NAME,
        TITLE,
        rows=list(rows.values()),
        about=[
            f"Each network is trained for {ROUNDS} rounds of about 32,000 new patches and 64,000 "
            "patches seen, with one change of the shipped recipe, and has seen no real image. "
            "Windows of grids: a quarter of them. One seed: differences below about 0.01 are "
            "noise.",
        ],
        settings={"rounds": ROUNDS},
        titles=_TITLES,
        tables={"Ideas": tuple(_TITLES)},
        contenders=contenders,
        findings=[],
    )
