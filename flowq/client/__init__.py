"""What producers use: submit, handles, and the read model of runs."""

from flowq.client.client import Client
from flowq.client.gathering import results_of
from flowq.client.handle import FlowHandle, NodeChange
from flowq.client.letters import DeadLetter
from flowq.client.reading import Progress

__all__ = ["Client", "DeadLetter", "FlowHandle", "NodeChange", "Progress", "results_of"]
