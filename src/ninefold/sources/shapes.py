"""The JSON of products that the usual keys would misread: what tells each apart, and what its fields mean; `webhook` lists them.

Anything else is read by `guessing` alone, and so is every field that a shape leaves open. Attributes carry OpenTelemetry's names
(``vcs.*``, ``cicd.*``, ``deployment.*``); a ticket's own words are ``ticket.status``, ``ticket.priority``, ``ticket.owner``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ninefold.model.severity import severity_of
from ninefold.sources.collectd_names import SEVERITIES
from ninefold.sources.guessing import status_of
from ninefold.sources.reading import text_of, time_of

Record = Mapping[str, Any]
_NETDATA = (
    "roles", "host", "unique_id", "alarm_id", "event_id", "when", "name", "chart", "family", "status", "old_status", "value", "old_value",
    "src", "duration", "non_clear_duration", "units", "info", "value_string", "old_value_string", "calc_expression", "calc_param_values",
    "total_warnings", "total_critical", "warn_alarms", "crit_alarms", "classification", "edit_command", "machine_guid",
)  # fmt: skip
"""The arguments of Netdata's alarm-notify.sh, in order (1.20 to 1.37 and later)."""
_NETDATA_LEAST = 22
_PRIORITIES = {"highest": "critical", "immediate": "critical", "urgent": "critical", "planning": "info", "normal": "info"}
_RT_HIGH, _RT_MEDIUM = 75, 25
"""Request Tracker calls 0 low, 50 medium and 100 high; what lies between goes to the nearer one."""
_CHECK_STATES = {"critical": "critical", "down": "critical", "unreachable": "high", "warning": "warning", "unknown": "warning"}
_BUILD_RESULTS = ("success", "warnings", "failure", "skipped", "exception", "retry", "cancelled")
_SERVICENOW_CLOSED = ("6", "7", "8", "resolved", "closed", "canceled", "cancelled")
_NETBOX_ENTITIES = {"device": "host", "virtualmachine": "host", "service": "service"}
_DEPLOYS = ("deploy", "release", "rollout")


@dataclass(frozen=True, slots=True)
class Shaped:
    """What a recognised record says.

    Attributes:
        kind: of the event.
        texts: title, body, severity, status, source_id, entity, as the sender words them; empty ones are left to guessing.
        time: in ns.
        severity: the severity's word where the sender's own is not one that everybody knows.
        attributes: beside those of the record.
        mark: what is the same in all records of one problem; empty leaves it to guessing.
    """

    kind: str
    texts: dict[str, str]
    time: int | None = None
    severity: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    mark: dict[str, str] = field(default_factory=dict)


def shape_of(record: Record) -> Shaped | None:
    """The reading of a record that is recognised, else None."""
    for recognise in _SHAPES:
        found = recognise(record)
        if found is not None:
            return found
    return None


def listed(items: list[Any]) -> dict[str, Any] | None:
    """Netdata's argument list as a record; None for any other list."""
    if not _NETDATA_LEAST <= len(items) <= len(_NETDATA) + 8 or not all(isinstance(item, str) for item in items) or not items[5].isdigit():
        return None
    return dict(zip(_NETDATA, items, strict=False))


def _at(record: Any, *paths: str) -> Any:
    """The first value that is not empty at one of these dotted paths."""
    for path in paths:
        value = record
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value not in (None, "", [], {}):
            return value
    return None


def _say(record: Any, *paths: str) -> str:
    return text_of(_at(record, *paths))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _first(value: Any) -> Any:
    """The first item of a list that has one, else the value itself."""
    return value[0] if isinstance(value, list) and value else value


def _texts(**texts: str) -> dict[str, str]:
    return {key: value for key, value in texts.items() if value}


def _time(record: Any, *paths: str) -> int | None:
    return next((time for path in paths if (time := time_of(_at(record, path)))), None)


def _service(name: str) -> str:
    return f"service:{name}" if name else ""


def _host(name: str) -> str:
    return f"host:{name}" if name else ""


def _deploys(*names: str) -> str:
    """deployment when a name says that something is deployed, else change."""
    return "deployment" if any(word in name.lower() for name in names for word in _DEPLOYS) else "change"


def _repository(record: Record) -> str:
    return _say(record, "repository.name", "project.name", "project.path_with_namespace")


def _vcs(record: Record, revision: str, ref: str, author: str) -> dict[str, str]:
    return _texts(**{
        "vcs.repository.name": _say(record, "repository.full_name", "project.path_with_namespace", "repository.name", "project.name"),
        "vcs.ref.head.revision": revision, "vcs.ref.head.name": ref.removeprefix("refs/heads/").removeprefix("refs/tags/"),
        "user.name": author,
    })  # fmt: skip


def _push(record: Record) -> Shaped | None:
    """A push of commits, branches or tags as GitHub, GitLab, Gitea and a post-receive hook send it."""
    commits, ref = record.get("commits"), record.get("ref")
    if not isinstance(commits, list) or not (isinstance(ref, str) or _at(record, "repository")):
        return None
    ref = text_of(ref)
    head = record.get("head_commit") or next(reversed(commits), None)
    message = _say(head, "message")
    revision = _say(record, "after", "checkout_sha") or _say(head, "id")
    gone = bool(revision) and not revision.strip("0")
    if not message:
        what = ref.removeprefix("refs/").replace("heads/", "branch ").replace("tags/", "tag ")
        message = f"{what} {'deleted' if gone else 'pushed'} in {_repository(record)}"
    author = _say(record, "pusher.name", "pusher.login", "user_username", "user_name", "sender.login") or _say(head, "author.name")
    texts = _texts(title=message, source_id="" if gone else revision, entity=_service(_repository(record)))
    return Shaped("change", texts, _time(head, "timestamp"), attributes=_vcs(record, "" if gone else revision, ref, author))


def _ping(record: Record) -> Shaped | None:
    """GitHub: the webhook was set up."""
    if "zen" not in record or "hook_id" not in record:
        return None
    name = _repository(record)
    texts = _texts(
        title=f"the webhook of {name or 'the organisation'} is connected", source_id=_say(record, "hook_id"), entity=_service(name)
    )
    return Shaped("change", texts, None, "info", {}, {"hook": _say(record, "hook_id")})


def _workflow(record: Record) -> Shaped | None:
    """GitHub Actions: a run that was requested, is in progress or completed."""
    run = record.get("workflow_run")
    if not isinstance(run, dict):
        return None
    name, result = _say(run, "name"), _say(run, "conclusion", "status")
    texts = _texts(
        title=f"{name} #{_say(run, 'run_number')} {result}: {_say(run, 'display_title', 'head_commit.message')}".removesuffix(": "),
        source_id=_say(run, "id"), entity=_service(_repository(record)), severity=result,
    )  # fmt: skip
    attributes = _vcs(record, _say(run, "head_sha"), _say(run, "head_branch"), _say(run, "actor.login", "triggering_actor.login"))
    attributes |= _pipeline(name, _say(run, "id"), result, _say(run, "html_url"))
    time = _time(run, "updated_at", "run_started_at", "created_at")
    return Shaped(_deploys(name), texts, time, _of_result(result), attributes, {"run": _say(run, "id")})


def _pipeline(name: str, run: str, result: str, url: str) -> dict[str, str]:
    return _texts(**{
        "cicd.pipeline.name": name, "cicd.pipeline.run.id": run, "cicd.pipeline.result": result, "cicd.pipeline.run.url.full": url,
    })  # fmt: skip


def _of_result(result: str) -> str:
    return "warning" if result.lower() in ("failure", "failed", "error", "exception", "timed_out", "startup_failure") else "info"


def _deployment(record: Record) -> Shaped | None:
    """GitHub's deployment and deployment_status, GitLab's deployment."""
    made = record.get("deployment")
    if record.get("object_kind") == "deployment":
        result, environment = _say(record, "status"), _say(record, "environment")
        number, revision = _say(record, "deployment_id"), _say(record, "sha", "short_sha")
        attributes = _vcs(record, revision, _say(record, "ref"), _say(record, "user.username", "user.name"))
        about, time = _say(record, "commit_title"), _time(record, "status_changed_at")
    elif isinstance(made, dict):
        result, environment = _say(record, "deployment_status.state") or "created", _say(made, "environment")
        number = _say(made, "id")
        attributes = _vcs(
            record, _say(made, "sha"), _say(made, "ref"), _say(record, "deployment_status.creator.login", "deployment.creator.login")
        )
        about = _say(made, "description")
        time = _time(record, "deployment_status.created_at", "deployment.created_at")
    else:
        return None
    name = _repository(record)
    title = f"{name} to {environment or 'its environment'}: {result}" + (f" ({about})" if about else "")
    attributes |= _texts(**{"deployment.environment.name": environment, "deployment.id": number, "deployment.status": result})
    texts = _texts(title=title, source_id=number, entity=_service(name), severity=result)
    return Shaped("deployment", texts, time, _of_result(result), attributes, {"deployment": number})


def _gitlab_pipeline(record: Record) -> Shaped | None:
    """GitLab CI: a pipeline's change of status."""
    about = record.get("object_attributes")
    if record.get("object_kind") != "pipeline" or not isinstance(about, dict):
        return None
    number, result = _say(about, "id"), _say(about, "status")
    name = _say(about, "name") or "pipeline"
    texts = _texts(
        title=f"{name} #{_say(about, 'iid', 'id')} {result}: {_say(record, 'commit.title', 'commit.message')}".removesuffix(": "),
        source_id=number, entity=_service(_repository(record)), severity=result,
    )  # fmt: skip
    attributes = _vcs(record, _say(about, "sha"), _say(about, "ref"), _say(record, "user.username", "user.name"))
    attributes |= _pipeline(name, number, result, _say(about, "url"))
    stages = " ".join(_say(build, "environment.name", "stage") for build in _list(record.get("builds")))
    time = _time(about, "finished_at", "created_at")
    return Shaped(_deploys(name, stages), texts, time, _of_result(result), attributes, {"pipeline": number})


def _buildbot(record: Record) -> Shaped | None:
    """Buildbot's HttpStatusPush: a build that started or finished. Its properties are ``[value, where it comes from]``."""
    builder = record.get("builder")
    if not isinstance(builder, dict) or "buildid" not in record or "state_string" not in record:
        return None
    raw = record.get("properties")
    properties = {key: text_of(_first(value)) for key, value in raw.items()} if isinstance(raw, dict) else {}
    stamp: Any = next(iter(_list(_at(record, "buildset.sourcestamps"))), {})
    number, name = _say(record, "buildid"), _say(builder, "name")
    code = record.get("results")
    known = isinstance(code, int) and 0 <= code < len(_BUILD_RESULTS)
    result = _BUILD_RESULTS[code] if known and isinstance(code, int) else "started"
    title = f"{name} #{_say(record, 'number')} {result}: {_say(record, 'state_string')}"
    project = properties.get("project") or _say(stamp, "project")
    author = properties.get("owner") or next(map(text_of, _list(_first(_at(record, "properties.owners")))), "")
    attributes = _texts(**{
        "vcs.repository.name": properties.get("repository") or _say(stamp, "repository"), "user.name": author,
        "vcs.ref.head.revision": properties.get("got_revision") or properties.get("revision") or _say(stamp, "revision"),
        "vcs.ref.head.name": properties.get("branch") or _say(stamp, "branch"),
    })  # fmt: skip
    attributes |= _pipeline(name, number, result, _say(record, "url"))
    texts = _texts(title=title, body=_say(record, "buildset.reason"), source_id=number, entity=_service(project), severity=result)
    time = _time(record, "complete_at", "started_at")
    return Shaped(_deploys(name), texts, time, _of_result(result), attributes, {"build": number, "builder": name})


def _netbox(record: Record) -> Shaped | None:
    """NetBox: an object of the inventory was created, updated or deleted."""
    happened, data, model = _say(record, "event"), record.get("data"), _say(record, "model")
    if happened not in ("created", "updated", "deleted") or not model or not isinstance(data, dict):
        return None
    name = _say(data, "name", "display")
    entity = f"{_NETBOX_ENTITIES.get(model, model)}:{name}" if name else ""
    texts = _texts(title=f"{model} {name} {happened}", source_id=_say(record, "request_id"), entity=entity)
    attributes = _texts(**{"user.name": _say(record, "username"), "change.action": happened})
    return Shaped("change", texts, _time(record, "timestamp"), "info", attributes, {"model": model, "object": _say(data, "id")})


def _ticket(
    number: str, title: str, status: str, priority: str, time: int | None, *, done: bool, body: str = "", owner: str = "", entity: str = "",
    severity: str = "",
) -> Shaped:  # fmt: skip
    word = priority.partition(" - ")[0].strip()
    severity = severity or _PRIORITIES.get(word.lower()) or severity_of(word)
    texts = _texts(title=title, body=body, severity=priority, source_id=number, entity=entity)
    attributes = _texts(**{"ticket.status": status, "ticket.priority": priority, "ticket.owner": owner})
    shaped = Shaped("ticket", texts, time, severity, attributes, _texts(ticket=number))
    shaped.texts["status"] = "resolved" if done else "open"
    return shaped


def _request_tracker(record: Record) -> Shaped | None:
    """Request Tracker: what a scrip posts about a transaction."""
    if not _at(record, "ticket") or not isinstance(record.get("transaction"), dict) or "queue" not in record:
        return None
    status, priority = _say(record, "status"), _say(record, "priority")
    level = int(priority) if priority.isdecimal() and len(priority) < 9 else 0
    severity = "high" if level >= _RT_HIGH else "warning" if level >= _RT_MEDIUM else "info"
    return _ticket(
        _say(record, "ticket"), _say(record, "subject"), status, priority, _time(record, "transaction.created"),
        done=status in ("resolved", "rejected", "deleted"), body=_say(record, "transaction.content"), owner=_say(record, "owner"),
        severity=severity,
    )  # fmt: skip


def _redmine(record: Record) -> Shaped | None:
    """Redmine: an issue as its API and its webhook plug-in give it."""
    issue = _at(record, "payload.issue", "issue") or record
    if not isinstance(issue, dict) or not isinstance(issue.get("tracker"), dict) or "subject" not in issue:
        return None
    status = _say(issue, "status.name")
    return _ticket(
        _say(issue, "id"), _say(issue, "subject"), status, _say(issue, "priority.name"), _time(issue, "updated_on", "created_on"),
        done=_at(issue, "status.is_closed") is True or status.lower() in ("closed", "resolved", "rejected"),
        body=_say(issue, "description"), owner=_say(issue, "assigned_to.name", "assignee.login"),
    )  # fmt: skip


def _jira(record: Record) -> Shaped | None:
    """Jira: an issue in a webhook, or alone."""
    issue = _at(record, "issue") or record
    fields = issue.get("fields") if isinstance(issue, dict) else None
    if not isinstance(fields, dict) or "summary" not in fields:
        return None
    status = _say(fields, "status.name")
    done = _say(fields, "status.statusCategory.key") == "done" or bool(_at(fields, "resolution"))
    return _ticket(
        _say(issue, "key", "id"), _say(fields, "summary"), status, _say(fields, "priority.name"),
        _time(record, "timestamp") or _time(fields, "updated", "created"), done=done or status_of(status) == "resolved",
        body=_say(fields, "description"), owner=_say(fields, "assignee.displayName", "assignee.name"),
    )  # fmt: skip


def _servicenow(record: Record) -> Shaped | None:
    """ServiceNow: a record of a task table, as a business rule posts it or a client creates it."""
    if "short_description" not in record:
        return None
    state = _say(record, "state", "incident_state")
    number = _say(record, "number", "sys_id", "correlation_id")
    return _ticket(
        number, _say(record, "short_description"), state, _say(record, "priority", "urgency", "severity"),
        _time(record, "sys_updated_on", "closed_at", "opened_at", "sys_created_on"), done=state.lower() in _SERVICENOW_CLOSED,
        body=_say(record, "description"), owner=_say(record, "assigned_to.display_value", "assigned_to"),
        entity=_say_ci(record),
    )  # fmt: skip


def _say_ci(record: Record) -> str:
    name = _say(record, "cmdb_ci.display_value", "cmdb_ci.name", "business_service.display_value", "business_service")
    return _service(name) if name and not _at(record, "cmdb_ci.link") else ""


def _check(record: Record) -> Shaped | None:
    """A notification command of Nagios, Icinga or Checkmk: the check's output changes with its state, host and service do not."""
    happened, host = _say(record, "type", "notification_type", "notificationtype"), _say(record, "host", "hostname")
    state = _say(record, "state", "status", "servicestate", "hoststate")
    if not happened or not host or not state or "output" not in record:
        return None
    service, output = _say(record, "service", "servicedesc"), _say(record, "output")
    clear = state.upper() in ("OK", "UP")
    status = "acknowledged" if happened.upper().startswith("ACK") else "resolved" if clear or happened.upper() == "RECOVERY" else "firing"
    title = _say(record, "summary") or (f"{service} on {host} is {state}" if service else f"{host} is {state}")
    number = _say(record, "problemid", "id")
    texts = _texts(
        title=title, body=output, severity=_say(record, "severity") or state, status=status,
        source_id="" if number == "0" else number, entity=_host(host)
    )  # fmt: skip
    time = _time(record, "time", "timestamp", "short_date_time", "long_date_time")
    return Shaped("alert", texts, time, _CHECK_STATES.get(state.lower(), "info"), {}, _texts(host=host, service=service))


def _netdata(record: Record) -> Shaped | None:
    """Netdata: the arguments of alarm-notify, see `listed`."""
    if "calc_expression" not in record or "chart" not in record or "old_status" not in record:
        return None
    host, name, state = _say(record, "host"), _say(record, "name"), _say(record, "status")
    texts = _texts(
        title=f"{name} = {_say(record, 'value_string') or _say(record, 'value')}", body=_say(record, "info"), severity=state,
        status="resolved" if state in ("CLEAR", "REMOVED") else "firing", source_id=_say(record, "unique_id"), entity=_host(host),
    )  # fmt: skip
    return Shaped("alert", texts, _time(record, "when"), severity_of(state), {}, _texts(host=host, chart=_say(record, "chart"), alarm=name))


def _collectd(record: Record) -> Shaped | None:
    """collectd: a threshold notification of write_http, in the form of an Alertmanager's alert."""
    labels, notes = record.get("labels"), record.get("annotations")
    name, state = _say(labels, "alertname"), _say(labels, "severity")
    if not name.startswith("collectd_") or state not in SEVERITIES or not isinstance(labels, dict):
        return None
    texts = _texts(
        title=_say(notes, "summary") or name, severity=state, status="resolved" if state == "OKAY" else "firing",
        entity=_host(_say(labels, "instance")), source_id=name,
    )  # fmt: skip
    same = {key: text_of(value) for key, value in labels.items() if key != "severity"} | _texts(data_source=_say(notes, "DataSource"))
    return Shaped("alert", texts, _time(record, "startsAt"), SEVERITIES[state], {}, same)


def _wazuh(record: Record) -> Shaped | None:
    """Wazuh: an alert of the integrator, levels 0 to 15."""
    level = _at(record, "rule.level")
    if not isinstance(level, int) or not _at(record, "rule.description") or not isinstance(record.get("agent"), dict):
        return None
    severity = "critical" if level >= 15 else "high" if level >= 12 else "warning" if level >= 7 else "info"
    rule, host = _say(record, "rule.id"), _say(record, "agent.name")
    texts = _texts(
        title=_say(record, "rule.description"), body=_say(record, "full_log"), severity=text_of(level), source_id=_say(record, "id"),
        entity=_host(host), status="firing",
    )  # fmt: skip
    return Shaped("alert", texts, _time(record, "timestamp"), severity, {}, _texts(rule=rule, host=host))


def _pagerduty(record: Record) -> Shaped | None:
    """PagerDuty: an incident in a webhook of version 3."""
    happened, data = _say(record, "event.event_type"), _at(record, "event.data")
    if not happened.startswith("incident.") or not isinstance(data, dict):
        return None
    texts = _texts(
        title=_say(data, "title", "summary"), severity=_say(data, "priority.summary", "urgency"), status=_say(data, "status"),
        source_id=_say(data, "id"), entity=_service(_say(data, "service.summary")),
    )  # fmt: skip
    return Shaped("alert", texts, _time(record, "event.occurred_at"), "", {}, {"incident": _say(data, "id")})


def _slack(record: Record) -> Shaped | None:
    """A Slack message, as tools send it that know no other webhook; the colour of its attachment says how bad it is."""
    first = _first(record.get("attachments"))
    if not isinstance(first, dict) or not (_at(record, "text") or _at(first, "title", "fallback", "text")):
        return None
    if not {"color", "fallback", "fields", "blocks", "title"} & first.keys():
        return None
    colour = _say(first, "color").lower()
    status = "resolved" if colour in ("good", "#36a64f", "#2eb886") else "firing"
    severity = {"danger": "critical", "#a30200": "critical", "#d63232": "critical", "warning": "warning", "#daa038": "warning"}
    texts = _texts(
        title=_say(record, "text") or _say(first, "title", "fallback", "text"), body=_say(first, "text", "fallback"), severity=colour,
        status=status,
    )  # fmt: skip
    return Shaped("alert", texts, _time(first, "ts"), severity.get(colour, "info"))


_SHAPES: Iterable[Callable[[Record], Shaped | None]] = (
    _ping, _workflow, _deployment, _gitlab_pipeline, _push, _buildbot, _netbox, _request_tracker, _redmine, _jira, _servicenow, _netdata,
    _collectd, _check, _wazuh, _pagerduty, _slack,
)  # fmt: skip
