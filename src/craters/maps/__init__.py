"""Planetary images: geometry (`geo`), crater catalogues (`catalogues`), scans (`scan`).

Interface: that of the three packages. All need the extra `[geo]`.
Nothing here trains a network.
"""
