"""Learning schemas from the library that defines the architectures: observe a class at many configurations, then fit what is seen."""
