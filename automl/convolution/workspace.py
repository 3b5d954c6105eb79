"""What any process needs to work on a search over plans: the configuration and the folder."""

from dataclasses import dataclass, replace

import torch

from automl.base_workspace import BaseWorkspace
from automl.convolution.config import ConvolutionConfig
from automl.convolution.site import Site
from search_spaces.conv_plan import PYTORCH, ConvPlan, default_plan
from search_spaces.conv_tiles import PlanSpace


@dataclass(frozen=True)
class ConvolutionWorkspace(BaseWorkspace):
    """The output directory of a search over plans; args as of any."""

    config: ConvolutionConfig

    @property
    def dtype(self) -> torch.dtype:
        """Of the tensors."""
        dtype: torch.dtype = getattr(torch, self.config.dtype)
        return dtype

    def space(self, layer: str, site: Site) -> PlanSpace:
        """The plans of a convolution that are on offer where they are measured.

        Raises:
            InputError: none suits it.
        """
        return self.config.space(self.config.shape(layer), site.method, site.shared_memory)

    def baselines(self, layer: str, site: Site) -> tuple[ConvPlan, ...]:
        """What each plan is compared with: PyTorch's own, and that of a shape nobody has tuned."""
        if site.method == "triton":
            default = self.space(layer, site).plans[0]
        else:
            default = default_plan(self.config.shape(layer))
        if default == PYTORCH:
            return (PYTORCH,)
        if default.method == "slices":
            default = replace(default, threads=self.config.most_threads)
        return PYTORCH, default
