"""What stands beside an exported model, for whoever runs it without this project."""

from typing import Any

from trainables.data.pixels import PIXEL_MEAN, PIXEL_STD
from trainables.sam.export import interfaces
from trainables.sam.segment_anything_import import Sam

FORMAT = 1
PREPROCESSING = (
    "resize the RGB picture bilinearly (Pillow's BILINEAR) so that its longer side is image_size; "
    "the other is the product with the same scale, rounded: int(x + 0.5)",
    "subtract pixel_mean and divide by pixel_std, for values in 0 to 255",
    "pad with zeros, right and below, to image_size by image_size; order the axes as [channel, "
    "row, column], float32",
)
PROMPTS = (
    "point_coords are x, y in pixels of the resized picture, point_labels what each of them is: "
    "1 on the object, 0 beside it, 2 and 3 the upper left and lower right corner of a box, -1 "
    "nothing",
    "a prompt without a box ends with a point (0, 0) labelled -1",
    "mask_input are low_res_masks of an earlier answer; they count where has_mask_input is 1",
    "orig_im_size is the picture's own height and width",
)
ANSWERS = (
    "each prompt has four masks: a pixel is inside where masks is above mask_threshold",
    "the first of the four is meant for unambiguous prompts; else, as the study's mIoU has it, "
    "take of the other three the one of the highest iou_predictions",
)


def describe(sam: Sam, suffix: str) -> dict[str, Any]:
    """Which files there are, what they take and give, and how a picture becomes an input.

    Args:
        sam: the model that was exported.
        suffix: of the files, such as `onnx`.
    """
    image_size: int = sam.image_encoder.img_size
    parts = {
        part: {
            "file": f"{part}.{suffix}",
            "inputs": {name: list(shape) for name, shape in interface.inputs.items()},
            "outputs": {name: list(shape) for name, shape in interface.outputs.items()},
        }
        for part, interface in interfaces(image_size).items()
    }
    return {
        "format": FORMAT,
        "image_size": image_size,
        "pixel_mean": list(PIXEL_MEAN),
        "pixel_std": list(PIXEL_STD),
        "mask_threshold": sam.mask_threshold,
        **parts,
        "preprocessing": list(PREPROCESSING),
        "prompts": list(PROMPTS),
        "answers": list(ANSWERS),
    }
