"""Who judges the labels: the protocol, probes, models, tables, and what their disagreement says."""
