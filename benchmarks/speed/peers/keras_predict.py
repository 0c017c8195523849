"""Predictions by plain TensorFlow/Keras, for `cold_predict`. Needs no other file of ours.

    python keras_predict.py MODEL.h5 IMAGES.npy OUT.csv

writes row, probability and label, as `craters predict` does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

SIDE = 48


def main(model: Path, images: Path, out: Path) -> None:
    """Predict by one thread."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    pixels = np.load(images).reshape(-1, SIDE, SIDE, 1).astype(np.float32) / 255
    network = keras.models.load_model(model, compile=False)
    probability = network.predict(pixels, batch_size=1024, verbose=0)[:, 0]
    lines = [f"{row},{p:.9g},{int(p >= 0.5)}\n" for row, p in enumerate(probability)]
    out.write_text("id,probability,label\n" + "".join(lines))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
