"""Random numbers that are a pure function of where they are used: no state to save, the same for all worker counts."""

import numpy as np

# What numbers are drawn for: each purpose has its own streams, so that no two uses ever share a number.
PAIRS, EPISODES, DISTORTIONS, SEARCH, BENDS, DECAYS = range(6)


def words(purpose: int, *, seed: int, epoch: int, start: int, count: int, width: int) -> np.ndarray:
    """64-bit random words, shape (count, width): row j is a pure function of (purpose, seed, epoch, start + j).

    The counter-based generator Philox4x64 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
    """
    blocks = -(-width // 4)  # a step of the counter yields four words
    generator = np.random.Philox(key=[seed, (purpose << 32) | epoch], counter=[start * blocks, 0, 0, 0])
    return generator.random_raw(count * blocks * 4).reshape(count, blocks * 4)[:, :width]


def uniforms(purpose: int, *, seed: int, epoch: int, start: int, count: int, width: int) -> np.ndarray:
    """Uniform float64 in [0, 1), shape (count, width), made of `words`."""
    return (words(purpose, seed=seed, epoch=epoch, start=start, count=count, width=width) >> np.uint64(11)) * 2.0**-53
