"""`python -m benchmarks.savings`: the savings benchmark."""
import asyncio, random, sys, time
from benchmarks.savings.group_a import group_a
from benchmarks.savings.group_bc import group_b, group_c
from benchmarks.savings.origin import Origin
from benchmarks.savings.play import Bench, Figure
from benchmarks.savings.proxies import Ours
from benchmarks.savings.squid import Squid, SquidTuned, SquidCareful
async def main():
    for kind in (Ours, Squid, SquidTuned, SquidCareful):
        if sys.argv[2:] and kind.name not in sys.argv[2:]: continue
        for g, make in (("A",group_a),("B",group_b),("C",group_c)):
            if g not in sys.argv[1]: continue
            async with Origin() as origin, kind() as proxy:
                bench = Bench(proxy, origin)
                for w in make(random.Random(1)):
                    t=time.time()
                    f = await bench.measured(Figure(g,w.name,proxy.name,1), lambda: bench.play(w))
                    print(proxy.name,g,w.name,f.delivered/1e6,f.origin_bytes/1e6,f.requests,f.origin_requests,f.not_modified,f.failed,f.wrong,f.memory_hits,round(f.store_bytes/1e6,1),f.disk_written, round(time.time()-t,1),f.problems[:2], flush=True)
                await bench.clients.close()
asyncio.run(main())
