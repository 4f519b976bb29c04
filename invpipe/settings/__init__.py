"""Settings: what a run depends on, from ``invpipe.toml`` and the environment."""

from invpipe.settings.databases import (
    ExtractSettings,
    MariaDBSettings,
    MongoDBSettings,
    ProposalSettings,
    ShopSettings,
    TableSettings,
    TablesSettings,
)
from invpipe.settings.files import FILE_NAME, find_home
from invpipe.settings.model import Settings, write_settings
from invpipe.settings.sections import BacktestWindow

__all__ = [
    "FILE_NAME",
    "BacktestWindow",
    "ExtractSettings",
    "MariaDBSettings",
    "MongoDBSettings",
    "ProposalSettings",
    "Settings",
    "ShopSettings",
    "TableSettings",
    "TablesSettings",
    "find_home",
    "write_settings",
]
