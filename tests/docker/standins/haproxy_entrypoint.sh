#!/bin/sh
# Like the official image's entrypoint: HAProxy runs in the foreground, as a master with workers.
case "$1" in
    haproxy) shift ;;
    -*) ;;
    *) exec "$@" ;;
esac
exec haproxy -W -db "$@"
