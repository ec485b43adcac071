"""PromQL over the store, so that Grafana and people's own dashboards and rules read Ninefold as they read Prometheus.

`select` finds series and loads samples, `evaluate` walks the parsed expression, `windows`, `functions` and `operators` compute on whole
matrices (series by steps). What Ninefold calls a series' name and attributes are Prometheus' name and labels; characters a label may not
have become underscores (``service.name`` -> ``service_name``).
"""
