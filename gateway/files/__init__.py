"""Files that callers leave here: under the home folder, each seen by the API key that uploaded it only."""
