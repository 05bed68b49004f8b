"""What a person is told holds no password."""

from __future__ import annotations

import pytest

from raysweep.errors import scrubbed


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:hunter2@host:5000/x", "http://***@host:5000/x"),
        ("http://hunter2@host", "http://***@host"),
        ("postgresql://me:hun/ter2@host/db", "postgresql://***@host/db"),
        ("s3://KEY:hunter2/+@bucket/folder?endpoint_override=h:9", "s3://***@bucket/folder?endpoint_override=h:9"),
        ("http://host/x?password=hunter2&a=1", "http://host/x?password=***&a=1"),
        ("gs://b/x?a=1&X-Goog-Signature=hunter2", "gs://b/x?a=1&X-Goog-Signature=***"),
        ("http://me:p@ss@h:1/x", "http://***@h:1/x"),
        ("mssql://h;password=hunter2;a=1", "mssql://h;password=***;a=1"),
        ("http://host?access_token=hunter2", "http://host?access_token=***"),
        ("run --tracking=http://me:hunter2@h --mirror s3://k:hunter2@b", "run --tracking=http://***@h --mirror s3://***@b"),
        ("sqlite:////home/me@corp/mlflow.db", "sqlite:////home/me@corp/mlflow.db"),
        ("models:/digits@best", "models:/digits@best"),
        ("http://127.0.0.1:5000/#/experiments/1?tags=a", "http://127.0.0.1:5000/#/experiments/1?tags=a"),
    ],
)  # fmt: skip
def test_passwords_are_taken_out_of_uris_and_nothing_else(uri: str, shown: str) -> None:
    assert scrubbed(uri) == shown
