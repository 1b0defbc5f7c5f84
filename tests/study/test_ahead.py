"""Work given to other threads and processes comes back in order, and never far ahead of who asked."""

from concurrent.futures import ThreadPoolExecutor

from inpaint_lib.study import ahead


def test_work_comes_back_in_order_and_no_more_is_begun_than_was_asked_for():
    begun, done = [], []
    with ThreadPoolExecutor(2) as executor:
        for found in ahead.in_order(executor, lambda k: begun.append(k) or 10 * k, ((k,) for k in range(20)), depth=3):
            done.append(found)
            assert len(begun) <= len(done) + 3
    assert done == [10 * k for k in range(20)]
    with ThreadPoolExecutor(1) as executor:
        assert not [*ahead.in_order(executor, print, [], depth=3)]
