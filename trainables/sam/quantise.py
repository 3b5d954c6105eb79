"""int8 weights for an exported model; what they are multiplied with stays float32.

onnxruntime's own quantiser and operator (`MatMulNBits`): blocks of a matrix' columns have a scale
each, and are turned back into float32 where they are used. With activations in int8 too, as
`quantize_dynamic` has them, an answer would depend on what else is in the batch.
"""

import importlib
import logging
from pathlib import Path
from typing import Any

import onnx

BLOCK = 32
"""Weights that share a scale."""
FLOAT32 = 1
"""onnxruntime's level of accuracy at which products and sums are float32."""


def quantise(folder: Path) -> None:
    """Replace the matrices of `encoder.onnx` and `decoder.onnx`, as `write_onnx` writes them.

    Convolutions, and the few matrices whose bias is one with the product, keep their weights.
    """
    library = _library()
    config = library.DefaultWeightOnlyQuantConfig(
        block_size=BLOCK, is_symmetric=True, accuracy_level=FLOAT32, bits=8
    )
    for part in ("encoder", "decoder"):
        path = folder / f"{part}.onnx"
        quantiser = library.MatMulNBitsQuantizer(onnx.load(path), algo_config=config)
        quantiser.process()
        quantiser.model.save_model_to_file(path)


def _library() -> Any:
    """onnxruntime's module; what it does to the root logger when it is imported is undone."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    library = importlib.import_module("onnxruntime.quantization.matmul_nbits_quantizer")
    root.setLevel(level)
    root.handlers[:] = handlers
    return library
