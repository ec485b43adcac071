"""Who is on call, and how an incident reaches them: schedules, escalation policies, pages."""

from ninefold.oncall.room import OnCall

__all__ = ["OnCall"]
