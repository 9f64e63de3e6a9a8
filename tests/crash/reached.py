"""The steps that are on the way of no job of the sweep, and what has them; a test finds any other that none has."""

from __future__ import annotations

from jobsphere.durable import Point

ELSEWHERE = {
    Point.RAY_INTENDED: "agents on a Ray cluster",
    Point.NODE_TOLD: "agents of a cluster",
    Point.SLURM_SUBMIT: "jobs of Slurm",
    Point.SERVER_DATABASE: "servers that share a folder",
    Point.SECRETS_KEY: "secrets",
    Point.OBJECT_PUT: "blobs in a bucket",
    Point.OBJECT_DELETED: "blobs in a bucket",
    Point.DISK_FILE: "the disk of a project, by a command",
    Point.ATTEMPT_RESERVE: "a full disk",
    Point.BLOB_KEPT: "a blob that a new job names in the moment in which another's data goes",
}
