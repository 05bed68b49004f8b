"""A study on Ray: the run, Ray Tune's searcher and callbacks, workers, process groups, nodes."""
