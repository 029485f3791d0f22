"""The steps of an explanation, one file for each thing that is looked at. `authflows.explain` puts them in order."""
