"""Which (SKU, day) cells count: the orderable ones."""

from invpipe.grid.cells import Cells, sample_cells, training_grid
from invpipe.grid.labels import WindowLabels, window_labels

__all__ = ["Cells", "WindowLabels", "sample_cells", "training_grid", "window_labels"]
