"""Training: recipes, the loop, resuming, and the run folder."""
