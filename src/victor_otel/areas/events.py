"""Victor's event bus, as the guide's collector hears it when it is subscribed there.

One call of a tool is up to three events. No count of work comes from events: the bus drops
what is emitted before it is connected, and never tells of a tool call that was not run.
"""

from __future__ import annotations

from victor_otel import labels
from victor_otel.spec import Area, Kind, Metric

BUS_EVENTS = Metric(
    name="victor.bus_events",
    kind=Kind.COUNTER,
    meaning="Events of Victor's bus that reached a subscribed MetricsCollector",
    labels=(labels.EVENT_FAMILY,),
)

AREA = Area(name="events", metrics=(BUS_EVENTS,))
