"""What to change at a source, by its kind: which stream, interface or setting of that product would free its data."""

from __future__ import annotations

from collections.abc import Mapping

_STREAMS: Mapping[str, str] = {
    "zabbix": "let Zabbix push: the HTTP connector (Administration > General > Connectors) streams values and events as NDJSON",
    "nagios": "replace polling by a broker: let Nagios run a notification or OCSP command that posts to /webhook/nagios",
    "icinga": "subscribe to Icinga 2's event stream (/v1/events, types CheckResult, StateChange) in place of asking for objects",
    "netdata": "let Netdata export by Prometheus remote write (exporting.conf) and send alarms by its webhook",
    "scrape": "let Prometheus or an agent remote_write to /api/v1/write: no scrape is lost while Ninefold restarts",
    "sql": "use the database's change stream (PostgreSQL logical replication, MySQL binlog, both by Debezium into Kafka)",
    "rest": "ask the product for webhooks on change, and keep polling only to reconcile",
    "upload": "let the program that makes the files post them to /files on a schedule, or write to a folder that Ninefold follows",
    "file": "let the program log by OTLP or syslog instead of to a file, or put an OpenTelemetry Collector's filelog receiver beside it",
    "request_tracker_feed": "let a scrip of Request Tracker (On Transaction) post to /webhook/rt, and keep polling only to reconcile",
    "jira": "register a Jira webhook on issue created and updated to /webhook/jira",
    "redmine": "install Redmine's webhook plug-in, or read its Atom feed at a shorter interval",
    "servicenow": "let a ServiceNow business rule call /webhook/servicenow with an outbound REST message on insert and update",
    "postgresql": "log by syslog (log_destination = 'syslog', or jsonlog followed as a file), and keep polling only for statistics",
    "snmp": "poll less: send traps or informs, or stream with gNMI/OpenConfig telemetry where the device has it",
    "git": "add a push webhook to the repository in place of fetching it",
    "buildbot": "configure Buildbot's HttpStatusPush reporter to /webhook/buildbot",
    "kafka": "nothing better is needed than the topic; lower linger.ms of its producers for less delay",
}  # fmt: skip
_FINER: Mapping[str, str] = {
    "remote_write": "lower scrape_interval of the jobs that matter, and queue_config.batch_send_deadline to 2 s",
    "scrape": "lower `interval_s` of this source to 15 s where the target can bear it",
    "otlp": "set OTEL_METRIC_EXPORT_INTERVAL (60000 ms by default) to 15000",
    "otlp_grpc": "set OTEL_METRIC_EXPORT_INTERVAL (60000 ms by default) to 15000",
    "collectd_http": "set Interval 10 in collectd.conf, and StoreRates and a small BufferSize in write_http",
    "collectd_network": "set Interval 10 in collectd.conf, for the plug-ins that matter in their own blocks",
    "zabbix": "shorten the update interval of the items that matter; history is sent as it is measured",
    "statsd": "shorten the client's flush interval", "graphite": "shorten the sender's interval; its storage schema does not bind Ninefold",
    "sql": "poll more often: the query is incremental, so it costs an index look-up when nothing is new",
    "rest": "poll more often, with the cursor or If-Modified-Since so that an empty answer is cheap",
    "influx": "set interval = \"10s\" and flush_interval = \"10s\" in telegraf.conf",
    "mqtt": "let the device publish on change, or lower its telemetry period (teleperiod)",
    "postgresql": "lower `every_s` of this source: the statistics views cost a few milliseconds",
    "netdata": "set `update every = 10` of the exporting connector",
}  # fmt: skip
_SOONER: Mapping[str, str] = {
    "otlp": "set OTEL_BLRP_SCHEDULE_DELAY and OTEL_BSP_SCHEDULE_DELAY to 1000, and the collector's batch processor timeout to 1s",
    "otlp_grpc": "set OTEL_BLRP_SCHEDULE_DELAY and OTEL_BSP_SCHEDULE_DELAY to 1000, and the collector's batch processor timeout to 1s",
    "alertmanager": "lower group_wait and group_interval of the route to Ninefold; it folds alerts itself",
    "remote_write": "set queue_config.batch_send_deadline to 2 s and enough max_shards that the queue stays empty",
    "fluent_forward": "set flush_interval 1s in the forward output",
    "syslog": "send by TCP or TLS without a disk-assisted queue in between",
    "splunk_hec": "lower the forwarder's batch interval", "elasticsearch": "lower flush_interval of the shipper",
    "loki": "lower batchwait of Promtail or Alloy to 1s",
}  # fmt: skip
_WHOLE: Mapping[str, str] = {
    "remote_write": "raise queue_config.max_shards and capacity; Prometheus repeats from its WAL for two hours",
    "scrape": "let Prometheus or an agent in agent mode remote_write: its WAL fills what a failed scrape or a restart leaves out",
    "otlp": "give the collector's OTLP exporter sending_queue.storage (file_storage) and retry_on_failure",
    "otlp_grpc": "give the collector's OTLP exporter sending_queue.storage (file_storage) and retry_on_failure",
    "syslog": "send by TCP or TLS (RFC 5425) with a disk-assisted queue (rsyslog queue.type=LinkedList, queue.filename) in place of UDP",
    "snmp": "send informs in place of traps: the device repeats an inform until it is acknowledged",
    "statsd": "send by TCP, or aggregate in the client: UDP loses packets when it is busy",
    "graphite": "send by TCP through a carbon-relay with a queue on disk in place of UDP",
    "collectd_network": "use write_http in place of the network plug-in: UDP loses what nobody reads in time",
    "collectd_http": "raise BufferSize of write_http and let collectd retry (its write queue, WriteQueueLimitHigh)",
    "fluent_forward": "set require_ack_response and a buffer of type file in the forward output",
    "loki": "switch on the write-ahead log of Promtail or Alloy (wal.enabled)",
    "elasticsearch": "give the shipper a queue on disk (queue.disk of Beats, persistent queue of Logstash)",
    "splunk_hec": "switch on indexer acknowledgement (useACK) in the forwarder",
    "mqtt": "publish with QoS 1, so that the broker's persistent session keeps what comes while Ninefold restarts",
    "nats": "publish to a JetStream stream: core NATS forgets what nobody hears", "kafka": "produce with acks=all and enable.idempotence",
    "redis_streams": "raise MAXLEN of XADD so that entries are not trimmed before they are read",
    "rabbitmq": "declare the queue durable (quorum) and publish with confirms",
}  # fmt: skip
_PAST: Mapping[str, str] = {
    "remote_write": "read what Prometheus has kept (`promtool tsdb dump`, or /api/v1/query_range) and send it with its own times",
    "scrape": "what was never scraped has no past; where a Prometheus scrapes the same targets, read its /api/v1/query_range",
    "zabbix": "read history.get and trend.get of Zabbix' JSON-RPC API",
    "jira": "read /rest/api/2/search with a JQL on `updated` by a `rest` source",
    "servicenow": "read the Table API (/api/now/table/incident, by sys_updated_on) with a `rest` source",
    "redmine": "read /issues.json?status_id=*&sort=updated_on with a `rest` source",
    "request_tracker_feed": "begin the search of tickets earlier: Request Tracker keeps every transaction",
    "sql": "begin the cursor of the query earlier: the table still has its past",
    "rest": "begin the cursor earlier, as far as the product answers",
    "elasticsearch": "read the index with a point in time and search_after", "loki": "read /loki/api/v1/query_range of the old Loki",
    "splunk_hec": "export by /services/search/jobs/export", "influx": "export by /api/v2/query as CSV, or `influxd inspect export-lp`",
    "kafka": "begin a new consumer group at the earliest offset", "graphite": "read the whisper files by /render?format=json",
}  # fmt: skip
_GENERAL: Mapping[str, str] = {
    "extraction": "use a webhook, a message queue or OTLP of the product, so that it speaks by itself",
    "programmatic": "schedule the export: a job that posts the file to /files with a token of role ingest",
    "frequency": "let it deliver more often: what happens between two deliveries is not seen",
    "jitter": "look for a queue or a schedule that slips on the way; a steady rhythm is what makes silence visible",
    "delay": "send each record when it happens: shorten the batch and flush intervals on the way",
    "late records": "find the sender whose queue or clock holds records back; single late records make incidents incomplete",
    "completeness": "let the sender retry on 503 and queue on disk, and look into the quarantine for what it sends wrong",
    "history": "load what the product has kept: export it once and send it with `ninefold replay`",
    "schema": "agree on the fields with the owner of the source, and version changes; map fields by name in the mapping",
    "load": "ask less often, only for what has changed, or let the source push",
}


def advice(kind: str, extraction: str, term: str) -> str:
    """A sentence on how to regain the points a source of this kind lost in a term of its freedom."""
    special = {
        "extraction": _STREAMS,
        "load": _STREAMS,
        "programmatic": _STREAMS,
        "frequency": _FINER,
        "delay": _SOONER,
        "late records": _SOONER,
        "completeness": _WHOLE,
        "history": _PAST,
    }
    found = special.get(term, {}).get(kind)
    if found is None and extraction in ("poll", "file") and term in ("frequency", "delay"):
        found = _STREAMS.get(kind)
    if found is not None and term == "completeness":
        found += "; and look into the quarantine for what it sends wrong"
    return found or _GENERAL[term]
