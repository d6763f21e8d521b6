"""A small grey picture of an image, and its perceptual hash: the low frequencies, which a copy keeps.

n images · s SIDE · f FREQUENCIES · d LENGTH
"""

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image
from scipy.fft import dct

from vitrail.data.decode.image import Pixels

SIDE = 32  # pixels of the grey picture
FREQUENCIES = 8  # of the cosine transform that are kept, in each direction
LENGTH = FREQUENCIES**2 - 1  # without the constant, which is the brightness
EVEN = FREQUENCIES**2 // 2 - 1  # the first numbers of a hash stay, the others change their sign when it is mirrored
FLAT = 2.0  # standard deviation in grey levels below which there is nothing to compare


def thumbnail(pixels: Pixels) -> UInt8[np.ndarray, "32 32"]:
    """The luminance (ITU-R 601) of the whole image, squeezed to SIDE x SIDE whatever its shape."""
    grey = Image.fromarray(pixels).convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0))


def hashes(thumbnails: UInt8[np.ndarray, "n 32 32"]) -> Float32[np.ndarray, "n 63"]:
    """Perceptual hashes of length 1: two images are alike when the product of their hashes is near 1.

    The discrete cosine transform of the grey picture up to 7 half-waves a side. Natural images fall off as one over the
    frequency, so each is multiplied by its frequency; the root of each keeps one strong edge from deciding alone. The
    even horizontal frequencies come first: a mirror changes the sign of the others (`mirrored`).
    """
    made = np.empty((len(thumbnails), LENGTH), np.float32)
    for start in range(0, len(thumbnails), 4096):
        part_nss = thumbnails[start : start + 4096].astype(np.float32)
        waves_nff = _COSINES @ part_nss @ _COSINES.T * _WEIGHTS
        flat_nd = waves_nff.reshape(len(part_nss), -1)[:, _ORDER]
        rooted = np.sign(flat_nd) * np.sqrt(np.abs(flat_nd))
        norms = np.linalg.norm(rooted, axis=1, keepdims=True)
        made[start : start + 4096] = rooted / np.maximum(norms, 1e-6)
    return made


def mirrored(hashes: Float32[np.ndarray, "n 63"]) -> Float32[np.ndarray, "n 63"]:
    """The hashes of the mirrored images."""
    turned = hashes.copy()
    turned[:, EVEN:] *= -1
    return turned


def flat(thumbnails: UInt8[np.ndarray, "n 32 32"]) -> Bool[np.ndarray, " n"]:
    """True for images of almost one grey: their hash is noise."""
    found = np.empty(len(thumbnails), bool)
    for start in range(0, len(thumbnails), 4096):
        found[start : start + 4096] = thumbnails[start : start + 4096].std(axis=(1, 2)) < FLAT
    return found


# the first rows of the orthonormal DCT-II: a product with them is faster than a transform of all frequencies
_COSINES = dct(np.eye(SIDE), axis=0, norm="ortho")[:FREQUENCIES].astype(np.float32)
_WEIGHTS = np.hypot(*np.mgrid[:FREQUENCIES, :FREQUENCIES]).astype(np.float32)
_PLACES = np.arange(FREQUENCIES**2).reshape(FREQUENCIES, FREQUENCIES)
_ORDER = np.concatenate([_PLACES[:, 0::2].ravel()[1:], _PLACES[:, 1::2].ravel()])
