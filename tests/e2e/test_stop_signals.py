"""What further signals do to a gateway that was told to stop and waits for an exporter."""

import signal

from support.gateway import Gateway
from support.guest import Guest
from support.http_sink import Answer, HttpSink


def test_a_rotation_of_logs_does_not_end_a_gateway_that_drains(tmp_path):
    with HttpSink() as sink:
        sink.script(*[Answer(503)] * 3)
        retry = {"initial": "200ms", "max": "200ms", "hold_initial": "5ms", "hold_max": "5ms"}
        exporter = {"name": "c", "type": "cloudevents-http", "url": sink.url, "retry": retry}
        with Gateway(tmp_path, exporters=[exporter]) as gateway:
            with Guest(gateway.base()) as guest:
                guest.send()
            sink.wait_requests(1)
            gateway.process.send_signal(signal.SIGTERM)
            gateway.wait_log("event=stopping")
            gateway.process.send_signal(signal.SIGUSR1)
            assert gateway.process.wait(60) == 0
            assert sum('guest' in event['data'] for event in sink.accepted) == 1
