"""Work given to an executor ahead of its use. A file of its own: what training and evaluation compute rests on its order."""

import itertools
from collections import deque


def in_order(executor, function, tasks, depth):
    """Yield function(*task) of each of the tasks, in their order; besides the one awaited, `depth` are in work or done."""
    tasks = iter(tasks)
    given = deque(executor.submit(function, *task) for task in itertools.islice(tasks, depth))
    while given:
        given.extend(executor.submit(function, *task) for task in itertools.islice(tasks, 1))
        yield given.popleft().result()
