"""A job as notebooks show it."""

from __future__ import annotations

from html import escape

from jobsphere.client.facts import JobFacts


def as_html(job: JobFacts) -> str:
    """A small table; every text is escaped, for names and details are the users'."""
    rows = {
        "Job": job.id,
        "Name": job.name,
        "Status": str(job.status),
        "Details": job.details,
        "Command": job.cmd,
        "Instance type": job.instance_type,
        "Started": f"{job.started_at:%Y-%m-%d %H:%M:%S} UTC" if job.started_at else "",
        "Took": job.took,
        "Outputs": ", ".join(file.path for file in job.files if file.kind == "output"),
    }
    body = "".join(f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in rows.items() if text)
    return f"<table>{body}</table>"
