"""The program of a reading process: takes requests on its standard input until that ends, answers
each with an extraction. The process that starts it is `isolation.ReaderProcess`."""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import resource
import sys
import threading
from pathlib import Path
from typing import BinaryIO

from citysort_dagster.pipeline.isolation import OUT_OF_MEMORY, READY


def main() -> None:
    """Serves until standard input ends. Arguments: memory limit in MB, seconds for a document,
    characters kept of a text."""
    memory_mb, seconds, max_characters = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what parsers print is not an answer
    limit(memory_mb * 1_000_000)

    # Loaded under the limits, and once for all documents.
    from citysort_dagster.pipeline.reading import read_document

    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(sys.stdin.buffer, requests), daemon=True).start()
    answers.write(READY)
    answers.flush()
    while True:
        request = json.loads(requests.get())
        limit_time(seconds)
        os.ftruncate(2, 0)  # only the last words on this document are of interest
        os.lseek(2, 0, os.SEEK_SET)
        try:
            extraction = read_document(Path(request["path"]), request["filename"], max_characters)
            answer = json.dumps(extraction._asdict()).encode()
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        answers.write(answer + b"\n")
        answers.flush()


def limit(memory_bytes: int) -> None:
    """Bounds the memory of this process where the system enforces it, and its files: a crash must
    not leave a core file with a document in it."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_time(seconds: float) -> None:
    """Bounds the processor time of this process from now on. Whoever started it watches the clock; but a
    parser that lets no other thread of Python run would outlive them, and not notice that they have gone."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    until = math.ceil(used.ru_utime + used.ru_stime + seconds) + 1
    with contextlib.suppress(ValueError, OSError):  # it is bound more tightly already
        resource.setrlimit(resource.RLIMIT_CPU, (until, most))


def _receive(standard_input: BinaryIO, requests: queue.SimpleQueue[bytes]) -> None:
    """Ends the process with its standard input, even in the middle of a document: whoever started
    it has gone, perhaps without being able to say so."""
    for line in standard_input:
        requests.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
