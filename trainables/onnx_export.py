"""What all exports to ONNX have in common."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

OPSET = 20
"""Of ONNX; onnxruntime has it from 1.17 on."""
ONE_FILE = 2**30
"""Bytes of weights up to which an ONNX file holds them itself; protobuf ends at twice as many."""


@contextmanager
def quiet_export() -> Iterator[None]:
    """Without the exporter's remarks on itself: names that two axes share, operators it lacks."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
