"""Readers of a shop's own databases: MariaDB and MongoDB, exact in the contracts' types, day by day."""
