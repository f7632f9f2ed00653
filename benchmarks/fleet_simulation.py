"""How long a conversion takes on many machines, on paper: an event simulation whose every assumption is a number below.

    python -m benchmarks.fleet_simulation

It says what bounds a run (cards, the store, handing out work, the last unit), not what a cloud gives: docs/fleet.md has the table.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class World:
    """Bytes, seconds, bytes a second."""

    machines: int
    total: float = 1.4e12  # of the target, and as much of the source
    unit: float = 256 << 20
    card: float = 1.25e9  # a machine's network, 10 Gbit/s, shared by what comes in and what goes out
    streams: int = 8  # requests of a machine under way together
    stream: float = 80e6  # of one request
    work: float = 1.2e9  # of one machine, between reading and writing
    store: float = 0.0  # of the store for all together, in and out; 0: no limit
    latency: float = 0.05  # of a request
    dispatch: float = 0.001  # of the driver, for each unit: Ray, measured warm with 500 in flight
    start: tuple[float, float] = (20.0, 15.0)  # until a machine is there: mean, deviation; (0, 0): warm
    slow: float = 0.03  # share of machines that are 4 to 20 times as slow
    life: float = 8 * 3600.0  # of a machine, on the mean; one that dies is replaced a minute later
    plan: float = 15.0  # reading the headers and cutting
    commit: float = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run took."""

    seconds: float
    units: int
    again: int  # units that were lost with their machine
    efficiency: float  # what the machines could have done in the time, and did


def of_one(world: World, speed: float = 1.0) -> float:
    """Seconds of a unit on a machine of that speed: read in ranges together, work, write one part."""
    units = -(-world.total // world.unit)
    share = speed * min(world.card / 2, world.streams * world.stream)
    if world.store:
        share = min(share, world.store / 2 / min(world.machines, units))
    return 3 * world.latency + 2 * world.unit / share + world.unit / (world.work * speed)


def simulate(world: World, seed: int) -> Outcome:
    """One run: units are handed out one after another to whoever is free."""
    r = random.Random(seed)
    units = int(-(-world.total // world.unit))
    free = []
    for _ in range(world.machines):
        up = max(0.0, r.gauss(*world.start)) if world.start[0] else 0.0
        speed = 1 / r.uniform(4, 20) if r.random() < world.slow else r.lognormvariate(0, 0.15)
        heapq.heappush(free, (up, r.random(), speed, up + r.expovariate(1 / world.life)))
    given, last, again, todo = 0.0, 0.0, 0, units
    while todo:
        at, key, speed, dies = heapq.heappop(free)
        given = max(given + world.dispatch, at)
        end = given + of_one(world, speed) * r.lognormvariate(0, 0.1)
        if end > dies:
            again += 1
            back = max(given, dies) + 60
            heapq.heappush(free, (back, key, r.lognormvariate(0, 0.15), back + r.expovariate(1 / world.life)))
            continue
        todo, last = todo - 1, max(last, end)
        heapq.heappush(free, (end, key, speed, dies))
    return Outcome(world.plan + last + world.commit, units, again, units * of_one(world) / world.machines / last)


def median(world: World) -> Outcome:
    """The run in the middle of five."""
    return sorted((simulate(world, seed) for seed in range(5)), key=lambda o: o.seconds)[2]


WARM = (0.0, 0.0)
ROWS = [
    ("1 machine", World(1)),
    ("10 machines", World(10)),
    ("100", World(100)),
    ("1,000", World(1000)),
    ("1,000, warm", World(1000, start=WARM)),
    ("1,000, warm, units of 8 MiB", World(1000, start=WARM, unit=8 << 20)),
    ("1,000, warm, units of 64 MiB", World(1000, start=WARM, unit=64 << 20)),
    ("1,000, warm, units of 1 GiB", World(1000, start=WARM, unit=1 << 30)),
    ("1,000, warm, a shard of 8.6 GB each", World(1000, start=WARM, unit=8.6e9)),
    ("1,000, 10 ms a dispatch", World(1000, dispatch=0.01)),
    ("1,000, each dies every 20 minutes", World(1000, life=1200)),
    ("1,000, the store gives 100 GB/s", World(1000, store=100e9)),
    ("1,000, the store gives 12.5 GB/s", World(1000, store=12.5e9)),
    ("100, the store gives 12.5 GB/s", World(100, store=12.5e9)),
    ("40, the store gives 12.5 GB/s", World(40, store=12.5e9)),
]


def main() -> None:
    """The table of docs/fleet.md."""
    print("| machines | units | lost and done again | seconds | efficiency |")
    print("| --- | --- | --- | --- | --- |")
    for name, world in ROWS:
        o = median(world)
        print(f"| {name} | {o.units:,} | {o.again} | {o.seconds:,.0f} | {o.efficiency:.2f} |")
    print(f"\none machine takes {2 * World(1).unit / of_one(World(1)) / 1e9:.2f} GB/s of a store, in and out together")


if __name__ == "__main__":
    main()
