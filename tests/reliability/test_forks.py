"""A fork while other threads record: no call in the child hangs, and no count is there twice."""

from __future__ import annotations

from tests.kit.processes import OWN, answer
from tests.reliability.trials import Trials

# Threads record through an application's own SDK, and collect from it, while children are
# forked; each child calls a model and says what its reader then shows.
FORKS = (
    OWN
    + """
import json, os, signal, sys, threading, time

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import victor_otel

sys.setswitchinterval(1e-5)  # threads are interrupted wherever they are, locks held or not


reader = InMemoryMetricReader()
provider = MeterProvider([reader])
victor_otel.start(provider)
done = threading.Event()
calls = [0, 0]

def go_on(index):
    while not done.is_set():
        call(f"m{calls[index] % 5}")
        calls[index] += 1

def collect():
    while not done.is_set():
        reader.get_metrics_data()

def shown():
    found = {}
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name in {"victor.provider.requests", "victor.provider.latency"}:
                    found[metric.name] = sum(
                        point.value if hasattr(point, "value") else point.count
                        for point in metric.data.data_points
                    )
    return found

def child(writer):
    signal.alarm(20)  # ends a child that hangs
    call("m0")
    call("new")
    os.write(writer, json.dumps(shown()).encode())
    os._exit(0)

call("m0")
threads = [threading.Thread(target=go_on, args=(i,)) for i in range(2)]
threads.append(threading.Thread(target=collect))
for thread in threads:
    thread.start()
told = []
for _ in range(int(sys.argv[1])):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        child(writing)
    os.close(writing)
    _, status = os.waitpid(pid, 0)
    told.append([status, os.read(reading, 10_000).decode()])
    os.close(reading)
done.set()
for thread in threads:
    thread.join()
print(json.dumps([told, sum(calls) + 1, shown()]))
"""
)


def test_no_call_of_a_child_hangs_and_it_counts_its_own_alone(trials: Trials) -> None:
    times = trials.times(40, 2_000)
    told, calls, parent = answer(FORKS, str(times), timeout=60 + times)
    expected = '{"victor.provider.latency": 2, "victor.provider.requests": 2}'
    hung = [status for status, _ in told if status]
    assert not hung, f"{len(hung)} of {times} children ended with {set(hung)}"
    assert {text for _, text in told} == {expected}
    assert parent == {"victor.provider.latency": calls, "victor.provider.requests": calls}
    trials.row(
        "fork while threads record into an application's SDK and collect from it", times=times
    )
