"""When a worker's place is filled again. Time is the test's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.posts import LONGEST_WAIT_S, SETTLED_S, Post


def lived(post: Post, now_s: float, life_s: float, *, answered: bool = True) -> float:
    post.started(7, now_s)
    if answered:
        post.answers()
    return post.ended(now_s + life_s)


def test_a_new_post_is_due_at_once() -> None:
    post = Post(0)
    assert post.is_due(0.0)
    post.started(7, 0.0)
    assert not post.is_due(1e9)
    assert (post.pid, post.ready, post.ever_ready) == (7, False, False)


def test_after_a_life_of_some_length_the_successor_starts_at_once() -> None:
    post = Post(0)
    assert lived(post, 0.0, SETTLED_S) == 0.0
    assert post.is_due(SETTLED_S)
    assert (post.pid, post.ready, post.ever_ready, post.restarts) == (None, False, True, 1)


def test_short_lives_in_a_row_make_it_wait_a_little_longer_each_time() -> None:
    post = Post(0)
    waits = [lived(post, 10.0 * life, 0.1, answered=life % 2 == 0) for life in range(7)]
    assert waits == [0.0, 0.05, 0.1, 0.2, 0.4, 0.4, 0.4]
    assert not post.is_due(60.1 + 0.39)
    assert post.is_due(60.1 + 0.41)
    assert lived(post, 100.0, SETTLED_S) == 0.0, "a good life makes up for them"


def test_a_life_without_an_answer_is_a_short_one() -> None:
    post = Post(0)
    assert [lived(post, 100.0 * life, 50.0, answered=False) for life in range(3)] == [0.0, 0.05, 0.1]
    assert not post.ever_ready


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=50))
def test_nobody_waits_longer_than_that(lives: list[tuple[float, bool]]) -> None:
    post = Post(0)
    for life_s, answered in lives:
        assert 0.0 <= lived(post, 0.0, life_s, answered=answered) <= LONGEST_WAIT_S
    assert post.restarts == len(lives)
