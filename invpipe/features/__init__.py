"""The features, one implementation for training and serving."""

from invpipe.features.matrix import CATEGORICAL, FAMILIES, FEATURES, FeatureStore

__all__ = ["CATEGORICAL", "FAMILIES", "FEATURES", "FeatureStore"]
