import numpy as np

from primum.fit.alterations import altered_images
from primum.records.synthetic_cases import synthetic_images


def test_altered_copies_are_moved_and_mirrored_images() -> None:
    cases = synthetic_images(40, seed=0)
    rng = np.random.default_rng(0)
    images = np.asarray(cases.inputs)
    altered = altered_images(images, rng)
    inner = images[:, :, 4:-4, 4:-4]
    found = np.zeros(len(images), np.bool_)
    for one in (altered, altered[..., ::-1]):
        for down in range(2, 7):
            for right in range(2, 7):
                part = one[..., down : down + 20, right : right + 20]
                found |= (part == inner).all(axis=(1, 2, 3))
    assert found.all()
    assert (altered != images).any(axis=(1, 2, 3)).mean() > 0.9
