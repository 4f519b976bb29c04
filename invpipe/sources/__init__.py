"""Sources of a shop's raw tables: the embedded shop, the synthetic shop and real databases."""
