"""How images are prepared where a file does not say it, and the sentence that says what was assumed."""

from typing import Literal

from vitrail.data.transforms.pipeline import CentreCrop, Preprocess, SquareResize

Authors = Literal["google", "meta", "transformers"]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of the channels


def usual_preprocess(authors: Authors, resolution: tuple[int, int]) -> Preprocess:
    """What the authors of a kind of file do: Google's -1 to 1; Meta's by ImageNet's statistics, and bicubic."""
    match authors:
        case "google":
            return Preprocess(resolution)
        case "meta":
            return Preprocess(resolution, CentreCrop(), *IMAGENET, "bicubic")
        case "transformers":
            return Preprocess(resolution, SquareResize())


def as_sentence(preprocess: Preprocess) -> str:
    """For people: what was assumed of a file that is silent."""
    crop = preprocess.resize
    how = f"the middle {crop.share:.1%}" if isinstance(crop, CentreCrop) else "both sides resized"
    return (
        f"nothing says how its images were prepared; assumed are mean {preprocess.mean}, deviation {preprocess.std}, "
        f"{preprocess.interpolation}, {how}"
    )


def other_size(made: tuple[int, int], positions: tuple[int, int]) -> str:
    """For people: images are made of another size than the one that the positions were trained at."""
    sizes = [f"{h} x {w}" for h, w in (made, positions)]
    return f"its preprocessing makes images of {sizes[0]} pixels, its positions are of {sizes[1]}: they are resampled"
