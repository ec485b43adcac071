"""What git, CI and ticket systems send, value by value, with no mapping configured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from webhook_events import Seen, captured, read, seen

from ninefold.ground.clock import parse


def test_what_a_build_changed_and_by_whom(data: Path) -> None:
    build = captured(data, "buildbot/POST_http_status_push_02")["attributes"]
    assert {key: build[key] for key in build if key.startswith(("vcs.", "cicd.", "user."))} == {
        "vcs.repository.name": "git://x/checkout", "vcs.ref.head.revision": "abc123", "vcs.ref.head.name": "main", "user.name": "alice",
        "cicd.pipeline.name": "deploy", "cicd.pipeline.run.id": "1", "cicd.pipeline.result": "failure",
        "cicd.pipeline.run.url.full": "http://127.0.0.1:21010/#/builders/1/builds/1",
    }  # fmt: skip
    push = captured(data, "git/POST_post_receive_push_01")["attributes"]
    assert {key: push[key] for key in push if key.startswith(("vcs.", "user."))} == {
        "vcs.repository.name": "lab/checkout", "vcs.ref.head.revision": "fba3a3545a6eaeb68e75bca5d5f547973205a08e",
        "vcs.ref.head.name": "main", "user.name": "alice",
    }  # fmt: skip


def test_a_tickets_own_words(data: Path) -> None:
    ticket = captured(data, "request_tracker/POST_scrip_webhook_02")
    assert [ticket["attributes"][f"ticket.{key}"] for key in ("status", "priority", "owner")] == ["new", "80", "aiops"]
    body = json.loads((data / "payloads/request_tracker/POST_scrip_webhook_02.body.json").read_bytes())
    (done,) = read("request_tracker", body | {"status": "resolved"})
    assert (done["status"], done["fingerprint"]) == ("resolved", ticket["fingerprint"])


def test_redmine_issue_list_and_webhook(data: Path) -> None:
    answers = [(data / f"payloads/redmine/{name}.http.txt").read_bytes().partition(b"\r\n\r\n")[2] for name in ("GET_issue", "GET_issues")]
    single, listed = (read("redmine", body)[0] for body in answers)
    expected = Seen("ticket", "[AIOps] checkout 5xx", "high", "High", "", "", "1", parse("2026-11-22T12:50:22Z"))
    assert seen(single) == seen(listed) == expected
    issue = json.loads(answers[0])["issue"]
    closed = issue | {"status": {"id": 5, "name": "Closed", "is_closed": True}, "priority": {"id": 5, "name": "Immediate"}}
    (event,) = read("redmine", {"payload": {"action": "updated", "issue": closed, "url": "http://redmine/issues/1"}})
    assert (event["status"], event["severity"], event["fingerprint"]) == ("resolved", "critical", single["fingerprint"])
    assert event["attributes"]["ticket.status"] == "Closed"


def test_jira_webhook() -> None:
    fields = {
        "summary": "checkout 5xx", "description": "p95 up", "priority": {"name": "Highest"}, "assignee": {"displayName": "Alice"},
        "status": {"name": "In Progress", "statusCategory": {"key": "indeterminate"}}, "project": {"key": "OPS"},
        "issuetype": {"name": "Incident"},
    }  # fmt: skip
    body = {
        "timestamp": 1795354777123,
        "webhookEvent": "jira:issue_updated",
        "user": {"displayName": "Bob"},
        "issue": {"id": "1", "key": "OPS-7", "fields": fields},
    }
    (event,) = read("jira", body)
    assert seen(event) == Seen("ticket", "checkout 5xx", "critical", "Highest", "", "", "OPS-7", parse("2026-11-22T13:39:37.123Z"))
    fields["status"] = {"name": "Done", "statusCategory": {"key": "done"}}
    (done,) = read("jira", body)
    assert (done["status"], done["fingerprint"], done["attributes"]["ticket.owner"]) == ("resolved", event["fingerprint"], "Alice")


def test_servicenow_business_rule() -> None:
    record = {
        "number": "INC0010023", "sys_id": "9d385017c611228701d22104cc95c371", "short_description": "checkout 5xx", "state": "2",
        "priority": "1 - Critical", "sys_updated_on": "2026-11-22 13:40:00", "assigned_to": {"display_value": "Alice"},
        "cmdb_ci": {"display_value": "checkout"},
    }  # fmt: skip
    (event,) = read("servicenow", record)
    assert seen(event) == Seen(
        "ticket", "checkout 5xx", "critical", "1 - Critical", "", "service:checkout", "INC0010023", parse("2026-11-22T13:40:00Z")
    )
    (done,) = read("servicenow", record | {"state": "Resolved"})
    assert (done["status"], done["fingerprint"]) == ("resolved", event["fingerprint"])


def test_gitlab_and_gitea_pushes() -> None:
    commit = {
        "id": "da1560886d4f",
        "message": "fix cart\n\nlong text",
        "timestamp": "2026-11-22T13:00:00+01:00",
        "author": {"name": "alice"},
    }
    project = {"name": "cart", "path_with_namespace": "shop/cart"}
    gitlab = {
        "object_kind": "push",
        "ref": "refs/heads/main",
        "checkout_sha": "da1560886d4f",
        "user_username": "alice",
        "project": project,
        "commits": [commit],
    }
    (event,) = read("gitlab", gitlab)
    assert seen(event) == Seen("change", "fix cart", "info", "", "", "service:cart", "da1560886d4f", parse("2026-11-22T12:00:00Z"))
    assert event["attributes"]["vcs.repository.name"] == "shop/cart"
    repository = {"name": "cart", "full_name": "shop/cart"}
    gitea = {"ref": "refs/heads/main", "after": "da1560886d4f", "repository": repository, "pusher": {"login": "alice"}, "commits": [commit]}
    (event,) = read("gitea", gitea)
    assert (event["title"], event["source_id"], event["attributes"]["user.name"]) == ("fix cart", "da1560886d4f", "alice")
    (ping,) = read("github", {"zen": "Design for failure.", "hook_id": 9, "hook": {"name": "web"}, "repository": repository})
    assert (ping["kind"], ping["title"], ping["entity"]) == ("change", "the webhook of cart is connected", "service:cart")
    (gone,) = read("github", {"ref": "refs/heads/old", "after": "0" * 40, "deleted": True, "repository": repository, "commits": []})
    assert (gone["kind"], gone["title"], gone["source_id"]) == ("change", "branch old deleted in cart", "")


def test_github_actions_and_deployments() -> None:
    repository = {"name": "cart", "full_name": "shop/cart"}
    run = {
        "id": 30433642, "name": "Build", "run_number": 562, "head_branch": "main", "head_sha": "acb5820c", "status": "in_progress",
        "conclusion": None, "display_title": "fix cart", "html_url": "https://github.com/shop/cart/actions/runs/30433642",
        "actor": {"login": "alice"}, "run_started_at": "2026-11-22T13:00:00Z", "updated_at": "2026-11-22T13:00:05Z",
    }  # fmt: skip
    (started,) = read("github", {"action": "in_progress", "workflow_run": run, "repository": repository})
    assert seen(started) == Seen(
        "change", "Build #562 in_progress: fix cart", "info", "in_progress", "", "service:cart", "30433642", parse("2026-11-22T13:00:05Z")
    )
    end = run | {"name": "Build", "status": "completed", "conclusion": "failure", "updated_at": "2026-11-22T13:04:00Z"}
    (ended,) = read("github", {"action": "completed", "workflow_run": end, "repository": repository})
    assert (ended["severity"], ended["severity_raw"], ended["fingerprint"]) == ("warning", "failure", started["fingerprint"])
    assert [ended["attributes"][key] for key in ("vcs.ref.head.revision", "user.name", "cicd.pipeline.result")] == [
        "acb5820c",
        "alice",
        "failure",
    ]
    made = {
        "id": 7,
        "sha": "acb5820c",
        "ref": "main",
        "environment": "production",
        "description": None,
        "creator": {"login": "alice"},
        "created_at": "2026-11-22T13:05:00Z",
    }
    (created,) = read("github", {"action": "created", "deployment": made, "repository": repository})
    state = {"state": "success", "environment": "production", "created_at": "2026-11-22T13:06:00Z", "creator": {"login": "bot"}}
    (done,) = read("github", {"action": "created", "deployment_status": state, "deployment": made, "repository": repository})
    assert seen(done) == Seen(
        "deployment", "cart to production: success", "info", "success", "", "service:cart", "7", parse("2026-11-22T13:06:00Z")
    )
    assert done["fingerprint"] == created["fingerprint"]
    assert done["attributes"]["deployment.environment.name"] == "production"


def test_gitlab_pipeline_and_deployment() -> None:
    project = {"name": "cart", "path_with_namespace": "shop/cart"}
    about = {
        "id": 31,
        "iid": 3,
        "ref": "main",
        "sha": "bcbb5ec3",
        "status": "failed",
        "created_at": "2026-11-22 12:00:00 UTC",
        "finished_at": "2026-11-22 12:05:00 UTC",
    }
    body = {
        "object_kind": "pipeline", "object_attributes": about, "user": {"username": "alice"}, "project": project,
        "commit": {"title": "fix cart"}, "builds": [{"stage": "deploy", "name": "production"}],
    }  # fmt: skip
    (event,) = read("gitlab", body)
    assert seen(event) == Seen(
        "deployment", "pipeline #3 failed: fix cart", "warning", "failed", "", "service:cart", "31", parse("2026-11-22T12:05:00Z")
    )
    deployed: dict[str, Any] = {
        "object_kind": "deployment", "status": "success", "status_changed_at": "2026-11-22 12:06:00 +0000", "deployment_id": 15,
        "environment": "staging", "project": project, "short_sha": "bcbb5ec3", "user": {"username": "alice"}, "commit_title": "fix cart",
    }  # fmt: skip
    (event,) = read("gitlab", deployed)
    assert seen(event) == Seen(
        "deployment", "cart to staging: success (fix cart)", "info", "success", "", "service:cart", "15", parse("2026-11-22T12:06:00Z")
    )
    assert event["attributes"]["vcs.ref.head.revision"] == "bcbb5ec3"
