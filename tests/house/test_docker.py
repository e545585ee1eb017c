"""The files of docker/, as far as they can be judged without an engine: they agree with each other
and with the rest of the repository. docker/check.sh carries the Dockerfile out."""
import http.server
import os
import pathlib
import re
import subprocess
import threading

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
CELLGATE = os.environ["CELLGATE"]


def instructions():
    """The Dockerfile's instructions as (name, rest), continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line.strip()]


def last(name):
    return [rest for instruction, rest in instructions() if instruction == name][-1]


def stages():
    found = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())


def test_the_build_stage_installs_what_run_sh_installs():
    build = stages()[0]
    assert ("COPY", "packages.sh ./") in build
    installs = [rest for name, rest in build if name == "RUN" and "install_packages" in rest]
    assert installs == [". ./packages.sh && install_packages $BUILD_PACKAGES"]
    assert not any("apt-get" in rest for _, rest in build)


def test_the_image_runs_as_its_own_user_and_starts_the_program_itself():
    runtime = stages()[-1]
    assert last("USER") == "9464:9464"
    after = runtime[[name for name, _ in runtime].index("USER") + 1:]
    assert {name for name, _ in after}.isdisjoint({"RUN", "COPY", "ADD", "USER"})
    assert last("ENTRYPOINT") == '["/usr/local/bin/cellgate"]'
    assert last("STOPSIGNAL") == "SIGTERM"


def test_the_runtime_stage_has_no_development_packages():
    installs = [rest for name, rest in stages()[-1] if name == "RUN" and "apt-get install" in rest]
    packages = re.search(r"--no-install-recommends([^&]*)&&", installs[0]).group(1).split()
    assert len(installs) == 1
    assert "ca-certificates" in packages and len(packages) == len(set(packages))
    assert [p for p in packages if p.endswith("-dev")] == []


def test_what_is_copied_exists_and_is_let_through():
    let_through = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = []
    for name, rest in instructions():
        if name == "COPY" and "--from" not in rest:
            copied += rest.split()[:-1]
    assert sorted(let_through) == sorted(s.removeprefix("./") for s in copied)
    assert [s for s in copied if not (ROOT / s).exists()] == []


def test_the_label_says_the_version_that_is_built():
    project = re.search(r"project\(cellgate VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text())
    label = re.search(r'image\.version="(.*?)"', (DOCKER / "Dockerfile").read_text())
    assert label.group(1) == project.group(1)


def test_the_configuration_is_good_and_fits_the_compose_file(compose):
    path = DOCKER / "cellgate.yaml"
    result = subprocess.run([CELLGATE, "check", "--config", path], capture_output=True, text=True,
                            timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "ok: 2 cells, 1 exporter\n", "")
    config = yaml.safe_load(path.read_text())
    gateway = compose["services"]["gateway"]
    mounts = {volume.rsplit(":", 1)[-1] for volume in gateway["volumes"]}
    assert config["ingress"]["roots"] == ["/run/vm"] and "/run/vm" in mounts
    assert config["spool"]["dir"].startswith("/var/lib/cellgate/") and "/var/lib/cellgate" in mounts
    assert config["control"]["socket"].startswith("/run/cellgate/") and "/run/cellgate" in mounts
    assert config["http"]["listen"].endswith(":" + last("EXPOSE"))
    collector = yaml.safe_load((DOCKER / "collector.yaml").read_text())["receivers"]["webhook_event"]
    port = collector["endpoint"].rsplit(":", 1)[1]
    assert config["exporters"][0]["url"] == f"http://collector:{port}{collector['path']}"


def test_compose_mounts_files_that_exist(compose):
    for service in compose["services"].values():
        for volume in service["volumes"]:
            if volume.startswith("./"):
                assert (DOCKER / volume.split(":")[0]).is_file(), volume
            elif not volume.startswith("${"):
                assert volume.split(":")[0] in compose["volumes"], volume
    build = compose["services"]["gateway"]["build"]
    assert (DOCKER / build["context"] / build["dockerfile"]).samefile(DOCKER / "Dockerfile")


def test_compose_takes_away_what_no_service_needs(compose):
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_compose_pins_every_image(compose):
    for name, service in compose["services"].items():
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"]), name


def test_prometheus_scrapes_services_that_there_are(compose):
    scrapes = yaml.safe_load((DOCKER / "prometheus.yml").read_text())["scrape_configs"]
    targets = [t for s in scrapes for c in s["static_configs"] for t in c["targets"]]
    config = yaml.safe_load((DOCKER / "cellgate.yaml").read_text())
    assert targets == ["gateway:9464", "collector:8888"]
    assert {t.split(":")[0] for t in targets} <= set(compose["services"])
    assert config["http"]["hosts"] == ["gateway"]


@pytest.mark.parametrize("status, code", [(200, 0), (503, 1)])
def test_the_health_check_tells_ready_from_not_ready(status, code):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Host"]))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        result = subprocess.run([DOCKER / "ready.sh", "127.0.0.1", str(server.server_port)],
                                capture_output=True, text=True, timeout=60)
        thread.join()
    assert (result.returncode, result.stdout) == (code, f"/readyz: {status}\n")
    assert asked == [("/readyz", "localhost")]


def test_the_health_check_fails_when_nobody_listens():
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        port = server.server_port
    result = subprocess.run([DOCKER / "ready.sh", "127.0.0.1", str(port)], capture_output=True,
                            timeout=60)
    assert result.returncode == 1
