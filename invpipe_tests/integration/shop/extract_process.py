"""Extract one table in a process of its own: ``python -m ... HOME TABLE FIRST LAST [LARGEST_FILE]``, on the home's own Dagster instance."""

import resource
import signal
import sys
from pathlib import Path

import dagster as dg

from invpipe.defs.build import build_definitions
from invpipe.defs.jobs import range_tags
from invpipe.defs.run import prepare_home


def main(home: str, table: str, first: str, last: str, largest_file: str = "") -> None:
    """Run the extract; a largest file in bytes stands for a full disk."""
    dagster_home = prepare_home(Path(home))
    job = build_definitions(home).resolve_job_def("extract")
    with dg.DagsterInstance.from_config(str(dagster_home)) if not largest_file else dg.DagsterInstance.ephemeral() as instance:
        if largest_file:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest_file), int(largest_file)))
        job.execute_in_process(instance=instance, tags=range_tags(first, last), asset_selection=[dg.AssetKey(f"raw_{table}")])


if __name__ == "__main__":
    main(*sys.argv[1:])
