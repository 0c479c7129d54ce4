"""Several replicas of the server behind one proxy, on one machine."""
