"""Pictures that have what photographs have, for the tests of copies."""

import numpy as np


def scene(seed: int, side: int = 64) -> np.ndarray:
    """Something like a photograph: its amplitudes fall as one over the frequency, and it has an object with an edge."""
    rng = np.random.default_rng(seed)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
    waves = rng.normal(size=(3, *f.shape)) + 1j * rng.normal(size=(3, *f.shape))
    pixels = np.fft.irfft2((waves + 2 * waves[:1]) / np.maximum(f, 1 / side), s=(side, side)).transpose(1, 2, 0)
    pixels = 128 + 40 * pixels / pixels.std()
    y, x = np.mgrid[:side, :side] / side
    inside = np.hypot(y - rng.uniform(0.2, 0.8), x - rng.uniform(0.2, 0.8)) < rng.uniform(0.1, 0.3)
    pixels[inside] += rng.uniform(-80, 80, 3)
    return pixels.clip(0, 255).astype(np.uint8)
