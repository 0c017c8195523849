"""Gray pictures as PNG, without an imaging library."""

from __future__ import annotations

import struct
import zlib

import numpy as np

_START = b"\x89PNG\r\n\x1a\n"


def gray_png(pixels: np.ndarray) -> bytes:
    r"""Encode 8-bit gray pixels as PNG (ISO/IEC 15948).

    Parameters
    ----------
    pixels : ndarray, shape (H, W), uint8

    Examples
    --------
    >>> gray_png(np.zeros((2, 3), np.uint8))[:8]
    b'\x89PNG\r\n\x1a\n'
    """
    height, width = pixels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = pixels
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    return _START + b"".join(_part(name, content) for name, content in parts)


def _part(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)
