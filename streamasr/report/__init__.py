"""Turn an evaluation into tables, HTML pages, charts and the measured part of a model card."""
