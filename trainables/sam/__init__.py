"""Segment Anything models: loading, elasticity, prioritising, training, evaluation, extraction."""
