"""What every process of CitySort does first: files that only this account can read, and no messages
of libraries that print credentials."""

from __future__ import annotations

import logging
import os
from typing import Any

# At debug level they print headers, addresses with signatures, parameters of statements and keys.
TALKATIVE = frozenset(
    {
        "boto3",
        "botocore",
        "google",
        "httpcore",
        "httpx",
        "psycopg",
        "pymysql",
        "requests",
        "requests_oauthlib",
        "s3transfer",
        "sqlalchemy",
        "urllib3",
    }
)
HIDDEN = "(hidden: messages of this library may hold credentials)"

_new_record = logging.getLogRecordFactory()


def keep_private() -> None:
    """Makes this process, and those that it starts, keep to themselves what they write.

    Levels of loggers are for whoever runs CitySort to set, in `python_logs` of dagster.yaml for
    instance; a record is made before any of them counts.
    """
    os.umask(0o077)
    logging.setLogRecordFactory(_record)


def _record(*arguments: Any, **more: Any) -> logging.LogRecord:
    record = _new_record(*arguments, **more)
    # logging.makeLogRecord makes an empty one and fills it in itself.
    unfinished = record.name is None
    if not unfinished and record.levelno < logging.ERROR and record.name.partition(".")[0] in TALKATIVE:
        record.msg, record.args, record.exc_info, record.stack_info = HIDDEN, None, None, None
    return record
