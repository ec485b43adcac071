"""What `rest` knows of products: the settings a preset stands for. What the configuration sets itself goes before them.

The records are cut down to what an operations team reads of a ticket; `issue_id` makes all states of one ticket the same thing.
"""

from __future__ import annotations

from typing import Any

_ISSUE = (
    "{issue_id: to_string(html_url || web_url || id), number: to_string(number || iid), title: title, body: body || description,"
    " status: state, labels: labels[].name || labels, author: user.login || author.username, url: html_url || web_url,"
    " created: created_at, timestamp: updated_at, closed: closed_at, kind: 'ticket'}"
)
_DEPLOYMENT = (
    "{deployment_id: to_string(id), title: join(' ', ['deployed', ref || '?', 'to', environment.name || environment || '?']),"
    " status: status, version: sha, environment: environment.name || environment, actor: user.username || creator.login,"
    " created: created_at, timestamp: updated_at, kind: 'deployment'}"
)

PRESETS: dict[str, dict[str, Any]] = {
    "redmine": {
        "path": "/issues.json",
        "params": {"updated_on": ">={cursor}", "status_id": "*", "sort": "updated_on:asc", "limit": "100"},
        "records": "issues[].{issue_id: to_string(id), title: subject, body: description, status: status.name, severity: priority.name,"
        " project: project.name, tracker: tracker.name, author: author.name, assignee: assigned_to.name,"
        " fields: custom_fields[].{name: name, value: value}, created: created_on, timestamp: updated_on, kind: 'ticket'}",
        "cursor": "timestamp",
        "paging": "offset",
        "page_size": 100,
        "ascending": True,
    },
    "jira": {
        "path": "/rest/api/2/search",
        "params": {
            "jql": 'updated >= "{cursor}" ORDER BY updated ASC',
            "maxResults": "100",
            "fields": "summary,description,status,priority,project,issuetype,creator,assignee,labels,created,updated",
        },
        "records": "issues[].{issue_id: key, title: fields.summary, body: fields.description, status: fields.status.name,"
        " severity: fields.priority.name, project: fields.project.key, type: fields.issuetype.name, author: fields.creator.displayName,"
        " assignee: fields.assignee.displayName, labels: fields.labels, created: fields.created, timestamp: fields.updated,"
        " kind: 'ticket'}",
        "cursor": "timestamp",
        "cursor_format": "%Y/%m/%d %H:%M",
        "start": "1970-01-02T00:00:00Z",
        "paging": "offset",
        "offset_param": "startAt",
        "page_size": 100,
        "ascending": True,
    },
    "servicenow": {
        "path": "/api/now/table/incident",
        "params": {
            "sysparm_query": "sys_updated_on>={cursor}^ORDERBYsys_updated_on",
            "sysparm_limit": "100",
            "sysparm_exclude_reference_link": "true",
            "sysparm_display_value": "false",
        },
        "records": "result[].{issue_id: number, title: short_description, body: description, state: state, severity: severity,"
        " priority: priority, urgency: urgency, category: category, service: business_service, caller: caller_id,"
        " assignee: assigned_to, group: assignment_group, created: sys_created_on, timestamp: sys_updated_on, kind: 'ticket'}",
        "cursor": "timestamp",
        "cursor_format": "%Y-%m-%d %H:%M:%S",
        "start": "1970-01-02T00:00:00Z",
        "paging": "offset",
        "offset_param": "sysparm_offset",
        "page_size": 100,
        "ascending": True,
    },
    "github": {
        "path": "/repos/{repository}/issues",
        "headers": {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"},
        "params": {"since": "{cursor}", "state": "all", "sort": "updated", "direction": "asc", "per_page": "100"},
        "records": f"[].{_ISSUE}",
        "cursor": "timestamp",
        "paging": "link",
    },
    "github_deployments": {
        "path": "/repos/{repository}/deployments",
        "headers": {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"},
        "params": {"per_page": "100"},
        "records": f"[].{_DEPLOYMENT}",
        "paging": "none",
    },
    "gitlab": {
        "path": "/api/v4/projects/{repository}/issues",
        "params": {"updated_after": "{cursor}", "order_by": "updated_at", "sort": "asc", "scope": "all", "per_page": "100"},
        "records": f"[].{_ISSUE}",
        "cursor": "timestamp",
        "paging": "link",
    },
    "gitlab_deployments": {
        "path": "/api/v4/projects/{repository}/deployments",
        "params": {"updated_after": "{cursor}", "order_by": "updated_at", "sort": "asc", "per_page": "100"},
        "records": f"[].{_DEPLOYMENT}",
        "cursor": "timestamp",
        "paging": "link",
    },
}
