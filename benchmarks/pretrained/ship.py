"""Put a pretrained network into the package, with its measured quality in model.json and card.

`make pretrained` calls `python -m pretrained.ship MODEL` in `benchmarks` after `craters pretrain`.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np

import harness
from craters.core import files
from craters.models import GRAPH, read_description, read_parts, write_model
from craters.models.folder import CHOSEN_ON, short_hashes
from harness import Row
from pretrained import quality, scores, sets

SELECTION = (
    "recipe and look were chosen by the figures of the sets below, which are therefore somewhat "
    "optimistic; no real image was trained on"
)


def main(arguments: list[str] | None = None) -> None:
    """Measure a model folder, and write it to the package."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="model folder written by `craters pretrain`")
    parser.add_argument("--data", type=Path, help="folder of the themis48 arrays")
    options = parser.parse_args(arguments)
    data = harness.find_data(options.data).parent
    predict = quality.predictor(options.model)
    measured = {}
    for name in sets.NAMES:
        if sets.folder_of(name, data).is_dir():
            (one,) = sets.load_sets(data, (name,))
            figures = scores.figures(one.labels, predict(one.images, one.groups), one.stride)
            measured[name] = _shown(figures, one.images.shape[1])
            print(name, measured[name])
    description = read_description(options.model)
    described = dataclasses.replace(
        description,
        metrics=measured,
        pretraining={**(description.pretraining or {}), "selection": SELECTION},
    )
    write_model(
        harness.MODEL,
        onnx=read_parts(options.model)[0][GRAPH],
        weights=None,
        description=described,
        license_id="mit",
        force=True,
    )
    patches = sets.load_sets(data, sets.PATCHES)
    hashes = np.unique(np.concatenate([short_hashes(one.images) for one in patches]))
    files.write_array(harness.MODEL.with_name(CHOSEN_ON), hashes)
    print(f"Written: {harness.MODEL.relative_to(harness.ROOT)}")


def _shown(figures: Row, side: int) -> dict[str, float]:
    """Return the figures of one set for the card."""
    names = ["macro_f1", "roc_auc"]
    if figures.get("false_per_megapixel") is not None:
        names = ["average_precision", "roc_auc", "false_per_megapixel"]
    names += ["called_share", "crater_share"]  # the error of a share that no label corrects
    shown = {name: round(float(figures[name]), 3) for name in names}
    return {"patches": figures["n"], "side": side, **shown}


if __name__ == "__main__":
    main()
