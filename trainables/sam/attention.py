"""SAM's attention without a table of all pairs of tokens.

Between a query at row h, column w of the grid and a key at row i, column j, SAM adds to the logit
q·k/√d what its position tables say, q·R_h[h − i] + q·R_w[w − j] (arXiv 2112.01526, section 4.1).
segment_anything writes this bias, the logits and their softmax down for all pairs. Fused attention
does not, and here it is given the bias in one of two ways
(docs/decisions/0005-folded-relative-position.md):

- *in parts*, the bias of so many queries at a time: the quickest on a CPU without gradients;
- *folded* into longer queries and keys, whose product it is: nothing is written down for pairs,
  forward or backward.

    q' = [q/√d,  q·R_h[h − 0], q·R_h[h − 1], …,  q·R_w[w − 0], …]     d + H + W long
    k' = [k,     one-hot of i,                   one-hot of j]
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.sam.segment_anything_import import Attention, get_rel_pos
from trainables.sam.units import Units

IN_PARTS_FROM = 256
"""Tokens that attend to each other from which it wins in parts (`benchmarks/attention.py`)."""
FOLDED_FROM = 1024
"""Those from which it wins folded."""

PART = 2**21
"""Logits of which the bias is made at a time, 8 MiB in fp32: such parts stay in the cache."""


def heads_of(attention: Attention) -> Units:
    """The heads of an attention: rows of `qkv` lie as [3, heads, d]."""
    return Units(attention.qkv, attention.proj, attention.num_heads, groups=3)


class FirstHeads:
    """An `Attention` with fewer heads, on views of the whole one's weights.

    It has what an `Attention` has, so all that runs one runs it.

    Args:
        attention: the whole.
        count: its first heads that are there.
    """

    def __init__(self, attention: Attention, count: int) -> None:
        self._heads = heads_of(attention)
        self.num_heads = count
        self.scale = attention.scale
        self.use_rel_pos = attention.use_rel_pos
        if self.use_rel_pos:
            self.rel_pos_h, self.rel_pos_w = attention.rel_pos_h, attention.rel_pos_w

    def qkv(self, tokens: Tensor) -> Tensor:
        """Queries, keys and values of its heads: [..., C] to [..., 3·heads·d]."""
        return self._heads.into(tokens, self.num_heads)

    def proj(self, attended: Tensor) -> Tensor:
        """Out of its heads: [..., heads·d] to [..., C]."""
        return self._heads.out_of(attended, self.num_heads)

    __call__ = Attention.forward


class _Projected(NamedTuple):
    """Queries, keys, values [B, heads, H·W, d], and the bias by key's row and by key's column."""

    q: Tensor
    k: Tensor
    v: Tensor
    row_bias: Tensor  # [B, heads, H·W, H]
    column_bias: Tensor  # [B, heads, H·W, W]


def run_attention(attention: Attention | FirstHeads, tokens: Tensor) -> Tensor:
    """What `attention(tokens)` gives, the cheaper way: [B, H, W, C] to the same.

    Where few tokens attend to each other it is segment_anything's own to the bit, else within 1e-5
    of it.
    """
    in_parts = tokens.device.type == "cpu" and not torch.is_grad_enabled()
    few = tokens.shape[1] * tokens.shape[2] < (IN_PARTS_FROM if in_parts else FOLDED_FROM)
    # On tensors without memory costs are counted: those of the form that was published.
    if few or tokens.is_meta or not attention.use_rel_pos:
        attended: Tensor = attention(tokens)
        return attended
    return (
        attention_in_parts(attention, tokens) if in_parts else folded_attention(attention, tokens)
    )


def attention_in_parts(attention: Attention | FirstHeads, tokens: Tensor) -> Tensor:
    """`attention(tokens)`, the bias made for some queries at a time: [B, H, W, C] to the same."""
    q, k, v, row_bias, column_bias = _project(attention, tokens)
    batch, heads, count, _ = q.shape
    part = max(64, PART // (batch * heads * count))
    attended = []
    for start in range(0, count, part):
        some = slice(start, start + part)
        bias = row_bias[:, :, some, :, None] + column_bias[:, :, some, None, :]
        attended.append(
            F.scaled_dot_product_attention(
                q[:, :, some], k, v, attn_mask=bias.flatten(3), scale=attention.scale
            )
        )
    return _join_heads(attention, torch.cat(attended, dim=2), tokens)


def folded_attention(attention: Attention | FirstHeads, tokens: Tensor) -> Tensor:
    """`attention(tokens)`, the bias folded into queries and keys: [B, H, W, C] to the same.

    Under autocast to bf16 it is nearer to the fp32 result than segment_anything's own: both round
    queries, keys and the positions' parts of a logit, but here the logit itself stays fp32.
    """
    q, k, v, row_bias, column_bias = _project(attention, tokens)
    batch, height, width, _ = tokens.shape
    places = _one_hot_places(height, width, q).expand(batch, attention.num_heads, -1, -1)
    attended = F.scaled_dot_product_attention(
        torch.cat((q * attention.scale, row_bias, column_bias), dim=-1),
        torch.cat((k, places), dim=-1),
        # Zeros: kernels that keep no table exist only for values as long as the keys.
        F.pad(v, (0, height + width)),
        scale=1.0,
    )
    return _join_heads(attention, attended[..., : v.shape[-1]], tokens)


def _project(attention: Attention | FirstHeads, tokens: Tensor) -> _Projected:
    batch, height, width, _ = tokens.shape
    qkv = attention.qkv(tokens).view(batch, height * width, 3, attention.num_heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    rows = get_rel_pos(height, height, attention.rel_pos_h)  # [H, H, d], by query and key
    columns = get_rel_pos(width, width, attention.rel_pos_w)
    grid = q.unflatten(2, (height, width))
    row_bias = torch.einsum("bnhwd,hid->bnhwi", grid, rows).flatten(2, 3)
    column_bias = torch.einsum("bnhwd,wjd->bnhwj", grid, columns).flatten(2, 3)
    return _Projected(q, k, v, row_bias, column_bias)


def _join_heads(attention: Attention | FirstHeads, attended: Tensor, tokens: Tensor) -> Tensor:
    joined = attended.transpose(1, 2).flatten(2).unflatten(1, tokens.shape[1:3])
    projected: Tensor = attention.proj(joined)
    return projected


def _one_hot_places(height: int, width: int, like: Tensor) -> Tensor:
    """Row and column of each token of a grid: [H·W, H + W], a one in each part."""
    rows = torch.eye(height, dtype=like.dtype, device=like.device).repeat_interleave(width, dim=0)
    columns = torch.eye(width, dtype=like.dtype, device=like.device).repeat(height, 1)
    return torch.cat((rows, columns), dim=1)
