"""A family of searches: how to compute a convolution, shape by shape, on the device at hand."""
