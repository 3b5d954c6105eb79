"""A study of a Segment Anything Model: a family of smaller ones (SuperSAM, arXiv 2501.08504)."""
