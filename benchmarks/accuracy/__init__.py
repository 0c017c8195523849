"""Accuracy of labels alone: unseen regions, designs of `compact`, the fixed folds of Nanedi."""
