"""A standalone subnet as an MLflow model: pictures and prompts in, masks and scores out.

MLflow runs this file where the model is served, with `trainables` and `search_spaces` beside it; it
imports nothing else of the project.
"""

from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext
from pycocotools import mask as coco_mask

from trainables.data.opening import open_bytes
from trainables.sam.segment_anything_import import SamPredictor
from trainables.sam.standalone import load_subnet

WANTED = "a row needs a box [x0, y0, x1, y1] or a point [x, y]"


class SubnetModel(PythonModel):
    """One row a prompt.

    Input columns: `image` (an encoded picture), and `box` ([x0, y0, x1, y1]) or `point` ([x, y]) in
    its pixels. Output columns: `mask` (COCO's compressed RLE counts), `height` and `width`, and
    `score`, the IoU that the model predicts.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the subnet."""
        self._predictor = SamPredictor(load_subnet(context.artifacts["subnet"]))

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Segment what each row prompts; of three masks the one that is ranked first.

        Raises:
            ValueError: a row has neither a box nor a point, or one of another length.
        """
        records = model_input.to_dict("records")
        prompts = [_prompt(record.get("box"), record.get("point")) for record in records]
        rows, last = [], None
        for record, prompt in zip(records, prompts, strict=True):
            if record["image"] != last:
                last = record["image"]
                self._predictor.set_image(np.array(open_bytes(last).convert("RGB")))
            rows.append(self._segment(prompt))
        return pd.DataFrame(rows)

    def _segment(self, prompt: dict[str, Any]) -> dict[str, Any]:
        masks, scores, _ = self._predictor.predict(**prompt, multimask_output=True)
        best = int(scores.argmax())
        rle = coco_mask.encode(np.asfortranarray(masks[best].astype(np.uint8)))
        return {
            "mask": rle["counts"].decode("ascii"),
            "height": masks.shape[1],
            "width": masks.shape[2],
            "score": float(scores[best]),
        }


def _prompt(box: Any, point: Any) -> dict[str, Any]:
    """What `SamPredictor.predict` takes. A row without a box has None or NaN there."""
    if _is_given(box):
        return {"box": _numbers(box, 4)}
    if _is_given(point):
        return {"point_coords": _numbers(point, 2)[None], "point_labels": np.ones(1, np.int64)}
    raise ValueError(WANTED)


def _is_given(prompt: Any) -> bool:
    missing = prompt is None or (isinstance(prompt, float) and np.isnan(prompt))
    return not missing and np.size(prompt) > 0


def _numbers(prompt: Any, count: int) -> np.ndarray[Any, Any]:
    try:
        numbers = np.asarray(prompt, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{WANTED}, not {prompt!r}") from error
    if numbers.shape != (count,):
        raise ValueError(f"{WANTED}, not {prompt!r}")
    return numbers


mlflow.models.set_model(SubnetModel())
