"""Make planets.npz: small scenes and patches of each look, with their truth.

python -m tests.golden.make_planets

Changed images need a new GENERATOR_VERSION in src/craters/synthetic/look.py first.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from craters.synthetic import GENERATOR_VERSION, PRESETS, make_scene, sample_scenes

GOLDEN = Path(__file__).with_name("planets.npz")
SIDE, SCENES = 64, 2
MOST_PIXELS = 0.005  # share that may be rounded to another level, as floats differ between CPUs


def make() -> dict[str, np.ndarray]:
    """Return images and truth of every look and, as "none", of scenes without a look."""
    arrays = {"version": np.array(GENERATOR_VERSION)}
    for name, look in {"none": None, **PRESETS}.items():
        for index in range(SCENES):
            scene = make_scene(SIDE, SIDE, seed=5, index=index, look=look)
            arrays[f"{name}/{index}/image"] = scene.image
            truth = [scene.craters[field] for field in ("row", "col", "diameter", "freshness")]
            light = np.array([scene.azimuth, scene.incidence])
            arrays[f"{name}/{index}/truth"] = np.concatenate([light, *truth]).astype(np.float32)
    for name in PRESETS:
        patches = sample_scenes(range(SCENES), seed=5, size=24, look=name, per_scene=4)
        arrays[f"{name}/patches/image"] = patches.images
        truth = np.column_stack([patches.labels, patches.azimuth, patches.crater])
        arrays[f"{name}/patches/truth"] = truth.astype(np.float32)
    return arrays


def differences(made: dict[str, np.ndarray], golden: dict[str, np.ndarray]) -> list[str]:
    """Name the arrays that differ, with how much."""
    found = [f"{name}: only in one" for name in sorted(made.keys() ^ golden.keys())]
    for name in sorted(made.keys() & golden.keys() - {"version"}):
        one, other = made[name], golden[name]
        if one.shape != other.shape:
            found.append(f"{name}: shape {one.shape}, golden {other.shape}")
        elif name.endswith("truth"):
            if not np.allclose(one, other, rtol=1e-5, atol=1e-4, equal_nan=True):
                found.append(f"{name}: other truth")
        elif (share := float((one != other).mean())) > MOST_PIXELS:
            found.append(f"{name}: {share:.1%} of the pixels")
    return found


def main() -> None:
    """Write the file, unless images changed and the version did not."""
    made = make()
    if GOLDEN.exists():
        with np.load(GOLDEN) as stored:
            golden = dict(stored)
        if differences(made, golden) and int(golden["version"]) >= GENERATOR_VERSION:
            sys.exit(f"{GOLDEN}: the images changed; raise GENERATOR_VERSION above "
                     f"{int(golden['version'])} first")  # fmt: skip
    np.savez_compressed(GOLDEN, **made)


if __name__ == "__main__":
    main()
