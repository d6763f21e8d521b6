"""Accelerators and what joins them, by their makers' data sheets, and which part of these figures a training reaches.

What is reached is assumed: nothing here was measured on such hardware.
"""

from dataclasses import dataclass

GIB = float(2**30)


@dataclass(frozen=True)
class Hardware:
    """A kind of accelerator, and the machines that hold it. Rates are a second, links each way."""

    name: str
    peak: float  # FLOP/s of dense products in bfloat16 that add in float32, without sparsity
    peak32: float  # of products in float32, without TF32
    memory: float  # bytes, as the driver shows them
    bandwidth: float  # bytes of its memory
    link: float  # bytes between two of one machine, of each
    network: float  # bytes between machines, of each accelerator
    node: int = 8  # accelerators of a machine
    # What is reached of these, by assumption. Products of matrices of width D reach `products`·D / (D + `half`).
    products: float = 0.8
    half: float = 246.0
    rows: float = 500.0  # and with N rows N / (N + `rows`) of that: small passes leave much of the accelerator idle
    attention: float = 0.2  # of the peak, in the fused kernels
    streamed: float = 0.75  # of the memory's bandwidth, by what lies between products
    updated: float = 0.75  # and by the update of the weights
    joined: float = 0.8  # of link and network
    overlap: float = 1.0  # part of communication that can run beside the backward pass
    link_latency: float = 3e-6  # seconds, each way, within a machine
    network_latency: float = 15e-6  # and between two
    host_step: float = 4e-3  # seconds in which the host queues a step without its layers
    host_layer: float = 0.8e-3  # and a layer, forward and backward
    reserved: float = 2 * GIB  # bytes: context, libraries, buffers of communication

    def width_share(self, width: int, rows: int) -> float:
        """Which part of the peak a product reaches."""
        return self.products * width / (width + self.half) * rows / (rows + self.rows)


# "NVIDIA H100 Tensor Core GPU", "NVIDIA H200 Tensor Core GPU", "NVIDIA A100 Tensor Core GPU", "NVIDIA HGX B200" (1 kW),
# "NVIDIA L40S", "NVIDIA Ada GPU architecture" (the 4090); cloud.google.com/tpu/docs/v3, half a chip. Networks: of the
# makers' own machines 400 Gbit/s an H100, H200 or B200 and 200 an A100; the others as they are often sold.
HARDWARE = {
    #                                  name            peak      peak32   memory       bandwidth link    network
    "h100": Hardware("H100 SXM", 989.4e12, 67e12, 79.6 * GIB, 3.35e12, 450e9, 50e9),
    "h200": Hardware("H200 SXM", 989.4e12, 67e12, 140.4 * GIB, 4.8e12, 450e9, 50e9),
    "b200": Hardware("B200 HGX", 2250e12, 80e12, 179.0 * GIB, 8.0e12, 900e9, 50e9),
    "a100": Hardware("A100 SXM 80 GB", 312e12, 19.5e12, 80.0 * GIB, 2.04e12, 300e9, 25e9),
    "a100-40": Hardware("A100 SXM 40 GB", 312e12, 19.5e12, 39.6 * GIB, 1.555e12, 300e9, 25e9),
    "l40s": Hardware("L40S", 362e12, 91.6e12, 45.0 * GIB, 0.864e12, 32e9, 12.5e9),
    "rtx-4090": Hardware("RTX 4090", 165.2e12, 82.6e12, 24.0 * GIB, 1.008e12, 16e9, 1.25e9),
    "tpuv3": Hardware("TPUv3 core", 61.5e12, 61.5e12 / 6, 16.0 * GIB, 0.45e12, 70e9, 70e9),
}
