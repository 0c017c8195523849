"""Cross-validation over published folds: copies, scores, resumable runs, reports."""
