"""Fixed folds, as those who published the patches dealt them: copies, scores, runs, reports."""
