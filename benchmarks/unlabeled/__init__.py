"""Gains from unlabeled patches, choices of `auto`, and the estimated share of craters."""
