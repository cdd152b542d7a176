"""Write and read shards of speech in the webdataset format."""
