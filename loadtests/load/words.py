"""What prompts say: English words of about one token each, so that a length in words is about one in tokens.

How many tokens a prompt really had is what the engine says (``usage``); the report uses that.
"""

from __future__ import annotations

import random

_WORDS = """
about after again always among answer because before between bring build carry change city clear close color
come could country cover cross drive early earth engine every family father field figure final find fire first
follow forest form garden give good great ground group hand harbor have head heard heart high home horse hour
house iron kitchen know large last late learn leave letter light line list little long look machine make map
mark measure money moon morning mother mountain move music name near night north number often open order other
paper part people place plain plan plant point power press quick quiet railway rain read record ride river road
rock room round science second sentence set ship short show side signal simple sing sleep small snow some song
sound south special stand star start station steam still stone story street strong sun table talk teach tell
test their thing think time town track train travel tree true turn under until use very voice wait walk watch
water wheel where while white whole wind winter wonder wood word work world write year young
""".split()  # noqa: SIM905 - a list of them would fill three pages
_STOCK = 40_000  # words that prompts are cut from


class Words:
    """``text(n, at)`` costs a slice. One ``rng``, one stock."""

    def __init__(self, rng: random.Random) -> None:
        self._words = rng.choices(_WORDS, k=_STOCK)
        self._text = " ".join(self._words)
        self._at: list[int] = []
        position = 0
        for word in self._words:
            self._at.append(position)
            position += len(word) + 1

    def text(self, count: int, begin: int) -> str:
        """``count`` words, from the stock's word ``begin`` on, and round it as often as it takes."""
        begin %= _STOCK
        if begin + count < _STOCK:
            return self._text[self._at[begin] : self._at[begin + count] - 1]
        first, rest = self._text[self._at[begin] :], count - (_STOCK - begin)
        return first if not rest else f"{first} {self.text(rest, 0)}"
