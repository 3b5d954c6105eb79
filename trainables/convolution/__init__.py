"""Im2win: a convolution whose windows share what they have in common."""
