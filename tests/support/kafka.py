"""A Kafka broker for tests: Apache Kafka's own, in KRaft mode, where test.sh could get its jars
($CELLGATE_KAFKA_JARS) and there is a Java; librdkafka's mock cluster in a process of its own
otherwise, which knows neither logins nor TLS nor limits, and keeps its records in memory."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from support.ports import steady_port

JARS = pathlib.Path(os.environ.get("CELLGATE_KAFKA_JARS", "build/kafka"))
MOCK = os.environ.get("CELLGATE_KAFKA_MOCK", "kafka_mock")
HAS_BROKER = shutil.which("java") is not None and any(JARS.glob("kafka_2.13-*.jar"))
PATIENCE_S = 120
READER = {"group.id": "reader", "enable.auto.commit": False, "enable.partition.eof": True}

_UNKNOWN_TOPIC = 3


class _Reading:
    """Reading back, the same for both."""

    client = {}

    def messages(self, topic, partitions):
        """All (key, headers, value) of a topic, partition by partition."""
        reader = Consumer({"bootstrap.servers": self.address, **self.client, **READER})
        found = {number: [] for number in range(partitions)}
        reader.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        try:
            left = set(found)
            end = time.monotonic() + PATIENCE_S
            while left:
                assert time.monotonic() < end, f"only {len(found)} messages came"
                for message in reader.consume(1000, 1):
                    if message.error() is None:
                        record = (message.key(), message.headers(), message.value())
                        found[message.partition()].append(record)
                    elif message.error().name() == "_PARTITION_EOF":
                        left.discard(message.partition())
        finally:
            reader.close()
        return [message for number in sorted(found) for message in found[number]]


class Broker(_Reading):
    """Apache Kafka. `listener` is a security protocol, `config` further properties of the broker."""

    def __init__(self, directory, *, listener="PLAINTEXT", config=(), client=None, start=True):
        self.directory = pathlib.Path(directory) / "kafka"
        self.directory.mkdir()
        self.client = client or {}
        self.port, own, controller = (steady_port() for _ in range(3))
        self.address = f"127.0.0.1:{self.port}"
        # The second listener is for administration, whatever the first one asks for.
        self._own = f"127.0.0.1:{own}"
        (self.directory / "broker.properties").write_text("\n".join([
            "process.roles=broker,controller", "node.id=1",
            f"controller.quorum.voters=1@127.0.0.1:{controller}",
            "controller.listener.names=CONTROLLER", "inter.broker.listener.name=OWN",
            f"listeners=GIVEN://{self.address},OWN://{self._own},CONTROLLER://127.0.0.1:{controller}",
            f"advertised.listeners=GIVEN://{self.address},OWN://{self._own}",
            f"listener.security.protocol.map=GIVEN:{listener},OWN:PLAINTEXT,CONTROLLER:PLAINTEXT",
            f"log.dirs={self.directory}/data", "auto.create.topics.enable=false",
            "offsets.topic.replication.factor=1", "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1", "group.initial.rebalance.delay.ms=0",
            "num.network.threads=2", "num.io.threads=2", *config, "",
        ]))  # fmt: skip
        self.process = None
        self._java("kafka.tools.StorageTool", "format", "-t", "Y2VsbGdhdGUtdGVzdHMtMQ", "-c").wait(PATIENCE_S)
        if start:
            self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def _java(self, *arguments):
        with open(self.directory / "log", "ab") as log:
            return subprocess.Popen(
                ["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*",
                 *arguments, str(self.directory / "broker.properties")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def start(self):
        self.process = self._java("kafka.Kafka")
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), PATIENCE_S).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("Kafka did not start:\n" + (self.directory / "log").read_text()[-4000:])

    def kill(self):
        """SIGKILL, also when it is stopped."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stand_still(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def add_topic(self, name, partitions, **config):
        admin = AdminClient({"bootstrap.servers": self._own})
        topic = NewTopic(name, partitions, 1, config=config)
        for done in admin.create_topics([topic], operation_timeout=PATIENCE_S).values():
            done.result(PATIENCE_S)


class Mock(_Reading):
    """librdkafka's mock cluster of one broker. Topics make themselves, but for those it denies."""

    def __init__(self, directory):
        self.process = subprocess.Popen(
            [MOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.address = self.process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def _tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ok\n"

    def start(self):
        self._tell("up")

    def kill(self):
        self._tell("down")

    def stand_still(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def deny_topic(self, name):
        self._tell(f"error {name} {_UNKNOWN_TOPIC}")

    def add_topic(self, name, partitions):
        self._tell(f"topic {name} {partitions}")
        self._tell(f"error {name} 0")


def broker(directory):
    """The best there is."""
    return Broker(directory) if HAS_BROKER else Mock(directory)
