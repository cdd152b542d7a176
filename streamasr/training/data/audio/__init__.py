"""Read and decode the audio files of manifests."""
