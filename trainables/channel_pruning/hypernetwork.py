"""The recurrent hypernetwork: a step a group, from its weights and the last mask to its scores."""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from search_spaces.errors import InputError
from trainables.channel_pruning.groups import ChannelGroup
from trainables.channel_pruning.masked import straight_through
from trainables.channel_pruning.prompt import PromptEncoder, PromptSettings, VisualPrompt
from trainables.channel_pruning.weight_statistics import Statistic


class HyperSettings(BaseModel):
    """The hypernetwork's shape.

    Args:
        prompt: the visual prompt.
        recurrence: `lstm`, or `none`: each group's scores come from its own weights and the
            prompt alone.
        hidden: width of the LSTM.
        embedding: width to which statistics, and the last mask, are mapped.
        statistics: of the weights; none: the hypernetwork knows a layer by its place alone, and
            starts from no prior.
        prior: how much each channel's relative L1 norm, minus 1, adds to its score: training
            starts near pruning by magnitude.
        temperature: of the straight-through gradient; see `straight_through`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: PromptSettings = PromptSettings()
    recurrence: Literal["lstm", "none"] = "lstm"
    hidden: int = Field(128, ge=1)
    embedding: int = Field(64, ge=1)
    statistics: tuple[Statistic, ...] = ("l2", "mean_abs", "std")
    prior: float = Field(1.0, ge=0)
    temperature: float = Field(0.3, ge=0)


class HyperNetwork(nn.Module):
    """Scores of all channels, from the visual prompt and the network's weights (arXiv 2407.17412).

    x_i = [A_i statistics_i ; B M(i−1)],  (h_i, c_i) = LSTM(x_i, (h_{i−1}, c_{i−1})),  (h_0, c_0)
    = g_ω(V),  s_i = D_i h_i + prior_i. Without the LSTM h_i = ReLU(E_i [A_i statistics_i ; h_0]).
    That each group has its own A and D is our choice: where groups of equal width share them, the
    same channels of all of them go together at first. B is shared by groups of equal width.

    Args:
        settings: its shape.
        groups: of the network that it is made for.
        image_size: side of the pictures, pixels.
        seed: all random weights follow from it.
    """

    def __init__(
        self,
        settings: HyperSettings,
        groups: Sequence[ChannelGroup],
        image_size: int,
        *,
        seed: int,
    ) -> None:
        super().__init__()
        self.settings = settings
        self._kinds = [_kind(group) for group in groups]
        widths = [group.channels for group in groups]
        size, hidden, columns = settings.embedding, settings.hidden, len(settings.statistics)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.prompt = VisualPrompt(settings.prompt, image_size)
            self.encoder = PromptEncoder(hidden) if settings.prompt.form != "none" else None
            if columns:
                self.from_statistics = _linear((columns * width, size) for width in widths)
            if settings.recurrence == "lstm":
                self.cell = nn.LSTMCell(2 * size, hidden)
                # By width; no step hears of the last group's mask.
                self.from_mask = nn.ModuleDict(
                    {str(width): nn.Linear(width, size) for width in sorted(set(widths[:-1]))}
                )
            else:
                self.before_heads = _linear((size + hidden, hidden) for _ in widths)
            self.heads = _linear((hidden, width) for width in widths)
        with torch.no_grad():  # training starts near the prior
            for p in self.heads.parameters():
                p.mul_(0.1)

    def places(self, groups: Sequence[ChannelGroup]) -> list[int]:
        """Whose linear maps score each group of a network, its own or a similar one.

        Of another depth, say: a group takes those of the group with as many channels, a residual
        stream too or not, that stands at the nearest place among such groups.

        Raises:
            InputError: it was made for no such group.
        """
        kinds, found = [_kind(group) for group in groups], []
        for i, kind in enumerate(kinds):
            own = [place for place, other in enumerate(self._kinds) if other == kind]
            if not own:
                raise InputError(
                    f"hypernetwork: it was not made for the {groups[i].channels} channels of "
                    f"{groups[i].name}; reuse it on networks of the same widths"
                )
            number, count = kinds[:i].count(kind), kinds.count(kind)
            found.append(own[round(number * (len(own) - 1) / max(1, count - 1))])
        return found

    def forward(
        self,
        statistics: Sequence[Tensor],
        prior: Sequence[Tensor],
        thresholds: Sequence[float],
        places: Sequence[int],
    ) -> list[Tensor]:
        """Scores of each group's channels: [C].

        The mask that a step sees is the last group's, cut at the threshold of the training step
        before: this step's threshold needs all scores. The first step sees none.

        Args:
            statistics: `weight_statistics`, each [C, S].
            prior: the channels' relative L1 norms, each [C].
            thresholds: of each group.
            places: see `places`.
        """
        state = self._start()
        last = state[0].new_zeros(1, self.settings.embedding)
        scores: list[Tensor] = []
        for i, place in enumerate(places):
            seen = torch.zeros_like(last)
            if self.settings.statistics:
                seen = self.from_statistics[place](statistics[i].flatten()[None])
            if self.settings.recurrence == "lstm":
                state = self.cell(torch.cat([seen, last], 1), state)
                found = self.heads[place](state[0])[0]
            else:
                hidden = self.before_heads[place](torch.cat([seen, state[0]], 1)).relu()
                found = self.heads[place](hidden)[0]
            if self.settings.statistics:
                found = found + self.settings.prior * (prior[i] - 1)
            if self.settings.recurrence == "lstm" and i + 1 < len(places):
                last = self._seen_mask(found, thresholds[i])
            scores.append(found)
        return scores

    def _seen_mask(self, scores: Tensor, threshold: float) -> Tensor:
        """What the next step sees of a group's mask: [1, embedding]."""
        width = str(len(scores))
        if width not in self.from_mask:
            return scores.new_zeros(1, self.settings.embedding)
        mask = (scores.detach() > threshold).float()
        mask = straight_through(scores, mask, threshold, self.settings.temperature)
        embedded: Tensor = self.from_mask[width](mask[None])
        return embedded

    def _start(self) -> tuple[Tensor, Tensor]:
        """h_0 and c_0, each [1, hidden]."""
        if self.encoder is None:
            zeros = self.prompt.pattern.new_zeros(1, self.settings.hidden)
            return zeros, zeros
        hidden, cell = self.encoder(self.prompt.picture)
        return hidden, cell


def _kind(group: ChannelGroup) -> tuple[int, bool]:
    return group.channels, group.is_stream


def _linear(sizes: Iterable[tuple[int, int]]) -> nn.ModuleList:
    """A linear layer for each pair of inputs and outputs."""
    return nn.ModuleList(nn.Linear(into, out) for into, out in sizes)
