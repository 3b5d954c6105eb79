"""What an evaluator saves over a search, and that it changes no result.

    python benchmarks/evaluations.py [--subnets 200] [--pictures 32] [--naive 20] [--no-check]

The searcher proposes subnets of `vit_t`, one after the other, on the packaged nuclei of val. One
`Evaluator` evaluates them, with tokens shared and hopeless evaluations ended early, and the
searcher is told their mIoU. Beside it, of a random sample (`--naive`; all, where it is as large):

- naively: each subnet extracted, written, read as a model of its own and evaluated whole with
  segment_anything's own decoder and enlargement of masks, as one does without this project;
- a copy: the same with this project's decoder, which an evaluator has as well.

They take turns; the searcher's own time is left out. It prints how many times faster the evaluator
is, what share of layers and pictures it saved, and how well each rung ranks subnets. All subnets
are also evaluated whole and alone on the supernet (`--no-check` leaves it out): all that the
evaluator evaluated whole, and with it the final front, must be equal to the bit. The exit status is
1 where it is not, or where the goal is not met.

`--steps` trains the supernet first, as the quick start does, which brings subnets closer together.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple, TypeVar

import torch

from automl.pareto import front_of, objectives
from automl.sam.config import PACKAGED_DATA, load_config
from automl.sam.proposals import SubnetProposals
from automl.sam.workspace import Workspace
from search_spaces import Subnet, SubnetSpace
from trainables.data.batches import training_batch
from trainables.data.pictures import Pictures
from trainables.early_stopping import STOPPING, Rival, expected_miou, rung_correlations
from trainables.sam.evaluation import EvaluationSet, Metrics
from trainables.sam.evaluator import Evaluation, Evaluator
from trainables.sam.layer_worth import layer_worth
from trainables.sam.object_results import in_batches, questions
from trainables.sam.sandwich import sandwich_step, sandwich_subnets
from trainables.sam.scores import SCORES, order_of
from trainables.sam.segment_anything_import import Sam
from trainables.sam.standalone import extract, load_subnet, save_subnet
from trainables.sam.supernet import Supernet
from trainables.sam.units import reorder
from trainables.supernet import make_optimiser

GOAL = 3.0
TOLERANCE = 1e-3
"""Of mIoU, between this project's decoder and segment_anything's: a pixel at the threshold."""
WAYS = {
    "naive": "naively, with segment_anything",
    "copy": "by a fresh copy",
    "alone": "whole and alone on the supernet",
}
CONFIG = load_config(Path(__file__).parent.parent / "configs" / "quickstart.yaml", [])
WORKSPACE = Workspace(CONFIG, Path.cwd())
T = TypeVar("T")


class Seconds(NamedTuple):
    """That passed, and that all threads computed; the latter tells more on a busy machine."""

    wall: float
    cpu: float


@dataclass(frozen=True, eq=False)
class Found:
    """A subnet, how it was evaluated, what that took; and evaluated whole and alone, if it was."""

    subnet: Subnet
    macs: int
    evaluation: Evaluation
    ours: Seconds
    naive: Seconds | None
    copy: Seconds | None
    plain: Metrics | None
    alone: Seconds | None

    @property
    def whole(self) -> Metrics | None:
        return self.evaluation.metrics if self.evaluation.whole else None


def main(options: argparse.Namespace) -> int:
    torch.set_num_threads(options.threads)
    load = os.getloadavg()[0]
    print(f"{options.threads} threads, torch {torch.__version__}, load {load:.1f} before")
    supernet, space = prepared(options.steps)
    evaluator = Evaluator(
        supernet, examples_of("val", options.pictures), cache_bytes=options.cache_mb << 20
    )
    found = searched(evaluator, space, options)
    ratio = tell(evaluator, found)
    same = not options.check or check(found)
    return 0 if same and ratio >= GOAL else 1


def examples_of(split: str, limit: int) -> EvaluationSet:
    return EvaluationSet(
        Pictures(PACKAGED_DATA["nuclei"] / f"{split}.parquet"),
        image_size=WORKSPACE.encoder.image_size,
        prompts=CONFIG.prompts,
        seed=CONFIG.seed,
        limit=limit,
        max_objects=CONFIG.evaluation.max_objects,
    )


def prepared(steps: int) -> tuple[Supernet, SubnetSpace]:
    """The parent, its neurons in order, trained if asked for; and its first design's space."""
    supernet, settings = WORKSPACE.parent(), CONFIG.training
    worth = layer_worth(supernet, examples_of("train", 8), "embedding")
    offered = CONFIG.designs.space
    design = offered.design(offered.first_points()[0])
    space = WORKSPACE.draw_up(design, [item.embedding_error for item in worth])
    neurons = supernet.encoder.neurons
    reorder(neurons, order_of(SCORES["magnitude"](supernet, [], 0, neurons)))
    pictures = Pictures(PACKAGED_DATA["nuclei"] / "train.parquet")
    optimiser = make_optimiser(supernet.train(), settings)
    for step in range(steps):
        batch = training_batch(
            pictures,
            step,
            seed=CONFIG.seed,
            batch_size=settings.batch_size,
            image_size=WORKSPACE.encoder.image_size,
            max_objects=settings.max_objects,
            prompts=CONFIG.prompts,
            augment=settings.augment,
        )
        subnets = sandwich_subnets(space, step, seed=CONFIG.seed, n_random=settings.n_random)
        sandwich_step(supernet, [batch], subnets, optimiser, settings)
    return supernet.eval(), space


def searched(evaluator: Evaluator, space: SubnetSpace, options: argparse.Namespace) -> list[Found]:
    """Subnets in the order in which the searcher proposes them."""
    found: list[Found] = []
    parent = WORKSPACE.parent_costs["encoder_macs"]
    known: dict[Subnet, float] = {}
    proposals = SubnetProposals(space, WORKSPACE.costs, parent, [], known.get, CONFIG.seed)
    timed = set(
        random.Random(0).sample(range(options.subnets), min(options.naive, options.subnets))
    )
    for number in range(options.subnets):
        proposed = proposals.suggest(str(number))
        if not isinstance(proposed, dict):
            break
        subnet = Subnet.from_dict(proposed)
        macs = WORKSPACE.costs(subnet)["encoder_macs"]
        rivals = [Rival(f.macs, f.evaluation.ious.ious) for f in found if f.whole]
        (evaluation, told), ours = seconds(partial(evaluated, evaluator, subnet, macs, rivals))
        naive = copy = None
        if number in timed:
            by_sam, naive = seconds(partial(naively, evaluator, subnet))
            by_copy, copy = seconds(partial(by_a_copy, evaluator, subnet))
            assert abs(by_sam - by_copy.miou) < TOLERANCE, (by_sam, by_copy)
        plainly = partial(evaluator.examples.evaluate, evaluator.supernet, subnet)
        plain, alone = seconds(plainly) if options.check else (None, None)
        found.append(Found(subnet, macs, evaluation, ours, naive, copy, plain, alone))
        known[subnet] = told
        proposals.on_trial_complete(str(number), {"quality": told})
        if len(found) % 20 == 0:
            print(f"{len(found)} subnets, {sum(f.ours.wall for f in found):.0f} s", flush=True)
    return found


def seconds(work: Callable[[], T]) -> tuple[T, Seconds]:
    wall, cpu = time.perf_counter(), time.process_time()
    return work(), Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def evaluated(
    evaluator: Evaluator, subnet: Subnet, macs: int, rivals: Sequence[Rival]
) -> tuple[Evaluation, float]:
    """A subnet as far as it has a chance, and its mIoU, the expected one if it has none."""
    found = evaluator.evaluate(
        subnet, lambda so_far: STOPPING.beaten_by(macs, so_far, rivals) is None
    )
    winner = None if found.whole else STOPPING.beaten_by(macs, found.ious, rivals)
    return found, expected_miou(winner, found.ious) if winner else found.metrics.miou


def extracted(evaluator: Evaluator, subnet: Subnet) -> Sam:
    """Written to disk and read as a model of its own."""
    with tempfile.TemporaryDirectory() as folder:
        alone = extract(evaluator.supernet.sam, WORKSPACE.encoder, subnet)
        save_subnet(alone, WORKSPACE.encoder, subnet, Path(folder))
        return load_subnet(folder).eval()


def by_a_copy(evaluator: Evaluator, subnet: Subnet) -> Metrics:
    standalone = Supernet(extracted(evaluator, subnet))
    return evaluator.examples.evaluate(standalone, standalone.largest)


@torch.no_grad()
def naively(evaluator: Evaluator, subnet: Subnet) -> float:
    """The mIoU, worked out with what segment_anything offers."""
    sam = extracted(evaluator, subnet)
    ious: list[float] = []
    examples = evaluator.examples
    for batch in in_batches(examples.examples, examples.batch_size):
        embeddings = sam.image_encoder(torch.stack([sam.preprocess(e.pixels) for e in batch]))
        for embedding, example in zip(embeddings, batch, strict=True):
            for asked in questions(sam, example, examples.prompts):
                logits, predicted = sam.mask_decoder(
                    image_embeddings=embedding[None],
                    image_pe=sam.prompt_encoder.get_dense_pe(),
                    sparse_prompt_embeddings=asked.encoded[0],
                    dense_prompt_embeddings=asked.encoded[1],
                    multimask_output=True,
                )
                side = example.pixels.shape[1:]
                masks = sam.postprocess_masks(logits, side, example.size) > sam.mask_threshold
                chosen = masks[torch.arange(len(masks)), predicted.argmax(1)]
                truth = torch.from_numpy(asked.true_masks())
                shared = (chosen & truth).sum((1, 2))
                ious += (shared / (chosen | truth).sum((1, 2)).clamp(min=1)).tolist()
    return fmean(ious)


def front(found: Sequence[Found], plain: bool = False) -> list[Found]:
    """Of what the evaluator evaluated whole, or of what was evaluated the plain way."""
    measured = {f: f.plain if plain else f.whole for f in found}
    there = {f: metrics for f, metrics in measured.items() if metrics}
    parent = WORKSPACE.parent_costs["encoder_macs"]
    return front_of([*there], [objectives(f.macs, m.miou, parent) for f, m in there.items()])


def tell(evaluator: Evaluator, found: Sequence[Found]) -> float:
    """Print what was saved; returns how many times faster the evaluator was."""
    cache, pictures = evaluator.cache, len(evaluator.examples.examples)
    print(f"{len(found)} subnets on {pictures} pictures")
    ratios = {}
    for kind in Seconds._fields:
        ours = fmean(getattr(f.ours, kind) for f in found)
        print(f"{kind:4} {ours:.2f} s a subnet")
        for way in ("naive", "copy", "alone"):
            taken = [getattr(s, kind) for f in found if (s := getattr(f, way)) is not None]
            if taken:
                ratios[way, kind] = fmean(taken) / ours
                print(
                    f"     {fmean(taken):.2f} s {WAYS[way]}, by {len(taken)}: "
                    f"{ratios[way, kind]:.2f} times"
                )
    print(f"goal ≥ {GOAL:.0f} times, naively")
    layers = cache.layers_saved / (cache.layers_saved + cache.layers_run)
    ends = Counter(f.evaluation.ious.pictures for f in found if not f.whole)
    seen = sum(f.evaluation.ious.pictures for f in found) / (pictures * len(found))
    print(f"layers saved: {layers:.1%}, with {cache.bytes / 2**20:.0f} MiB of tokens at the end")
    after = ", ".join(f"{count} after {end} pictures" for end, count in sorted(ends.items()))
    print(
        f"stopped: {ends.total() / len(found):.1%} ({after or 'none'}); pictures seen: {seen:.1%}"
    )
    ranks = rung_correlations([f.evaluation.rung_mious for f in found if f.whole])
    print(f"rungs rank as the whole does: {', '.join(f'{rank:.3f}' for rank in ranks)}")
    return ratios["naive", "wall"]


def check(found: Sequence[Found]) -> bool:
    """Whether all is as if each subnet had been evaluated whole and alone."""
    differ = sum(f.whole != f.plain for f in found if f.whole)
    ours, theirs = front(found), front(found, plain=True)
    same = ours == theirs and not differ
    print(f"{differ} results differ from those of whole evaluations; their front has {len(theirs)}")
    print(
        f"subnets, of which the evaluator has {len(set(ours) & set(theirs))} and {len(ours)} in all"
    )
    return same


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--subnets", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--naive", type=int, default=20)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--cache-mb", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--check", action=argparse.BooleanOptionalAction, default=True)
    sys.exit(main(parser.parse_args()))
