# The HTTP gateway (docs/deployment.md).
FROM python:3.11-slim-bookworm

WORKDIR /opt/sam3
COPY docker/constraints.txt ./
COPY LICENSE source/
COPY client source/client
COPY gateway source/gateway
RUN python3 -m pip install --no-cache-dir -c constraints.txt ./source/client ./source/gateway \
    && rm -r source
USER 10001:10001
EXPOSE 8001
# The gateway is ready if Triton answers a click.
HEALTHCHECK --interval=30s --timeout=15s --start-period=1m --retries=3 \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8001/health/ready')"]
CMD ["sam3-gateway", "--host", "0.0.0.0"]
