"""Time functions in turn, so that other load on the machine affects all of them equally."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


def time_in_turn(
    functions: Sequence[Callable[[], object]],
    num_rounds: int = 200,
    min_rounds: int = 20,
    max_seconds: float = 20.0,
    num_warm_ups: int = 10,
) -> NDArray[np.float64]:
    """Return the seconds of each function in each round, float64 ``(rounds, num_functions)``.

    Args:
        functions: called once per round, in an order that alternates.
        num_rounds: maximum number of rounds.
        min_rounds: minimum number of rounds, however long they take.
        max_seconds: time after which no further round begins.
        num_warm_ups: rounds before the first measured one.
    """
    for _ in range(num_warm_ups):
        for function in functions:
            function()
    rounds: list[list[float]] = []
    start = time.perf_counter()
    while len(rounds) < num_rounds:
        if len(rounds) >= min_rounds and time.perf_counter() - start > max_seconds:
            break
        order = range(len(functions))
        seconds = [0.0] * len(functions)
        for index in reversed(order) if len(rounds) % 2 else order:
            before = time.perf_counter()
            functions[index]()
            seconds[index] = time.perf_counter() - before
        rounds.append(seconds)
    return np.array(rounds)
