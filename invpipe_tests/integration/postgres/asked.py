"""Entry point of a daemon that is asked for runs by files: `asked/2017-01-02` in the home asks once for the sales of that day.

Only the daemon may import it: :mod:`held` changes the IO manager of its process. The file asks as a
schedule does: while the storage is away nothing can be asked for, and what was asked for before is not asked for again.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from invpipe_tests.integration.daemon import held
from invpipe_tests.integration.postgres.conftest import ASSET


@dg.sensor(job_name="extract", minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def asked(_: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest]:
    """Ask for a run per file."""
    for file in sorted((Path(os.environ["INVPIPE_HOME"]) / "asked").glob("*")):
        yield dg.RunRequest(run_key=file.name, partition_key=file.name, asset_selection=[dg.AssetKey(ASSET)])


defs = dg.Definitions.merge(held.defs, dg.Definitions(sensors=[asked]))
