"""SAM's mask decoder for many prompts on one picture, without the work that they have in common.

What `MaskDecoder.predict_masks` gives, to rounding, from the same weights. The prompts of a picture
are few tokens each, the picture is hundreds or thousands; so the projections of the two-way
transformer's cross attentions move from the picture's side to the prompts':

    (q W_q)(k W_k)ᵀ = ((q W_q) W_kᵀ) kᵀ        and        A (v W_v) = (A v) W_v

with t tokens and h heads, t · h columns in place of the attention's width, for each of the
picture's cells. A key's bias adds the same to all of a query's scores, which a softmax does not
see. Until the first block's end the picture is the same for all prompts, and is not copied. The
transposed convolutions, whose stride is their size, are linear layers on cells; only the masks are
put in their places.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.data.prompts import Prompts
from trainables.sam.segment_anything_import import Sam

Module = Any
"""One of segment_anything's, which have no types."""


def encode_prompts(sam: Sam, prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Sparse [N, tokens, 256] and dense [N, 256, H, W] embeddings; the prompt encoder is frozen."""
    device = sam.pixel_mean.device
    with torch.no_grad():
        if prompts.boxes is not None:
            encoded = sam.prompt_encoder(points=None, boxes=prompts.boxes.to(device), masks=None)
        else:
            assert prompts.points is not None
            points = prompts.points.to(device)
            labels = torch.ones(points.shape[:2], dtype=torch.int64, device=device)
            encoded = sam.prompt_encoder(points=(points, labels), boxes=None, masks=None)
    sparse, dense = encoded
    return sparse, dense


def decode_masks(
    sam: Sam, embedding: Tensor, encoded: tuple[Tensor, Tensor], positions: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """All four masks of the decoder for one picture.

    The first is the token for unambiguous prompts, the others are the three of ambiguous ones.

    Args:
        embedding: [1, 256, H, W].
        encoded: what `encode_prompts` gave for the picture's N prompts.
        positions: the prompt encoder's `get_dense_pe()`, where it is at hand.

    Returns:
        Mask logits [N, 4, 4H, 4W] and predicted IoUs [N, 4].
    """
    decoder = sam.mask_decoder
    sparse, dense = encoded
    if positions is None:
        positions = sam.prompt_encoder.get_dense_pe()
    # Without mask prompts the dense embedding is one, expanded.
    picture = _cells(embedding + (dense if dense.stride(0) else dense[:1]))
    outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([outputs.expand(len(sparse), -1, -1), sparse], dim=1)
    tokens, picture = _two_way(decoder.transformer, picture, _cells(positions), tokens)
    hypernetworks = decoder.output_hypernetworks_mlps
    weights = torch.stack(
        [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(hypernetworks)], dim=1
    )  # [N, 4, 32]
    logits = _masks(decoder.output_upscaling, picture, weights, embedding.shape[-2:])
    return logits, decoder.iou_prediction_head(tokens[:, 0])


def _cells(maps: Tensor) -> Tensor:
    """[N, C, H, W] to [N, HW, C]."""
    return maps.flatten(2).transpose(1, 2)


def _two_way(
    transformer: Module, picture: Tensor, positions: Tensor, prompts: Tensor
) -> tuple[Tensor, Tensor]:
    """`TwoWayTransformer`: tokens [N, t, C] and the picture's cells [N or 1, P, C], both new."""
    tokens = prompts
    for block in transformer.layers:
        if block.skip_first_layer_pe:
            tokens = block.self_attn(q=tokens, k=tokens, v=tokens)
        else:
            asked = tokens + prompts
            tokens = tokens + block.self_attn(q=asked, k=asked, v=tokens)
        tokens = block.norm1(tokens)
        placed = picture + positions
        tokens = tokens + _ask_picture(
            block.cross_attn_token_to_image, tokens + prompts, placed, picture
        )
        tokens = block.norm2(tokens)
        tokens = block.norm3(tokens + block.mlp(tokens))
        told = _ask_tokens(block.cross_attn_image_to_token, placed, tokens + prompts, tokens)
        picture = block.norm4(picture + told)
    final = transformer.final_attn_token_to_image
    tokens = tokens + _ask_picture(final, tokens + prompts, picture + positions, picture)
    return transformer.norm_final_attn(tokens), picture


def _ask_picture(attention: Module, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Tokens attend to the picture's cells.

    Args:
        attention: segment_anything's.
        queries: [N, t, C].
        keys: [N or 1, P, C].
        values: likewise.
    """
    heads = attention.num_heads
    asked = _by_head(attention.q_proj(queries), heads)  # [N, h, t, d]
    scale = 1 / math.sqrt(asked.shape[-1])
    folded = (asked * scale) @ _weight_by_head(attention.k_proj, heads)  # [N, h, t, C]
    weights = _product(folded.flatten(1, 2), keys.transpose(1, 2)).softmax(-1)
    seen = _product(weights, values).unflatten(1, (heads, -1))  # [N, h, t, C]
    taken = seen @ _weight_by_head(attention.v_proj, heads).transpose(1, 2)
    taken = taken + attention.v_proj.bias.view(heads, 1, -1)
    answers: Tensor = attention.out_proj(taken.transpose(1, 2).flatten(2))
    return answers


def _ask_tokens(attention: Module, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The picture's cells attend to tokens.

    Args:
        attention: segment_anything's.
        queries: [N or 1, P, C].
        keys: [N, t, C].
        values: likewise.
    """
    heads = attention.num_heads
    offered = _by_head(attention.k_proj(keys), heads)  # [N, h, t, d]
    offered = offered / math.sqrt(offered.shape[-1])
    folded = offered @ _weight_by_head(attention.q_proj, heads)  # [N, h, t, C]
    bias = offered @ attention.q_proj.bias.view(heads, -1, 1)  # [N, h, t, 1]
    scores = _product(folded.flatten(1, 2), queries.transpose(1, 2)) + bias.flatten(1, 2)
    # Cells stand last: a softmax over the few tokens before them runs along whole rows of cells.
    weights = scores.unflatten(1, (heads, -1)).softmax(2).flatten(1, 2)
    given = _by_head(attention.v_proj(values), heads)
    columns = attention.out_proj.weight.unflatten(1, (heads, -1)).permute(1, 2, 0)  # [h, d, C]
    told = (given @ columns).flatten(1, 2)
    answers: Tensor = weights.transpose(1, 2) @ told + attention.out_proj.bias
    return answers


def _by_head(tokens: Tensor, heads: int) -> Tensor:
    """[N, t, h · d] to [N, h, t, d]."""
    split: Tensor = tokens.unflatten(-1, (heads, -1))
    return split.transpose(1, 2)


def _weight_by_head(linear: Module, heads: int) -> Tensor:
    """A projection's weight as [h, d, C]."""
    weight: Tensor = linear.weight.unflatten(0, (heads, -1))
    return weight


def _product(rows: Tensor, columns: Tensor) -> Tensor:
    """[N, r, k] times [N or 1, k, c]; a single matrix is no batch of copies, but one product."""
    return rows @ (columns[0] if len(columns) == 1 else columns)


def _masks(upscaling: Module, picture: Tensor, weights: Tensor, size: torch.Size) -> Tensor:
    """Mask logits [N, 4, 4H, 4W].

    Args:
        upscaling: two transposed convolutions of 2 × 2 with stride 2, the first with a norm.
        picture: cells [N, HW, C].
        weights: of each mask, over the channels that come out: [N, 4, C / 8].
        size: H, W.
    """
    first, norm, activation, second, last = upscaling.children()
    cells = _enlarged(first, picture)
    cells = F.layer_norm(cells, cells.shape[-1:], norm.weight, norm.bias, norm.eps)
    cells = activation(cells)
    cells = last(_enlarged(second, cells))  # [N, HW, 2, 2, 2, 2, C / 8]
    logits: Tensor = cells.flatten(1, 5) @ weights.transpose(1, 2)
    height, width = size
    logits = logits.view(-1, height, width, 2, 2, 2, 2, weights.shape[1])
    return logits.permute(0, 7, 1, 3, 5, 2, 4, 6).reshape(len(logits), -1, 4 * height, 4 * width)


def _enlarged(convolution: Module, cells: Tensor) -> Tensor:
    """What a transposed convolution makes of cells [..., C], before it is put in its place.

    Returns:
        [..., 2, 2, C'].
    """
    weight: Tensor = convolution.weight  # [C, C', 2, 2]
    _, out, *size = weight.shape
    matrix = weight.permute(2, 3, 1, 0).flatten(0, 2)
    bias = convolution.bias.repeat(math.prod(size))
    enlarged: Tensor = F.linear(cells, matrix, bias).unflatten(-1, (*size, out))
    return enlarged
