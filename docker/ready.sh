#!/bin/bash
# ready.sh - whether the gateway is ready: succeeds if /readyz answers 200. In the image it is
# cellgate-ready, the health check; it needs nothing but bash.
#
#   cellgate-ready [ADDRESS [PORT]]     127.0.0.1 9464
set -eu
exec 3<>"/dev/tcp/${1:-127.0.0.1}/${2:-9464}"
printf 'GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
read -r -t 2 -u 3 _ status _
echo "/readyz: $status"
[ "$status" = 200 ]
