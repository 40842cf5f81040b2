"""Room for a replica that holds more than it has reserved: it was measured, and its footprint was wrong.

What it holds it holds already, so it does not wait its turn: whoever may go from its GPU for a further replica of its
model (``packers.verdicts``) goes, as the eviction policy chooses. If that does not do, the replica itself has to leave.
"""

from __future__ import annotations

from packers.decide import DEFAULT_POLICIES, Policies
from packers.draft import Draft
from packers.eviction import Shelf
from packers.explain import size
from packers.state import State
from packers.trial import Trial
from packers.types import Action, ReplicaId, Snapshot
from packers.verdicts import Need, victims


def make_way(
    snapshot: Snapshot, replica: ReplicaId, more_bytes: int, policies: Policies = DEFAULT_POLICIES
) -> tuple[Action, ...] | None:
    """What others have to do so that ``replica`` can reserve ``more_bytes`` on its GPU besides what it has.

    Empty: what is leaving already makes the room. None: nobody else may go, or not enough of them, or its model is in
    no catalog. Raises LedgerError when the snapshot contradicts itself.
    """
    trial = Trial(State.of(snapshot), snapshot.now_s, policies.look_at, policies.placement)
    trial.patience_s = policies.patience_s  # but no rest: what it holds it holds already
    one = trial.state.replicas[replica]
    model, gpu = trial.models.get(one.model), trial.gpu[one.gpu]
    if model is None or one.peers:
        return None
    trial.serve(model)
    draft = Draft(trial, policies.eviction)
    need = Need(model, 2, f"{replica} holds {size(more_bytes)} more than was reserved")
    # The growing one neither makes room for itself nor sleeps meanwhile.
    may_go = tuple(victim for victim in victims(need, gpu, one, trial) if victim.replica.id != replica)
    shelf = Shelf(gpu, more_bytes, trial.soon.gpu[gpu.id], one, may_go, snapshot.now_s)
    found = draft.eviction([shelf])
    if not found:
        return None
    draft.make_way(need, found[0])
    return tuple(draft.actions)
