"""Who may go to which replica, who waits, and who is refused."""

from gateway.admit.admission import Admission
from gateway.admit.claims import Claim, Outcome, Seat

__all__ = ["Admission", "Claim", "Outcome", "Seat"]
