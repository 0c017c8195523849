"""What unlabeled patches are worth, what `auto` makes of them, and the pool's share of craters."""
