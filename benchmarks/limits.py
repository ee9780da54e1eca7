"""The limits of a machine: float32 matrix products in GFLOP/s, reading memory in GB/s.

They are measured among the systems of every timed table, in the same rounds.
"""

from __future__ import annotations

from benchmarks.tables import Settings, System

UNIT = "GFLOP/s or GB/s"
CASES = ()
WIDTH = 2048
BYTES = 256 << 20  # more than the caches hold


def gemm(settings: Settings):
    """The product of two square matrices."""
    import numpy as np

    a, b = np.random.default_rng(0).standard_normal((2, WIDTH, WIDTH), "float32")
    product = np.empty_like(a)

    def step() -> float:
        np.matmul(a, b, out=product)
        return 2e-9 * WIDTH**3

    return step


def memory(settings: Settings):
    """The product of a matrix that no cache holds and a vector, which reads it once."""
    import numpy as np

    matrix = np.ones((BYTES // 4 // 8192, 8192), "float32")
    vector = np.ones(8192, "float32")

    def step() -> float:
        matrix.dot(vector)
        return 1e-9 * BYTES

    return step


SYSTEMS = (
    System("limit-gemm", "float32 matrix products", gemm, ["numpy"]),
    System("limit-memory", "reading memory", memory, ["numpy"]),
)
