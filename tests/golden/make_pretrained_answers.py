"""Make pretrained_answers.npz: what the model that ships with craters says of synthetic patches.

python -m tests.golden.make_pretrained_answers
"""

from pathlib import Path

import numpy as np

from craters import make_patches
from craters.models import load_model

HERE = Path(__file__).parent
SIDES = (28, 48, 64)
EACH = 40


def main() -> None:
    """Write the patches of each side, and their probabilities."""
    model = load_model("pretrained")
    answers = {}
    for side in SIDES:
        images = make_patches(EACH, crater_share=0.5, seed=24, size=side).images
        answers[f"images_{side}"] = images
        answers[f"probability_{side}"] = model.predict_proba(images)
    np.savez_compressed(HERE / "pretrained_answers.npz", **answers)


if __name__ == "__main__":
    main()
