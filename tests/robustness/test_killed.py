"""Imports that are killed: at random moments, at every step, between a file and its transaction."""

from __future__ import annotations

import time
from dataclasses import replace

from tests.robustness.conftest import Town
from tests.robustness.importing import begin, begin_to_die

KILLS = 50


def test_kills_at_random_moments_lose_nothing_and_double_nothing(town: Town) -> None:
    town.change([f"{number}.txt" for number in range(300)])
    longest = 0.5
    kills = 0
    while kills < KILLS:
        began = time.monotonic()
        if begin(town.task()).kill_after(town.random.uniform(0, longest)):
            kills += 1
            town.assert_nothing_but_strays(quick=True)
        else:
            longest = time.monotonic() - began
        if town.random.random() < 0.6:
            town.change_some(0.3)
    assert begin(town.task()).ended().error is None
    town.assert_whole()


def test_a_kill_before_any_step_loses_nothing_and_doubles_nothing(town: Town) -> None:
    names = [f"{number}.txt" for number in range(3)]
    strays = steps = 0
    killed = True
    while killed:
        steps += 1
        town.change(names)
        killed = begin_to_die(replace(town.task(), batch_size=2), steps).was_killed()
        strays += town.assert_nothing_but_strays(quick=True) > 0
        if steps % 2:
            town.change(names[:2])
        town.city.run()
        town.assert_whole(quick=True)
    town.assert_whole()
    assert steps > 25
    assert strays > 3
