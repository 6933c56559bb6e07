"""What a network costs: parameters, multiply-accumulates, size, latency, memory."""

from limbeck.profiling.cost import Profile, Sparsity, profile, size_mib, sparsity
from limbeck.profiling.measured import Latency, latencies, latency, peak_memory_mib

__all__ = [
    "Latency",
    "Profile",
    "Sparsity",
    "latencies",
    "latency",
    "peak_memory_mib",
    "profile",
    "size_mib",
    "sparsity",
]
