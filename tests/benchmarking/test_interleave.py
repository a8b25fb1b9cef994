from multibox.benchmarking.interleave import REST, interleave


class Clock:
    """Seconds that pass only when somebody works; rests are counted apart."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rests: list[float] = []

    def rest(self, seconds: float) -> None:
        self.rests.append(seconds)

    def __call__(self) -> float:
        return self.now


class Worker:
    """Takes ``seconds`` a call, and returns its name and how many calls it has had."""

    def __init__(self, name: str, seconds: float, clock: Clock, order: list[str]) -> None:
        self.name, self.seconds, self.clock, self.order = name, seconds, clock, order
        self.calls = 0

    def __call__(self) -> tuple[str, int]:
        self.clock.now += self.seconds
        self.order.append(self.name)
        self.calls += 1
        return self.name, self.calls


def test_slow_contenders_alternate_after_a_warm_up() -> None:
    clock, order = Clock(), []
    workers = {name: Worker(name, 1.0, clock, order) for name in "abc"}
    samples = interleave(workers, 2, turn=0.5, clock=clock, sleep=clock.rest)
    assert order == [*"aaabbbccc", *"abcabcabc"]  # at least three rounds, though two fill the time
    assert samples == {name: [(name, call) for call in (4, 5, 6)] for name in "abc"}


def test_fast_contenders_have_turns_whose_first_call_does_not_count() -> None:
    clock, order = Clock(), []
    workers = {"fast": Worker("f", 0.25, clock, order), "slow": Worker("s", 2.0, clock, order)}
    samples = interleave(workers, 5, turn=1, clock=clock, sleep=clock.rest)
    assert "".join(order[6:]) == 4 * "ffffs"
    assert [call for _, call in samples["fast"]] == [
        3 + 4 * turn + i for turn in range(4) for i in (2, 3, 4)
    ]
    assert len(samples["slow"]) == 4


def test_it_ends_when_the_time_of_all_is_over() -> None:
    clock, order = Clock(), []
    workers = {name: Worker(name, 1.0, clock, order) for name in "ab"}
    samples = interleave(workers, 10, turn=0.1, clock=clock, sleep=clock.rest)
    assert clock.now == 6 + 20
    assert [len(each) for each in samples.values()] == [10, 10]


def test_each_turn_begins_rested_unless_nobody_else_worked() -> None:
    clock, order = Clock(), []
    workers = {name: Worker(name, 1.0, clock, order) for name in "ab"}
    interleave(workers, 3, turn=0.5, clock=clock, sleep=clock.rest)
    assert clock.rests == [REST] * 6
    alone = {"a": Worker("a", 1.0, clock, order)}
    interleave(alone, 3, turn=0.5, clock=clock, sleep=clock.rest)
    assert len(clock.rests) == 6
