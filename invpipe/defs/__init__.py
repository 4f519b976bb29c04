"""The only Dagster code of the project: assets, checks, jobs, schedules, partitions, resources and IO."""

import warnings

from dagster_shared.utils.warnings import BetaWarning, PreviewWarning

# Backfill policies are beta and checks per partition preview in Dagster; its version is pinned exactly, so an operator need not read it
# on every start.
for _category in (BetaWarning, PreviewWarning):
    warnings.filterwarnings("ignore", category=_category)
