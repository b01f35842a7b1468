"""What a change of a state becomes at the end of the network, averaged over data: the Jacobian lens, for any model."""

from resdyn.transporting.compressed import CompressedTransport, compressed_transport
from resdyn.transporting.lens import Transport, load_transport
from resdyn.transporting.merge import merge_transports
from resdyn.transporting.run import transport

__all__ = [
    "CompressedTransport",
    "Transport",
    "compressed_transport",
    "load_transport",
    "merge_transports",
    "transport",
]
