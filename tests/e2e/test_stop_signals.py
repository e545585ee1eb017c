"""What further signals do to a gateway that was told to stop and waits for an exporter."""

import pathlib
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


def test_a_second_request_to_stop_ends_the_waiting_in_order(tmp_path):
    with HttpSink() as sink:
        sink.script(*[Answer(503)] * 1000)
        exporter = {"name": "c", "type": "cloudevents-http", "url": sink.url}
        config = {"shutdown": {"drain": "10m"}}
        with Gateway(tmp_path, exporters=[exporter], config=config) as gateway:
            with Guest(gateway.base()) as guest:
                guest.send()
            sink.wait_requests(1)
            gateway.process.send_signal(signal.SIGTERM)
            gateway.wait_log("event=stopping")
            gateway.process.send_signal(signal.SIGINT)
            assert gateway.process.wait(60) == 0
            assert "event=exporter_left_behind exporter=c" in gateway.log()
            assert not pathlib.Path(f"{gateway.base()}_9001").exists()
