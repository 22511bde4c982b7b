"""Descriptions of a version, all made from its files and its log: Croissant, dataset card, datasheet, OpenLineage."""
