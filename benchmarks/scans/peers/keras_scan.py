"""Scan an image by plain TensorFlow/Keras, for `scan`. Needs no other file of ours.

    python keras_scan.py windows|whole MODEL.h5 IMAGE.npy STRIDE OUT.npy

`windows` cuts every window out and predicts it, in batches, as a script without a dense form would;
`whole` turns the dense layers into convolutions and maps strips of the image, stride 6. One thread.
Prints the seconds between the model being loaded and the map being complete.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

SIDE, BATCH, STRIP = 48, 1024, 768


def by_windows(network: keras.Model, pixels: np.ndarray, stride: int) -> np.ndarray:
    """Predict every window, a row of windows at a time."""
    views = np.lib.stride_tricks.sliding_window_view(pixels, (SIDE, SIDE))[::stride, ::stride]
    rows = []
    for row in views:
        patches = row[..., None].astype(np.float32) / 255
        rows.append(network.predict(patches, batch_size=BATCH, verbose=0)[:, 0])
    return np.stack(rows)


def over_whole(network: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Map the image in tiles of about `STRIP` pixels, as `craters scan` does."""
    step = (STRIP - SIDE) // 6 + 1
    rows = (pixels.shape[0] - SIDE) // 6 + 1
    columns = (pixels.shape[1] - SIDE) // 6 + 1
    found = np.empty((rows, columns), np.float32)
    call = tf.function(lambda images: network(images, training=False))
    for row in range(0, rows, step):
        for column in range(0, columns, step):
            size = [(min(step, n - start) - 1) * 6 + SIDE
                    for n, start in ((rows, row), (columns, column))]  # fmt: skip
            part = pixels[6 * row : 6 * row + size[0], 6 * column : 6 * column + size[1]]
            images = tf.constant(part[None, ..., None].astype(np.float32) / 255)
            tile = call(images).numpy()[0, ..., 0]
            target = found[row : row + step, column : column + step]
            target[:] = tile[: target.shape[0], : target.shape[1]]
    return found


def fully_convolutional(trained: keras.Model) -> keras.Model:
    """Give the same weights to a model of convolutions, for images of any size."""
    grid = ((SIDE - 2) // 3 - 2) // 2
    layers = keras.layers
    whole = keras.Sequential([
        keras.Input((None, None, 1)),
        layers.Conv2D(16, 3, activation="relu"), layers.MaxPooling2D(3),
        layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2),
        layers.Conv2D(8, grid, activation="relu"), layers.Conv2D(1, 1, activation="sigmoid"),
    ])  # fmt: skip
    holders = [layer for layer in whole.layers if layer.weights]
    sources = [layer for layer in trained.layers if layer.weights]
    for place, (holder, source) in enumerate(zip(holders, sources, strict=True)):
        kernel, bias = source.get_weights()
        if place == 2:
            kernel = kernel.reshape(grid, grid, 32, 8)
        if place == 3:
            kernel = kernel.reshape(1, 1, 8, 1)
        holder.set_weights([kernel, bias])
    return whole


def main(way: str, model: str, image: str, stride: str, out: str) -> None:
    """Scan by one thread."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    network = keras.models.load_model(model, compile=False)
    pixels = np.load(image)
    if way == "whole":
        network = fully_convolutional(network)
    clock = time.perf_counter()
    found = by_windows(network, pixels, int(stride)) if way == "windows" else over_whole(
        network, pixels
    )  # fmt: skip
    print(time.perf_counter() - clock)
    np.save(Path(out), found)


if __name__ == "__main__":
    main(*sys.argv[1:6])
