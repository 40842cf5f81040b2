"""What the fleet tells, as messages to the loop."""

from __future__ import annotations

from models.control.messages import Lost, Message, NodeGone
from models.fleet.protocol import FleetEvent, NodeLost, ReplicaLost


def message_of(event: FleetEvent) -> Message:
    match event:
        case ReplicaLost(replica_id=replica, reason=reason, fault=fault):
            return Lost(replica, reason, fault)
        case NodeLost(node=node, reason=reason):
            return NodeGone(node, reason)
        case _:
            return event
