"""Contract suites that every method and encoder passes; other packages import them from `hyperserve.testing`."""
