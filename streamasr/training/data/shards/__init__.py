"""Write and read tar shards of speech in the webdataset format."""
