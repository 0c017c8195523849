"""Circles: the detector on real images."""
