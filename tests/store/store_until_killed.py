"""Run by test_disk: stores bodies as fast as it can and says so, until it is killed."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.store.conftest import KIB, MIB, House, content, response


async def main(directory: Path, seed: int) -> None:
    """Six fetches at once; some bodies fit in memory, some are given up."""
    house = House(directory)
    await house.open()
    rng = random.Random(seed)
    count = 0

    async def work() -> None:
        nonlocal count
        while True:
            count += 1
            key, size = f"http://h/{count}", rng.choice([0, 1000, 20_000, 64 * KIB, 300 * KIB, MIB])
            if count % 10 == 0:
                writer = house.store.begin(response(key), None)
                assert writer is not None
                await writer.write(bytes(600 * KIB))
                writer.abort()
            elif await house.put(response(key), content(key, size), whole=count % 3 == 0) is not None:
                print(key, size, flush=True)
            await asyncio.sleep(0)

    await asyncio.gather(*[work() for _ in range(6)])


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
