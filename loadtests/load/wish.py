"""What one caller wants: drawn from the settings by a source of randomness, and written as a dialect's request."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtests.client.call import Ask
from loadtests.client.dialects import CHAT, DIALECTS, EMBEDDINGS, Wanted
from loadtests.load.lengths import read_lengths
from loadtests.load.settings import Settings
from loadtests.load.words import Words

_AROUND = 4  # words that a prompt has besides those that were drawn
_TOKENS_PER_WORD = 2.5  # at most; small vocabularies take more than one
_LONGEST_ANSWER = 0.5  # of a context
BLOCK_TOKENS = 512  # of the blocks that traces name


@dataclass(frozen=True, slots=True)
class Wish:
    """``place``: of its words in the stock. ``prefix``: which shared beginning it has, -1: none. ``tag``: what a suite
    wants to tell requests apart by, such as a tier; ``tenant``: whose key it carries. ``blocks``: ids of the blocks of
    BLOCK_TOKENS that the prompt begins with, as a trace names them: the same ids are the same text."""

    model: str
    dialect: str = CHAT
    prompt_tokens: int = 32
    output_tokens: int = 32
    stream: bool = True
    prefix: int = -1
    place: int = 0
    turns: int = 1
    tenant: str = ""
    tag: str = ""
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Mix:
    """Draws wishes. ``weights``: of the models, by their place; none: all alike."""

    settings: Settings
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "_prompt", read_lengths(self.settings.prompt_tokens))
        object.__setattr__(self, "_output", read_lengths(self.settings.output_tokens))

    def draw(self, rng: random.Random, *, model: str | None = None, tenant: str = "", tag: str = "") -> Wish:
        settings = self.settings
        everyone = settings.models + settings.embedders
        chosen = model or rng.choices(everyone, self.weights)[0]
        dialect = self._dialect(chosen, rng)
        streamed = rng.random() >= settings.unstreamed and DIALECTS[dialect].streams
        return Wish(
            model=chosen,
            dialect=dialect,
            prompt_tokens=self._prompt(rng),  # type: ignore[attr-defined]
            output_tokens=self._output(rng),  # type: ignore[attr-defined]
            stream=streamed,
            prefix=rng.randrange(settings.prefix_groups) if rng.random() < settings.prefix_share else -1,
            place=rng.getrandbits(30),
            turns=settings.turns if dialect != EMBEDDINGS else 1,
            tenant=tenant,
            tag=tag,
        )

    def _dialect(self, model: str, rng: random.Random) -> str:
        if model in self.settings.embedders:
            return EMBEDDINGS
        given = {name: weight for name, weight in self.settings.dialects.items() if name != EMBEDDINGS and weight > 0}
        return rng.choices(list(given), list(given.values()))[0] if given else CHAT


@dataclass(slots=True)
class Conversation:
    """One wish and its turns: each is asked with all that was said before."""

    wish: Wish
    said: list[tuple[str, str]] = field(default_factory=list)
    turn: int = 0

    @property
    def more(self) -> bool:
        return self.turn < self.wish.turns


class Writer:
    """Writes what is asked. ``keys``: by tenant. ``shortened``: how often a model's context was too small for it."""

    def __init__(self, settings: Settings, keys: dict[str, str]) -> None:
        self._settings = settings
        self._keys = keys
        self.shortened = 0
        self._words = Words(random.Random(f"words/{settings.seed}"))
        self._prefixes = [
            self._words.text(settings.prefix_tokens, group * 1009) for group in range(settings.prefix_groups)
        ]

    def next_ask(self, conversation: Conversation) -> Ask:
        """The conversation's next turn."""
        wish, settings = conversation.wish, self._settings
        if wish.prefix >= 0 and not conversation.said:
            # Shared within a run, not with the run before.
            conversation.said.append(("system", f"{settings.salt} {self._prefixes[wish.prefix]}"))
        place = wish.place + conversation.turn * 7919
        count, output = self._fitting(wish)
        own = f"{settings.salt}{wish.place:x}.{conversation.turn}"
        if wish.blocks:
            conversation.said.append(("user", self._of_blocks(wish, max(1, count - _AROUND), own)))
        else:
            # It differs early on: an engine's prefix cache must not answer for it.
            conversation.said.append(("user", f"{own} {self._words.text(max(1, count - _AROUND), place)}"))
        conversation.turn += 1
        whole_length = settings.whole_length and wish.stream
        wanted = Wanted(wish.model, conversation.said, output, wish.stream, whole_length)
        body = DIALECTS[wish.dialect].body(wanted)
        return Ask(wish.model, wish.dialect, body, wish.stream, self._keys[wish.tenant], keep_text=conversation.more)

    def _of_blocks(self, wish: Wish, count: int, own: str) -> str:
        """``count`` words: the blocks' as far as they go, then the prompt's own. A prompt that was shortened keeps its
        beginning; its last block ends with it."""
        parts, left = [self._settings.salt], count
        for block in wish.blocks:
            words = min(left, BLOCK_TOKENS)
            if words > 1:
                parts.append(f"{block:x} {self._words.text(words - 1, block * 1013)}")
            left -= words
        if left > 0:
            parts.append(f"{own} {self._words.text(left, wish.place)}")
        return " ".join(filter(None, parts))

    def _fitting(self, wish: Wish) -> tuple[int, int]:
        """Tokens of the prompt and of the answer, as wished where the model's context has room for them."""
        context = self._settings.contexts.get(wish.model)
        if context is None:
            return wish.prompt_tokens, wish.output_tokens
        output = min(wish.output_tokens, max(1, int(context * _LONGEST_ANSWER)))
        room = (context - output) / _TOKENS_PER_WORD
        room -= self._settings.prefix_tokens if wish.prefix >= 0 else 0
        prompt = min(wish.prompt_tokens, max(1, int(room / wish.turns)))
        self.shortened += (prompt, output) != (wish.prompt_tokens, wish.output_tokens)
        return prompt, output
