"""Which subnet to evaluate next: searchers, and the driver that Ray Tune sees."""
