"""Turn the results of an evaluation into tables, charts, HTML pages and the measured part of a model card."""
