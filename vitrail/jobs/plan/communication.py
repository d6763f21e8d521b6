"""Seconds that processes need to add up or hand round their tensors, by rings over links and networks."""

from math import ceil, log2

from vitrail.jobs.plan.hardware import Hardware

BUCKET = 25 * 2**20  # bytes that DDP sums at once


def bus(hardware: Hardware, devices: int) -> float:
    """Bytes a second that each of so many devices passes on: of the slowest part of the ring."""
    slowest = hardware.link if devices <= hardware.node else min(hardware.link, hardware.network)
    return hardware.joined * slowest


def latency(hardware: Hardware, devices: int) -> float:
    """Seconds until the first byte has been everywhere: a tree within machines, and one between them."""
    if devices == 1:
        return 0.0
    nodes = ceil(devices / hardware.node)
    within = log2(min(devices, hardware.node)) * hardware.link_latency
    return within + log2(nodes) * hardware.network_latency


def all_gather(size: float, devices: int, hardware: Hardware) -> float:
    """Seconds to hand round `size` bytes, of which each device has its part; as long as to sum and scatter them."""
    return (devices - 1) / devices * size / bus(hardware, devices) + latency(hardware, devices)


def all_reduce(size: float, devices: int, hardware: Hardware) -> float:
    """Seconds to sum `size` bytes over so many devices: scattered, then gathered."""
    return 2 * all_gather(size, devices, hardware)


def across(size: float, nodes: int, hardware: Hardware) -> float:
    """Seconds to sum `size` bytes of each device with its likes on the other machines, all devices at once."""
    if nodes == 1:
        return 0.0
    rate = hardware.joined * hardware.network
    return 2 * ((nodes - 1) / nodes * size / rate + log2(nodes) * hardware.network_latency)
