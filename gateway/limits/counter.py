"""One rule at one place, as one worker sees it: what it has in hand, and what it used since it last reported."""

from __future__ import annotations

from gateway.accounts import Placed
from gateway.limits.notes import about_of, note_of
from gateway.limits.script import Ask, Told
from gateway.limits.windows import NEVER_US, SECOND_US, SLOTS, Shape, Window

ANYTHING = 1 << 62
OFTEN_US = 50_000  # who is asked more often than this leases more than it needs
LEASED_FOR_US = SECOND_US  # what was not used for so long is given back
REFUSED_FOR_US = 100_000  # the store is not asked again about what it refused for so long
MOST_OF = 50  # of the amount no worker leases more than one part in so many
RENEW_US = 5 * SECOND_US
NOTED_US = 15 * SECOND_US  # what is reserved of budgets is told again, so that a log is read from there on at most
TIGHT = 4  # with less than one part in so many left, what is put back is told at once


class Counter:
    """``here``: what was used in the present slot and is not reported yet (of what is counted at once: what is held);
    it may grow to ``most``, which is the lease. ``left``: what was left of the amount when ``here`` was 0, as last
    heard. These are all that a request changes on its usual way (``gateway.limits.limiter``).
    """

    __slots__ = (
        "about",
        "active",
        "ahead_us",
        "alarms",
        "amount",
        "asked_us",
        "broken",
        "chunk",
        "chunked_us",
        "closing",
        "exceeded",
        "frees_us",
        "hard",
        "heard_us",
        "held",
        "here",
        "key",
        "lease",
        "least_refused",
        "left",
        "most",
        "n",
        "newest",
        "noted",
        "open",
        "others",
        "own",
        "pending",
        "placed",
        "refused_us",
        "reported_us",
        "sent",
        "shape",
        "since",
        "slot",
        "slot_begins_us",
        "slot_ends_us",
        "spent_lately",
        "touched_us",
        "want",
        "window",
        "workers",
    )  # fmt: skip

    def __init__(self, key: str, placed: Placed, window: Window, n: int) -> None:
        """``n``: reports are numbered from here on; more than those of any worker of that name before."""
        self.key, self.placed, self.window, self.shape = key, placed, window, window.shape
        self.hard = placed.rule.hard
        self.amount = self.left = placed.rule.units
        self.here = 0
        self.most = 0 if self.hard else ANYTHING
        self.lease = 0
        self.slot = self.slot_begins_us = self.slot_ends_us = 0  # not looked at yet
        self.pending: dict[int, int] = {}  # of earlier slots
        self.since = 0  # sum of those
        self.own: dict[int, int] = {}  # what was reported
        self.sent: Ask | None = None  # not answered yet
        self.n = n
        self.open = 0  # holds
        self.active = False
        self.ahead_us = 0  # others' clocks
        self.chunk = self.spent_lately = self.want = 0
        self.asked_us = self.chunked_us = self.touched_us = 0
        self.heard_us = self.reported_us = 0
        self.refused_us, self.least_refused, self.frees_us = -ANYTHING, 0, 0
        self.newest = self.others = 0
        self.workers = 1
        self.alarms: tuple[tuple[str, int, str], ...] = ()
        self.exceeded = ""
        self.about = about_of(placed) if self.shape is Shape.CALENDAR else ""
        self.held: dict[int, int] = {}  # of a budget, by slots: what is reserved for requests under way
        self.noted = False  # the store has a note of that
        self.closing = False
        self.broken = False  # the store has something else in its place

    def __repr__(self) -> str:
        return f"<{self.key} left {self.left - self.here} of {self.amount}, free {self.most - self.here}>"

    def resize(self, placed: Placed) -> None:
        """The same rule, with another amount."""
        self.placed = placed
        self.left += placed.rule.units - self.amount
        self.amount = placed.rule.units
        self.about = about_of(placed) if self.shape is Shape.CALENDAR else ""

    # -- using -------------------------------------------------------------------------------------------------------

    def roll(self, now_us: int) -> None:
        """The present slot is over, or the counter was idle."""
        self.touched_us = now_us
        if self.shape is Shape.AT_ONCE:
            self.slot_ends_us = NEVER_US
            return
        self._set_apart()
        at_us = now_us + self.ahead_us
        self.slot = slot = self.window.slot(at_us)
        self.slot_ends_us = self.window.ends_us(slot) - self.ahead_us
        self.slot_begins_us = (slot * self.window.slot_us if self.shape is Shape.SLIDING else slot) - self.ahead_us

    def _set_apart(self) -> None:
        here = self.here
        if here:
            self.pending[self.slot] = self.pending.get(self.slot, 0) + here
            self.since += here
            self.left -= here
            self.most -= here if self.hard else 0
            self.here = 0

    def change(self, units: int, at_us: int) -> None:
        """More or less than was reserved at that time. It is no part of the lease."""
        if at_us >= self.slot_begins_us and self.slot_ends_us:
            self.here += units
            if self.hard:
                self.most += units
            return
        slot = self.window.slot(at_us + self.ahead_us)
        self.pending[slot] = self.pending.get(slot, 0) + units
        self.since += units
        self.left -= units

    def charge(self, units: int, now_us: int) -> None:
        """Used without any lease: the store is away, or it was used already."""
        if now_us >= self.slot_ends_us:
            self.roll(now_us)
        self.here += units
        if self.hard:
            self.most += units

    def began(self, units: int, at_us: int) -> None:
        """A hold: so much of what is used is only reserved."""
        self.open += 1
        if units and self.about:
            self.hold(units, at_us)

    def ended(self, units: int, at_us: int) -> None:
        self.open -= 1
        if units and self.about:
            self.hold(-units, at_us)

    def hold(self, units: int, at_us: int) -> None:
        """Of a budget: so much more (or less) is reserved for one that was admitted at that time."""
        now = at_us >= self.slot_begins_us and self.slot_ends_us
        slot = self.slot if now else self.window.slot(at_us + self.ahead_us)
        held = self.held.pop(slot, 0) + units
        if held:
            self.held[slot] = held

    @property
    def free(self) -> int:
        return self.most - self.here

    @property
    def remaining(self) -> int:
        """Of the amount, as far as this worker has heard; what others merely have in hand is not counted."""
        return max(0, min(self.amount, self.left - self.here))

    def resets_us(self, now_us: int) -> int:
        """In how many microseconds nothing will be used, if nobody asks for more."""
        if self.shape is Shape.SLIDING:
            newest = self.slot if self.here > 0 or self.since > 0 else self.newest
            return max(0, self.window.frees_us(newest) - self.ahead_us - now_us) if newest else 0
        if self.shape is Shape.AT_ONCE:
            return 0
        return max(0, self.window.ends_us(self.window.slot(now_us + self.ahead_us)) - self.ahead_us - now_us)

    # -- while the store is away -------------------------------------------------------------------------------------

    def room_alone(self, now_us: int, workers: int) -> int:
        """What may be used without asking: a worker's share of the amount, and of what was left when the store was
        last heard of, where the others' use wears off evenly over the window."""
        share = -(-self.amount // max(1, workers, self.workers))
        if self.shape is Shape.AT_ONCE:
            used, length_us = self.here, 3 * RENEW_US
        else:
            oldest = self.window.slot(now_us + self.ahead_us) - SLOTS
            used = self.here + sum(units for slot, units in self.own.items() if slot >= oldest)
            used += sum(units for slot, units in self.pending.items() if slot >= oldest)
            length_us = self.window.length_us
        passed_us = max(0, now_us - self.heard_us)
        others = self.others * max(0, length_us - passed_us) // length_us if self.heard_us else 0
        return min(share, self.amount - others) - used

    # -- reporting ---------------------------------------------------------------------------------------------------

    def asked(self, units: int, now_us: int) -> None:
        """A request has to wait for the store: who is asked often, leases more."""
        if now_us - self.asked_us < OFTEN_US:
            self.chunk = min(max(2 * self.chunk, 2 * units), self.amount // MOST_OF)
        self.asked_us = now_us

    def is_due(self, now_us: int) -> bool:
        """Whether there is something to report, to give back, to renew or to hear."""
        if self.here and self.shape is not Shape.AT_ONCE:
            return True
        if self.pending or self.sent is not None or self.want or (self.free > self.chunk > -1 and self.hard):
            return True
        if self.lease != self.free and self.hard:
            return True
        if self.chunk and now_us - self.reported_us >= LEASED_FOR_US // 4:
            return True
        held = self.lease or (self.shape is Shape.AT_ONCE and self.here)
        if held and now_us - self.reported_us >= RENEW_US:
            return True
        if self.noted and self._is_quiet(now_us):
            return True
        return bool(self.open) and now_us - self.heard_us >= self._stale_us

    @property
    def _stale_us(self) -> int:
        if self.shape is Shape.SLIDING:
            return max(SECOND_US, self.window.length_us // 30)
        return RENEW_US if self.shape is Shape.AT_ONCE else NOTED_US

    def is_idle(self, now_us: int) -> bool:
        """Nothing is held, the store knows all, and nobody has asked for a while."""
        return not self.noted and self._is_quiet(now_us)

    def _is_quiet(self, now_us: int) -> bool:
        if self.open or self.here or self.pending or self.lease or self.want or self.sent is not None:
            return False
        return now_us - max(self.touched_us, self.asked_us, self.reported_us) > SECOND_US

    def report(self, now_us: int, written: int, total: int, least: int) -> Ask:
        """What is to be told now. One that was not answered is told again as it was, but for what is needed.

        ``written``: how far this worker's log of usage is. ``total``: what requests wait for, what is in hand included;
        ``least``: the smallest of them.
        """
        if now_us >= self.slot_ends_us:
            self.roll(now_us)
        if self.sent is None:
            self._write_report(now_us, written, total)
        assert self.sent is not None
        free = max(0, self.free)
        need = max(0, total - free) + self.want
        least = max(1, least - free) if total > free else self.want
        extra = max(0, self.chunk - free) if self.hard else 0
        ends_us = -1
        if self.shape is Shape.CALENDAR:
            ends_us = self.window.ends_us(self.slot)
        self.reported_us = now_us
        old = self.sent
        return Ask(
            old.n, self.shape, self.amount, self.slot, self.window.slot_us, self.window.length_us or 60 * SECOND_US,
            -1 if ends_us >= NEVER_US else ends_us, old.slots, old.spent, old.keep,
            self.here if self.shape is Shape.AT_ONCE else 0, need, least, extra, self.alarms, self.exceeded,
            self.about, old.note, old.last,
        )  # fmt: skip

    def _write_report(self, now_us: int, written: int, total: int) -> None:
        spent = self.lease - self.free if self.hard else 0
        self._size_chunk(now_us, spent)
        if self.shape is not Shape.AT_ONCE:
            self._set_apart()
        keep = max(0, min(self.free, max(self.chunk, total))) if self.hard else 0
        if self.hard:
            self.most = self.here + keep if self.shape is Shape.AT_ONCE else keep
        note, last = self._write_note(now_us, written, total)
        self.n += 1
        self.lease = keep
        slots = sorted(self.pending.items())
        self.sent = Ask(self.n, 0, 0, 0, 0, 0, 0, slots, spent, keep, 0, 0, 0, 0, (), "", "", note, last)
        for slot, units in slots:
            self.own[slot] = self.own.get(slot, 0) + units
        self.pending, self.since = {}, 0

    def _write_note(self, now_us: int, written: int, total: int) -> tuple[str, bool]:
        """What the store is to keep of what is reserved; True: nothing any more."""
        if not self.about:
            return "", False
        if not self.open:
            self.held = {}
            if not total and (self.closing or (self.noted and self._is_quiet(now_us))):
                return "", True
        self.noted = True
        return note_of(written, self.held), False

    def _size_chunk(self, now_us: int, spent: int) -> None:
        """Twice what was used since a tenth of a second, and a little less than before at most."""
        self.spent_lately += spent
        if self.chunk and now_us - self.chunked_us >= REFUSED_FOR_US:
            wears_off = self.chunk * 4 // 5 if now_us - self.asked_us < LEASED_FOR_US or self.spent_lately > 0 else 0
            self.chunk = min(max(2 * self.spent_lately, wears_off), self.amount // MOST_OF)
            self.chunked_us, self.spent_lately = now_us, 0

    def hear(self, told: Told, asked: Ask, now_us: int) -> None:
        """The answer to the last report."""
        self.sent, self.broken = None, False
        if asked.last and not told.lease:
            self.noted = False
        ahead_us = told.now_us - now_us
        if ahead_us > self.ahead_us:
            self.ahead_us = ahead_us
            self.roll(now_us)
        if self.hard:
            self.most += told.lease - asked.keep
            self.lease += told.lease - asked.keep
        if not told.again:
            self.want = 0
        oldest = self.window.slot(now_us + self.ahead_us) - SLOTS if self.shape is Shape.SLIDING else self.slot
        self.own = {slot: units for slot, units in self.own.items() if slot >= oldest}
        self.left = self.amount - told.used - self.since
        self.others = max(0, told.used - sum(self.own.values()))
        self.newest, self.workers, self.heard_us = told.newest, told.workers, now_us
        if told.refused:
            self.refused_us, self.frees_us = now_us, told.frees_us
            self.least_refused = told.free + max(0, self.free) + 1 if self.hard else ANYTHING
        elif asked.need:
            self.forget_refusal()

    def forget_refusal(self) -> None:
        """Something became free since."""
        self.refused_us = -ANYTHING

    def refuses(self, units: int, now_us: int) -> bool:
        """The store refused as much a moment ago, and nothing has become free since."""
        if now_us - self.refused_us >= REFUSED_FOR_US or units < self.least_refused:
            return False
        return self.frees_us <= 0 or now_us + self.ahead_us < self.frees_us

    def refused_lately(self, now_us: int) -> bool:
        """For those who ask every second or so."""
        return now_us - self.refused_us < 2 * SECOND_US
