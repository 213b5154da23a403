"""The ingestion pipeline as Dagster assets: text, classification, department queues.

Each works off the documents of its partitions that wait for it, in batches, so that a run after
any number of imports, or after one that was cut short, leaves nothing behind.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import dagster as dg

from citysort_dagster.files import FileStoreError, StoredFileMissing
from citysort_dagster.installation import Installation
from citysort_dagster.pipeline.classify import MAX_CHARACTERS, Classification, classify
from citysort_dagster.pipeline.extract import Extraction, TextExtractor
from citysort_dagster.pipeline.isolation import ReaderUnavailable
from citysort_dagster.pipeline.route import Routing, due_date, route
from citysort_dagster.pipeline.rules import OTHER, Rules, RulesError, load_rules
from citysort_dagster.review import routed_by, uphold
from citysort_dagster.source_assets import IMPORTED_TAG
from citysort_dagster.store import documents
from citysort_dagster.store.document_words import words_of_documents
from citysort_dagster.store.sync_log import storable_text

BATCH = 200
BATCH_CHARACTERS = 5_000_000
"""Of texts, from which on a batch is full with fewer documents."""
ANY_TEXT = 1
"""Characters that tell whether there is a text."""
_TEXTS = ("text", "media_type", "problem")

DOCUMENT_TEXT = dg.AssetKey("document_text")
DOCUMENT_CLASSIFICATION = dg.AssetKey("document_classification")
DEPARTMENT_QUEUES = dg.AssetKey("department_queues")
INGESTION = (DOCUMENT_TEXT, DOCUMENT_CLASSIFICATION, DEPARTMENT_QUEUES)

AFTER_ANY_IMPORT = (
    dg.AutomationCondition.any_deps_match(
        dg.AutomationCondition.any_new_update_has_run_tags(tag_keys={IMPORTED_TAG})
    ).since(dg.AutomationCondition.newly_requested())
    & ~dg.AutomationCondition.in_progress()
)
"""For any partition, whichever source has brought documents; `eager()` would want the latest partition
of all, and every refresh that found nothing."""

WITH_WHAT_COMES_BEFORE = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.will_be_requested())
"""In the same run: by conditions of its own, each stage would wait for the next look."""


def build_ingestion_assets(
    partitions: dg.PartitionsDefinition[str], source_keys: Sequence[dg.AssetKey]
) -> Sequence[dg.AssetsDefinition]:
    """The three assets, downstream of the sources with these keys."""

    def ingestion_asset(
        key: dg.AssetKey, deps: Iterable[dg.AssetKey], description: str
    ) -> Callable[[Callable[..., None]], dg.AssetsDefinition]:
        return dg.asset(
            key=key,
            deps=[dg.AssetDep(dep) for dep in deps],
            group_name="ingestion",
            description=description,
            partitions_def=partitions,
            backfill_policy=dg.BackfillPolicy.single_run(),
            automation_condition=AFTER_ANY_IMPORT if key == DOCUMENT_TEXT else WITH_WHAT_COMES_BEFORE,
            required_resource_keys={"installation"},
            pool=key.to_user_string(),
            kinds={"python"},
        )

    @ingestion_asset(DOCUMENT_TEXT, source_keys, "The text of each document, or why there is none.")
    def document_text(context: dg.AssetExecutionContext) -> None:
        installation: Installation = context.resources.installation
        outcomes: Counter[str] = Counter()
        out_of_reach: list[str] = []
        for rows in _extracted(installation, context, out_of_reach):
            with installation.database.read() as connection:
                words = words_of_documents(connection, {row["document_id"]: row["text"] for row in rows})
            outcomes["documents"] += installation.database.write(
                partial(documents.save_texts, run_id=context.run.run_id, texts=rows, words=words)
            )
            outcomes["without_text"] += sum(row["problem"] is not None for row in rows)
            outcomes["characters"] += sum(len(row["text"]) for row in rows)
        if out_of_reach:
            sentence = f"Documents wait for files that cannot be read now: {out_of_reach[0]}"
            # A failed step would keep those that have been read from the steps that follow.
            if not outcomes["documents"] and not _any_further_on(installation, context):
                raise dg.Failure(sentence)
            context.log.warning(sentence)
        _report(context, outcomes, ("documents", "without_text", "characters"))

    @ingestion_asset(DOCUMENT_CLASSIFICATION, [DOCUMENT_TEXT], "What each document is, with its fields.")
    def document_classification(context: dg.AssetExecutionContext) -> None:
        installation: Installation = context.resources.installation
        rules = _rules(installation)
        outcomes: Counter[str] = Counter()
        for batch in _pending(installation, context, "extracted", MAX_CHARACTERS):
            decisions = []
            for row in batch:
                found = _classify(row, rules)
                if row.decision:
                    found = uphold(row.decision, found, rules)
                outcomes[found.doc_type] += 1
                values = {
                    "stage": "classified",
                    "doc_type": found.doc_type,
                    "confidence": found.confidence,
                    "urgency": found.urgency,
                    "department": found.department,
                    "fields": dict(found.fields),
                }
                details = {key: value for key, value in values.items() if key not in ("stage", "fields")}
                decisions.append((row.id, "classified", values, details))
            outcomes["documents"] += installation.database.write(
                partial(
                    documents.decide, run_id=context.run.run_id, former_stage="extracted", decisions=decisions
                )
            )
        _report(context, outcomes, ("documents",))

    @ingestion_asset(
        DEPARTMENT_QUEUES,
        [DOCUMENT_CLASSIFICATION],
        "Each document in the queue of its department, or with a person for review.",
    )
    def department_queues(context: dg.AssetExecutionContext) -> None:
        installation: Installation = context.resources.installation
        rules = _rules(installation)
        outcomes: Counter[str] = Counter()
        for batch in _pending(installation, context, "classified", ANY_TEXT):
            decisions = []
            for row in batch:
                routing = _route(row, rules)
                outcomes[routing.status] += 1
                outcomes[routing.department] += 1
                values = {
                    "stage": "queued",
                    "status": routing.status,
                    "department": routing.department,
                    "due_date": routing.due_date,
                    "review_reasons": list(routing.reasons),
                }
                event = "routed" if routing.status == "routed" else "sent to review"
                details = {
                    "department": routing.department,
                    "due_date": routing.due_date.isoformat(),
                    "reasons": list(routing.reasons),
                }
                decisions.append((row.id, event, values, details))
            outcomes["documents"] += installation.database.write(
                partial(
                    documents.decide,
                    run_id=context.run.run_id,
                    former_stage="classified",
                    decisions=decisions,
                )
            )
        _report(context, outcomes, ("documents", "routed", "needs_review"))

    return [document_text, document_classification, department_queues]


def _pending(
    installation: Installation, context: dg.AssetExecutionContext, stage: str, characters: int
) -> Iterator[Sequence[Any]]:
    """The documents that wait after this stage, in batches, with as many characters of their text."""
    partitions = installation.calendar.reach(context.partition_keys)
    after = ""
    while True:
        with installation.database.read() as connection:
            batch = documents.pending(connection, stage, partitions, after, BATCH, characters)
        if not batch:
            return
        yield batch
        after = batch[-1].id


def _any_further_on(installation: Installation, context: dg.AssetExecutionContext) -> bool:
    """Whether documents have been read that are in no queue yet: another run may have been cut short."""
    return any(next(_pending(installation, context, stage, 0), ()) for stage in ("extracted", "classified"))


def _extracted(
    installation: Installation, context: dg.AssetExecutionContext, out_of_reach: list[str]
) -> Iterator[Sequence[dict[str, Any]]]:
    """The texts of all waiting documents, in batches as they become ready.

    What is in the way of a document whose file cannot be read now is appended to `out_of_reach`; such
    a document goes on waiting, and all that follow it do while the file store is out altogether.
    """
    copies: dict[str, ExitStack] = {}
    unreadable: list[tuple[str, Extraction]] = []

    def files() -> Iterator[tuple[str, Path, str]]:
        for batch in _pending(installation, context, "imported", 0):
            for row in batch:
                copy = ExitStack()
                try:
                    path = copy.enter_context(installation.files.local_copy(row.path))
                except (FileStoreError, OSError) as error:
                    try:
                        installation.files.require_files()
                    except FileStoreError as outage:
                        out_of_reach.append(str(outage))
                        return
                    if isinstance(error, StoredFileMissing):
                        problem = f"The document cannot be read: {error}."
                        unreadable.append((row.id, Extraction("", None, None, False, problem)))
                    else:
                        out_of_reach.append(str(error))
                    continue
                copies[row.id] = copy
                yield row.id, path, row.filename

    rows: list[dict[str, Any]] = []
    characters = 0
    try:
        with TextExtractor() as extractor:
            for document_id, extraction in chain(extractor.extract(files()), unreadable):
                if document_id in copies:
                    copies.pop(document_id).close()
                values = extraction._asdict()
                texts = {name: storable_text(values[name]) for name in _TEXTS if values[name] is not None}
                rows.append({"document_id": document_id, **values, **texts})
                characters += len(extraction.text)
                if len(rows) == BATCH or characters >= BATCH_CHARACTERS:
                    yield rows
                    rows, characters = [], 0
    except ReaderUnavailable as error:
        raise dg.Failure(f"No text can be extracted: {error}") from None
    if rows:
        yield rows


def _rules(installation: Installation) -> Rules:
    try:
        return load_rules(installation.settings.rules_file)
    except RulesError as error:
        raise dg.Failure(f"The classification rules cannot be used: {error}", allow_retries=False) from None


def _classify(row: Any, rules: Rules) -> Classification:
    """What the document is; one that the rules cannot cope with is for a person, and stops no other."""
    try:
        return classify(row.text or "", row.filename, rules)
    except Exception as error:  # noqa: BLE001 - see above
        other = rules.document_types[OTHER]
        place = f"{type(error).__name__} while classifying"
        return Classification(OTHER, other.department, 0.0, other.urgency, {"error": place}, ())


def _route(row: Any, rules: Rules) -> Routing:
    """Where the document goes; one that the rules cannot cope with is for a person, and stops no other."""
    try:
        routing = route(
            row.problem, _classification(row, rules), rules, row.imported_at, row.source_modified_at
        )
        return routed_by(row.decision, routing) if row.decision else routing
    except Exception as error:  # noqa: BLE001 - see above
        other = rules.document_types[OTHER]
        reason = f"The document could not be routed ({type(error).__name__})."
        return Routing("needs_review", other.department, due_date(other, row.imported_at, None), [reason])


def _classification(row: Any, rules: Rules) -> Classification | None:
    """The classification that was stored; None where there was nothing to classify."""
    document_type = rules.document_types.get(row.doc_type)
    if document_type is None or not (row.text or row.confidence):
        return None
    missing = tuple(name for name in document_type.required_fields if not row.fields.get(name))
    return Classification(row.doc_type, row.department, row.confidence, row.urgency, row.fields, missing)


def _report(context: dg.AssetExecutionContext, outcomes: Counter[str], always: Sequence[str]) -> None:
    metadata = {**dict.fromkeys(always, 0), **outcomes}
    context.add_asset_metadata({name: int(count) for name, count in metadata.items()})
