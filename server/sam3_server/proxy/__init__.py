"""The proxy in front of several replicas: HAProxy, its configuration and its process."""
