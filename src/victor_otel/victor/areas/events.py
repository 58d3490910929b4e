"""Victor's event bus: the events that the guide's collector receives when it is subscribed.

One tool call causes up to three events. No work is counted from events: the bus drops what is
emitted before it is connected, and it has no event for a tool call that was not executed.
"""

from __future__ import annotations

from victor_otel.model.metric import Counter
from victor_otel.model.rows import Area
from victor_otel.victor import labels

BUS_EVENTS = Counter(
    "victor.bus_events",
    "Events of Victor's event bus that reached a subscribed MetricsCollector",
    labels=(labels.EVENT_FAMILY,),
)

AREA = Area(name="events", metrics=(BUS_EVENTS,))
