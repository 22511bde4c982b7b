"""Formulas on arrays: intervals, diversity, association. No tables, no thresholds."""
