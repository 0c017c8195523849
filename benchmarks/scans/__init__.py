"""Whole images: time and memory of scans, and the craters that they find."""
