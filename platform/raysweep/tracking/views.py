"""A saved view of MLflow's own UI for each study: sorted trials, parallel coordinates, curves, scatter.

MLflow opens an experiment on an empty page, with the trials folded away and no metric shown. Its UI can read
a view from an experiment's tag. That format is internal to MLflow, so for versions where it was not seen to
work, the address holds a plain filter instead.
"""

from __future__ import annotations

import base64
import json
import time
import urllib.parse
import zlib
from importlib import metadata
from typing import Any

from raysweep.study.objective import Objective
from raysweep.study.params import Choice
from raysweep.study.space import Space

TAG = "mlflow.sharedViewState."
SEEN = "3.17."
SHOWN = 6  # parameters that a table or a plot has room for


def link(base: str, experiment: str, identity: str, study: str, objective: Objective) -> str:
    """The address of a study's view in the MLflow UI at `base`."""
    query = {"workflowType": "machine_learning"}
    if metadata.version("mlflow").startswith(SEEN):
        query["viewStateShareKey"] = key(identity)  # includes the filter; ignored if a filter is given too
    else:
        query["searchFilter"] = _filter(study)
        query["orderByKey"] = f"metrics.`best_{objective.metric}`"
        query["orderByAsc"] = str(not objective.maximize).lower()
    return f"{base.rstrip('/')}/#/experiments/{experiment}/runs?{urllib.parse.urlencode(query)}"


def key(identity: str) -> str:
    """The name of a study's view."""
    return identity[:16]


def _filter(study: str) -> str:
    return f"tags.role = 'trial' and tags.study = '{study}'"


def write(client: Any, experiment: str, record: dict[str, Any], space: Space, objective: Objective) -> None:
    """Write the view of the study whose journal begins with `record` as a tag of its experiment."""
    name = record["study"]["name"]
    now = int(time.time() * 1000)
    packed = base64.b64encode(zlib.compress(json.dumps(state(name, space, objective)).encode())).decode()
    value = {"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
    client.set_experiment_tag(experiment, TAG + key(record["id"]), json.dumps(value))


def _params(space: Space) -> list[str]:
    """The parameters worth an axis: learning rates and their like first, then numbers, then choices."""
    names = [n for n in space.free if space[n].each is None] or list(space)
    names.sort(key=lambda n: (not getattr(space[n], "log", False), isinstance(space[n], Choice)))
    return [f"log10_{n}" if getattr(space[n], "log", False) else n for n in names][:SHOWN]


def state(study: str, space: Space, objective: Objective) -> dict[str, Any]:
    """What the UI is to show, in its own terms."""
    metric, best = objective.metric, f"best_{objective.metric}"
    params = _params(space)
    common = {"metricSectionId": "trials", "deleted": False, "isGenerated": False}
    charts: list[dict[str, Any]] = [
        {
            "uuid": "parallel",
            "type": "PARALLEL",
            "runsCountToCompare": 100,
            "selectedParams": params,
            "selectedMetrics": [best],
            "showAllRuns": True,
            **common,
        },
        {
            "uuid": "curves",
            "type": "LINE",
            "runsCountToCompare": 20,
            "displayName": metric,
            "metricKey": metric,
            "selectedMetricKeys": [metric],
            "lineSmoothness": 0,
            "xAxisScaleType": "linear",
            "scaleType": "linear",
            "range": {},
            "xAxisKey": "step",
            "selectedXAxisMetricKey": "",
            "yAxisKey": "metric",
            "yAxisExpressions": [],
            "ignoreOutliers": False,
            "useGlobalXaxisKey": True,
            "useGlobalLineSmoothing": True,
            **common,
        },
        *(
            {
                "uuid": f"scatter-{p}",
                "type": "SCATTER",
                "runsCountToCompare": 100,
                "xaxis": {"key": p, "type": "PARAM"},
                "yaxis": {"key": best, "type": "METRIC"},
                **common,
            }
            for p in params[:2]
        ),
    ]
    return {
        "searchFilter": _filter(study),
        "orderByKey": f"metrics.`{best}`",
        "orderByAsc": not objective.maximize,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [
            f"metrics.`{best}`",
            f"metrics.`{metric}`",
            "metrics.`best_epoch`",
            "metrics.`seconds`",
            *(f"params.`{p}`" for p in params),
            "tags.`stop_reason`",
        ],
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": charts,
        "compareRunSections": [
            {
                "uuid": "trials",
                "name": "Trials",
                "display": True,
                "isReordered": False,
                "deleted": False,
                "isGenerated": False,
            }
        ],
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
