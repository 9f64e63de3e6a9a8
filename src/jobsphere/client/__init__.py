"""A Python client of the service, for programs and notebooks: :class:`Client`, and :class:`AsyncClient` for asyncio.

::

    with jobsphere.Client() as client:
        job = client.run("config.yaml")
        for message in job.logs():
            print(message.text)
        job.wait().check()
        job.download()

Both are one source: what stands in ``_sync`` is made from ``_async`` by ``make fmt``.
"""

from jobsphere.client._async.client import AsyncClient
from jobsphere.client._async.job import AsyncJob
from jobsphere.client._sync.client import Client
from jobsphere.client._sync.job import Job
from jobsphere.client.changes import Changes
from jobsphere.client.facts import FileFacts, JobFacts, LogMessage, Result
from jobsphere.client.failure import JobFailedError

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "Changes",
    "Client",
    "FileFacts",
    "Job",
    "JobFacts",
    "JobFailedError",
    "LogMessage",
    "Result",
]
