"""One ``.npz`` file of images with their labels, split already, as MedMNIST is kept.

The form: Yang et al. 2023, "MedMNIST v2", Scientific Data 10:41; it tells no patients.
"""

from pathlib import Path

import numpy as np

from primum.errors import RecordsError
from primum.records.case_files.arrays import Array, ArraySource, names_in, whole, whole_array
from primum.records.case_files.index import SPLITS, Index

_PREFIXES = dict(zip(SPLITS, ("train", "val", "test"), strict=True))


def open_medmnist(file: Path) -> tuple[Index, ArraySource]:
    """Open ``train_images``, ``train_labels``, ``val_...`` (tuning) and ``test_...`` (held out).

    Images are (n, height, width), (n, height, width, 3) or volumes (n, depth, height, width).

    Raises
    ------
    RecordsError
        Arrays missing, or of other shapes; more than one label a case; labels that are no whole numbers.
    """
    with whole(file, "train_images"):
        names = names_in(file)
    splits = [split for split in SPLITS if f"{_PREFIXES[split]}_images" in names]
    if not splits:
        raise RecordsError(
            "{input} has no arrays train_images, val_images or test_images: give a folder with cases.csv "
            "instead.",
            input=file.name,
        )
    images = [_images(file, f"{_PREFIXES[split]}_images") for split in splits]
    labels = [np.asarray(whole_array(file, f"{_PREFIXES[split]}_labels")) for split in splits]
    for split, pixels, given in zip(splits, images, labels, strict=True):
        alone = given.ndim == 1 or given.shape[1:] == (1,)
        if not alone or given.dtype.kind not in "iu" or len(given) != len(pixels):
            raise RecordsError(
                "{input}: {key} must hold one whole number for each image: more labels a case are not read.",
                input=file.name,
                key=f"{_PREFIXES[split]}_labels",
            )
        if (pixels.shape[1:], pixels.dtype) != (images[0].shape[1:], images[0].dtype):
            raise RecordsError(
                "{input}: {key} holds images of another size or type than the first split: bring all to one.",
                input=file.name,
                key=f"{_PREFIXES[split]}_images",
            )
    values, places = np.unique(np.concatenate([one.ravel() for one in labels]), return_inverse=True)
    if len(values) < 2:
        raise RecordsError("{input} has one class only: give cases of two classes or more.", input=file.name)
    number = np.arange(len(places), dtype=np.int64)
    index = Index(
        file.name,
        False,
        number,
        np.repeat([SPLITS.index(one) for one in splits], [len(one) for one in images]).astype(np.int8),
        places.astype(np.int64),
        tuple(str(one) for one in values),
        {},
    )
    kind = "image" if images[0].ndim == 3 or images[0].shape[1] == 3 else "volume"
    return index, ArraySource(kind, (file,), tuple(images), number)


def _images(file: Path, key: str) -> Array:
    """Colour is stored last, and cases want it first."""
    array = whole_array(file, key)
    if array.ndim not in (3, 4):
        raise RecordsError(
            "{input} has {count} dimensions, the cases among them: give it 2 to 5.",
            input=file.name,
            count=array.ndim,
        )
    return np.moveaxis(array, -1, 1) if array.ndim == 4 and array.shape[-1] == 3 else array
