"""Words and small helpers of the fake data."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

SERVICES = {
    "edge-gateway": (0.0, 0.5),
    "web-frontend": (0.17, 0.25),
    "mobile-bff": (0.17, 0.75),
    "search": (0.34, 0.12),
    "checkout": (0.34, 0.62),
    "recommendations": (0.34, 0.37),
    "profile": (0.34, 0.88),
    "catalog": (0.51, 0.08),
    "pricing": (0.51, 0.24),
    "cart": (0.51, 0.4),
    "payments": (0.51, 0.56),
    "orders": (0.51, 0.72),
    "identity": (0.51, 0.9),
    "search-index": (0.68, 0.1),
    "inventory": (0.68, 0.28),
    "fraud": (0.68, 0.44),
    "payment-gateway": (0.68, 0.6),
    "notifications": (0.68, 0.76),
    "shipping": (0.68, 0.93),
    "postgres-catalog": (0.85, 0.12),
    "redis-cart": (0.85, 0.3),
    "postgres-ledger": (0.85, 0.47),
    "postgres-orders": (0.85, 0.64),
    "kafka-main": (0.85, 0.81),
    "warehouse-etl": (1.0, 0.74),
    "cdn-origin": (1.0, 0.3),
}


EDGES = """edge-gateway web-frontend, edge-gateway mobile-bff, web-frontend search, web-frontend checkout,
web-frontend recommendations, mobile-bff checkout, mobile-bff profile, search catalog, search search-index,
recommendations catalog, recommendations pricing, checkout cart, checkout pricing, checkout payments,
checkout orders, profile identity, catalog postgres-catalog, catalog inventory, cart redis-cart, payments fraud,
payments payment-gateway, orders postgres-orders, orders inventory, orders notifications, orders shipping,
fraud postgres-ledger, payment-gateway postgres-ledger, notifications kafka-main, shipping kafka-main,
kafka-main warehouse-etl, inventory postgres-orders, search-index cdn-origin, pricing redis-cart"""


TITLES = (
    "disk will be full in 9 h",
    "memory leak: slope 41 MiB/h",
    "p99 latency above its expected band",
    "connection pool exhausted",
    "replica lag above 30 s",
    "pod restarts correlated with node pressure",
    "queue depth forecast to fill in 2 h",
    "TLS certificate expires in 6 d",
    "log pattern surge: 'connection reset by peer'",
    "error ratio burns the budget 14.4 times too fast",
)


OWNERS = ("", "", "M. Lindqvist", "A. Okafor", "J. Tanaka")


STEPS = (
    ("use_cases", "Identify use cases", "Which outcomes are wanted, and is the data for them there?"),
    ("records", "Agree on systems of record", "Which system is authoritative for each kind of record?"),
    ("success", "Define success criteria", "What is measured, and is it getting better?"),
    ("models", "Evaluate data models", "Which fields does each source really send, and how stable are they?"),
    ("workflows", "Analyse workflows", "How is the work really done, and where does it wait?"),
    ("automation", "Begin automation", "What runs by itself, and what did it do?"),
    ("analytical", "Develop analytical workflows", "What is each workflow worth, and which are missing?"),
    ("skills", "Adopt new skills", "Who audits the machine's decisions, and how often do they agree?"),
    ("techniques", "Customise techniques", "Which techniques look at the data, and which of them help?"),
)


def rfc(time: datetime) -> str:
    """RFC 3339 in UTC."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def entity(name: str) -> str:
    return f"service:shop/{name}"
