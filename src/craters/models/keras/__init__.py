"""Keras model files as data: read by an allow-list, written without Keras; nothing is executed.

Interface: `KerasModel`, `read_keras`, `build_keras_network`, `write_keras_h5`, `write_keras_zip`.
It needs torch and h5py, and never Keras itself.
"""

from craters.models.keras.network import KerasNet, build_keras_network
from craters.models.keras.reader import KerasModel, read_keras
from craters.models.keras.writer import write_keras_h5, write_keras_zip

__all__ = [
    "KerasModel",
    "KerasNet",
    "build_keras_network",
    "read_keras",
    "write_keras_h5",
    "write_keras_zip",
]
