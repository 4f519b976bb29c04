"""Errors of invpipe.

::

    InvpipeError
    ├── SettingsError      a setting is missing, unknown or out of its bounds
    ├── SourceError        a source cannot be read
    │   └── ConnectionLostError  the server is absent or the connection was lost; a retry may help
    ├── ContractError      a table breaks its contract
    ├── HistoryError       a cutoff or window lies outside the history
    ├── ForecastError      a forecast cannot be made from what is given
    ├── AllocationError    an allocation problem is malformed
    │   └── SolverError    the solver gave no plan
    ├── LagrangianError    items, capacities or parameters of the Lagrangian core are malformed
    ├── PackingError       a packing problem is malformed
    ├── TapeError          a tape is damaged, foreign or of another version
    ├── ArenaError         a policy or a backtest parameter is out of its bounds
    ├── ProvenanceError    an artifact does not match its provenance record
    └── StorageError       an artifact cannot be written: disk full, no right

Every message says what was wrong, the value and its bound, the first offending key, how many, and what to do.
"""


class InvpipeError(Exception):
    """Base of every error invpipe raises on purpose."""


class SettingsError(InvpipeError):
    """A setting is missing, unknown or out of its bounds."""


class SourceError(InvpipeError):
    """A source cannot be read."""


class ConnectionLostError(SourceError):
    """The server is absent or the connection was lost while reading: starting again may help."""


class ContractError(InvpipeError):
    """A table breaks its contract: missing column, wrong type, or too many quarantined rows."""


class HistoryError(InvpipeError):
    """A cutoff or a window lies outside the history of the shop."""


class ForecastError(InvpipeError):
    """A forecast cannot be made from what is given."""


class AllocationError(InvpipeError):
    """An allocation problem is malformed."""


class SolverError(AllocationError):
    """The solver ended without a plan."""


class LagrangianError(InvpipeError):
    """Items, capacities or parameters of the Lagrangian core are malformed."""


class PackingError(InvpipeError):
    """A packing problem is malformed."""


class TapeError(InvpipeError):
    """A tape is damaged, foreign or of another format version."""


class ArenaError(InvpipeError):
    """A policy or a backtest parameter is out of its bounds."""


class ProvenanceError(InvpipeError):
    """An artifact does not match its provenance record."""


class StorageError(InvpipeError):
    """An artifact cannot be written: the disk is full, or the user may not write there."""
