"""Dagster's GraphQL as its UI uses it, https://docs.dagster.io/api/graphql."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import requests

T = TypeVar("T")

REPOSITORY = {"repositoryLocationName": "citysort", "repositoryName": "__repository__"}
ENDED = ("SUCCESS", "FAILURE", "CANCELED")


def wait_for(what: str, look: Callable[[], T | None], seconds: float = 240) -> T:
    """The first true thing that `look` returns. Fails when there is none for so long."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.5)
    return found


def asset_path(source: str) -> dict[str, list[str]]:
    """The asset of a source, as GraphQL wants it."""
    return {"path": ["sources", source]}


@dataclass
class DagsterUI:
    """The webserver at `url`. Every answer it gave is kept in `answers`."""

    url: str
    answers: list[str] = field(default_factory=list)

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of an answer."""
        response = requests.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=60
        )
        self.answers.append(response.text)
        answer = response.json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def launch(
        self,
        source: str,
        *partitions: str,
        config: Mapping[str, Any] | None = None,
        run_config: Mapping[str, Any] | None = None,
        checks: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Presses "Materialize" on the asset of a source, for one partition or from the first to
        the last of two. Returns Dagster's answer: `__typename`, and the `run`."""
        named = {"dagster/partition": partitions[0]}
        if len(partitions) > 1:
            named = {
                "dagster/asset_partition_range_start": partitions[0],
                "dagster/asset_partition_range_end": partitions[-1],
            }
        if config is not None:
            run_config = {"ops": {f"sources__{source}": {"config": config}}}
        return self._launch(
            {"tags": [{"key": key, "value": value} for key, value in {**named, **(tags or {})}.items()]},
            [asset_path(source)],
            [{"assetKey": asset_path(source), "name": name} for name in checks],
            run_config,
        )

    def _launch(
        self,
        metadata: Mapping[str, Any],
        assets: Sequence[Any],
        checks: Sequence[Any],
        run_config: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask(
            """mutation Launch($params: ExecutionParams!) {
              launchPipelineExecution(executionParams: $params) {
                __typename
                ... on LaunchRunSuccess { run { runId status } }
                ... on RunConfigValidationInvalid { errors { message } }
                ... on InvalidSubsetError { message }
                ... on PythonError { message }
              }
            }""",
            params={
                "mode": "default",
                "executionMetadata": metadata,
                "runConfigData": run_config or {},
                "selector": {
                    **REPOSITORY,
                    "pipelineName": "__ASSET_JOB",
                    "assetSelection": assets,
                    "assetCheckSelection": checks,
                },
            },
        )["launchPipelineExecution"]
        return answer

    def start_checks(self, source: str, names: Sequence[str]) -> str:
        """Presses "Execute" on checks of the asset of a source; the id of the run."""
        answer = self._launch({}, [], [{"assetKey": asset_path(source), "name": name} for name in names])
        return str(answer["run"]["runId"])

    def start(self, source: str, *partitions: str, **launch: Any) -> str:
        """Launches as `launch` does; the id of the run."""
        answer = self.launch(source, *partitions, **launch)
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def backfill(self, source: str, partitions: Sequence[str]) -> str:
        """Launches a backfill of the asset of a source; its id."""
        answer = self.ask(
            """mutation Backfill($params: LaunchBackfillParams!) {
              launchPartitionBackfill(backfillParams: $params) {
                __typename
                ... on LaunchBackfillSuccess { backfillId }
                ... on PythonError { message }
              }
            }""",
            params={
                "assetSelection": [asset_path(source)],
                "partitionNames": list(partitions),
                "fromFailure": False,
                "tags": [],
            },
        )["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return str(answer["backfillId"])

    def backfill_from_failure(self, backfill_id: str) -> str:
        """Presses "Re-execute", "From failure" on a backfill; the id of the new one."""
        answer = self.ask(
            """mutation Again($params: ReexecutionParams) {
              reexecutePartitionBackfill(reexecutionParams: $params) {
                __typename
                ... on LaunchBackfillSuccess { backfillId }
                ... on PythonError { message }
              }
            }""",
            params={"parentRunId": backfill_id, "strategy": "FROM_FAILURE"},
        )["reexecutePartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return str(answer["backfillId"])

    def backfilled(self, backfill_id: str) -> tuple[str, list[dict[str, Any]]]:
        """Waits until a backfill has ended; its status and its runs."""

        def status() -> str | None:
            found: str = self.ask(
                """query Backfill($id: String!) {
                  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } }
                }""",
                id=backfill_id,
            )["partitionBackfillOrError"]["status"]
            return found if found.startswith(("COMPLETED", "FAILED", "CANCELED")) else None

        return wait_for(f"the end of backfill {backfill_id}", status), self.tagged(
            **{"dagster/backfill": backfill_id}
        )

    def run(self, run_id: str) -> dict[str, Any]:
        """How a run stands."""
        run: dict[str, Any] = self.ask(
            """query Run($id: ID!) { runOrError(runId: $id) { ... on Run {
              runId status pipelineName startTime endTime creationTime parentRunId runConfigYaml
              tags { key value } assetSelection { path }
              stats { ... on RunStatsSnapshot { enqueuedTime launchTime startTime endTime } }
            } } }""",
            id=run_id,
        )["runOrError"]
        run["tags"] = {tag["key"]: tag["value"] for tag in run["tags"]}
        return run

    def runs(self, **criteria: Any) -> list[dict[str, Any]]:
        """The runs that a filter of Dagster's lets through, the latest first."""
        found = self.ask(
            """query Runs($filter: RunsFilter!) {
              runsOrError(filter: $filter, limit: 100) { ... on Runs { results { runId } } }
            }""",
            filter=criteria,
        )
        return [self.run(run["runId"]) for run in found["runsOrError"]["results"]]

    def tagged(self, **tags: str) -> list[dict[str, Any]]:
        """The runs with these tags, the latest first."""
        return self.runs(tags=[{"key": key, "value": value} for key, value in tags.items()])

    def ended(self, run_id: str, seconds: float = 240) -> dict[str, Any]:
        """Waits until a run has ended."""
        wait_for(f"the end of run {run_id}", lambda: self.run(run_id)["status"] in ENDED, seconds)
        return self.run(run_id)

    def events(self, run_id: str) -> list[dict[str, Any]]:
        """The event log of a run, with what the tests look at."""
        events: list[dict[str, Any]] = self.ask(
            """query Log($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
              __typename
              ... on MessageEvent { message timestamp level stepKey eventType }
              ... on MaterializationEvent {
                partition assetKey { path }
                metadataEntries { label __typename
                  ... on IntMetadataEntry { intValue }
                  ... on FloatMetadataEntry { floatValue }
                  ... on BoolMetadataEntry { boolValue }
                  ... on MarkdownMetadataEntry { mdStr }
                }
              }
              ... on AssetCheckEvaluationEvent { evaluation { checkName success description } }
              ... on ExecutionStepFailureEvent {
                error { message stack cause { message } } failureMetadata { description } errorSource
              }
              ... on RunFailureEvent { error { message } }
            } } } }""",
            id=run_id,
        )["logsForRun"]["events"]
        return events

    def process_of(self, run_id: str) -> int | None:
        """The id of the process that executes the steps of a run, once there is one."""
        for event in self.events(run_id):
            found = re.search(r"Executing steps in process \(pid: (\d+)\)", event.get("message") or "")
            if found:
                return int(found[1])
        return None

    def materialized(self, run_id: str) -> dict[str, dict[str, Any]]:
        """The metadata of each partition that a run materialized."""
        return {
            event["partition"]: {
                entry["label"]: next(
                    value for key, value in entry.items() if key not in ("label", "__typename")
                )
                for entry in event["metadataEntries"]
            }
            for event in self.events(run_id)
            if event["__typename"] == "MaterializationEvent"
        }

    def ticks(self, name: str) -> list[dict[str, Any]]:
        """The evaluations of a schedule or sensor, the latest first."""
        ticks: list[dict[str, Any]] = self.ask(
            """query Ticks($selector: InstigationSelector!) {
              instigationStateOrError(instigationSelector: $selector) {
                ... on InstigationState { ticks(limit: 50) {
                  status timestamp runIds skipReason error { message }
                } }
              }
            }""",
            selector={**REPOSITORY, "name": name},
        )["instigationStateOrError"]["ticks"]
        return ticks

    def stop_schedule(self, name: str) -> None:
        """Switches a schedule off."""
        schedule = self.ask(
            """query Schedule($selector: ScheduleSelector!) {
              scheduleOrError(scheduleSelector: $selector) { ... on Schedule { id } }
            }""",
            selector={**REPOSITORY, "scheduleName": name},
        )["scheduleOrError"]
        stopped = self.ask(
            """mutation Stop($id: String!) {
              stopRunningSchedule(id: $id) {
                ... on ScheduleStateResult { scheduleState { status } }
              }
            }""",
            id=schedule["id"],
        )["stopRunningSchedule"]
        assert stopped["scheduleState"]["status"] == "STOPPED", stopped

    def stop_sensor(self, name: str) -> None:
        """Switches a sensor off."""
        sensor = self.ask(
            """query Sensor($selector: SensorSelector!) {
              sensorOrError(sensorSelector: $selector) { ... on Sensor { id } }
            }""",
            selector={**REPOSITORY, "sensorName": name},
        )["sensorOrError"]
        stopped = self.ask(
            """mutation Stop($id: String!) {
              stopSensor(id: $id) {
                ... on StopSensorMutationResult { instigationState { status } }
              }
            }""",
            id=sensor["id"],
        )["stopSensor"]
        assert stopped["instigationState"]["status"] == "STOPPED", stopped

    def failure(self, run_id: str) -> str:
        """What the failed step of a run says."""
        (error,) = [
            event["error"]
            for event in self.events(run_id)
            if event["__typename"] == "ExecutionStepFailureEvent"
        ]
        return str(error["message"]).strip()
