"""The files of cluster/ that cannot be run here: checked against the schemas of their readers and each other."""

import copy
import gzip
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from command import ROOT
from jsonschema import Draft7Validator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli as ray_cli

from oneshot.base.jobs import job_file
from oneshot.cli.main import app
from oneshot.data.sets import data_root

FOLDER = ROOT / "cluster"
RAY = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]  # type: ignore[index]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
CLOUDS = ("aws", "gcp")


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / name).read_text())


# Kubernetes


@pytest.fixture(scope="module")
def crd(archives: Path) -> dict[str, Any]:
    """KubeRay's schema of a RayJob, stored next to the archives."""
    found = sorted((archives.parent / "schemas").glob("ray.io_rayjobs-*.yaml.gz"))
    if not found:
        pytest.skip("no schema of KubeRay beside ONESHOT_SOURCE")
    definition = yaml.load(gzip.decompress(found[-1].read_bytes()), yaml.CSafeLoader)  # safe_load takes ten seconds
    versions = definition["spec"]["versions"]
    return next(version["schema"]["openAPIV3Schema"] for version in versions if version["name"] == "v1")


def faults(value: Any, schema: dict[str, Any]) -> list[str]:
    """What Kubernetes would refuse, and the keys it would silently drop."""
    wrong = [
        f"{'.'.join(map(str, error.path))}: {error.message}" for error in Draft7Validator(schema).iter_errors(value)
    ]
    return wrong + list(unknown(value, schema, ""))


def unknown(value: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from unknown(item, schema["items"], f"{where}[]")
    elif isinstance(value, dict):
        for key, inner in value.items():
            of_key = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
            if of_key:
                yield from unknown(inner, of_key, f"{where}.{key}")
            elif where != ".metadata":  # the schema leaves this one to Kubernetes
                yield f"{where}.{key} is unknown"


def test_the_rayjob_has_nothing_that_kuberay_does_not_know(crd: dict[str, Any]) -> None:
    assert faults(read("kuberay-rayjob.yaml"), crd) == []


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (
            ["rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "imagePulPolicy"],
            "Always",
            "unknown",
        ),
        (["rayClusterSpec", "workerGroupSpecs", 0, "minReplica"], 1, "unknown"),
        (["rayClusterSpec", "workerGroupSpecs", 0, "maxReplicas"], "four", "not of type 'integer'"),
        (["rayClusterSpec", "authOptions", "mode"], "tokens", "not one of"),
        (["deletionStrategy"], {"deletionRules": [{"policy": "DeleteSelf"}]}, "'condition' is a required property"),
    ],
)
def test_the_check_of_the_rayjob_sees_faults(path: list[Any], value: Any, fault: str, crd: dict[str, Any]) -> None:
    job = copy.deepcopy(read("kuberay-rayjob.yaml"))
    place = job["spec"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert [found for found in faults(job, crd) if fault in found]


def test_the_rayjob_says_what_the_schema_cannot_know() -> None:
    spec = read("kuberay-rayjob.yaml")["spec"]
    cluster = spec["rayClusterSpec"]
    assert cluster["rayVersion"] == RAY
    assert cluster["authOptions"] == {"mode": "token"}
    assert spec["shutdownAfterJobFinishes"] is True
    for group in cluster["workerGroupSpecs"]:
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    templates = [group["template"]["spec"] for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]]
    for pod in templates:
        (container,) = pod["containers"]
        assert container["image"] == f"REGISTRY/oneshot:{VERSION}-ray{RAY}"
        assert container["resources"]["requests"] == container["resources"]["limits"]
        for name, amount in container["resources"]["limits"].items():
            assert isinstance(amount, int) or name == "memory"
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 1000
        assert {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]} == {"/shared": "shared"}
        assert [volume["name"] for volume in pod["volumes"]] == ["shared"]
    assert "nvidia.com/gpu" in templates[1]["containers"][0]["resources"]["limits"]
    environment = yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]
    assert data_root(environment["ONESHOT_DATA"]).path.startswith("/shared/")
    assert "--run /shared/" in spec["entrypoint"]


# Ray's own launcher


@pytest.mark.parametrize("cloud", CLOUDS)
def test_ray_up_accepts_the_file(cloud: str) -> None:
    config = prepare_config(read(f"{cloud}.yaml"))
    validate_config(config)
    broken = read(f"{cloud}.yaml") | {"max_worker": 4}
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config(broken))
    for node in config["available_node_types"].values():
        assert all(isinstance(amount, int) for amount in node["resources"].values())
        assert node["min_workers"] <= node["max_workers"]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_cloud_head_is_on_demand_closed_and_of_the_pinned_ray(cloud: str) -> None:
    config = prepare_config(read(f"{cloud}.yaml"))
    nodes = config["available_node_types"]
    assert config["head_node_type"] == "head"
    spot = {name: "spot" in str(node["node_config"]).lower() for name, node in nodes.items()}
    assert spot == {"head": False, "worker": True}
    head, worker = ("\n".join(config[f"{kind}_start_ray_commands"]) for kind in ("head", "worker"))
    assert "--dashboard-host=127.0.0.1" in head and "0.0.0.0" not in str(config)
    for commands in (head, worker):
        start = next(line for line in commands.split("\n") if "ray start" in line)
        assert start.index("export") < start.index("RAY_AUTH_MODE=token") < start.index("ray start")
        assert "install -d -m 700 ~/.oneshot-ray;" in start.partition(" RAY_TMPDIR=~/.oneshot-ray;")[0]
        assert start.index("RAY_TMPDIR") < start.index("ray start")
    assert config["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    assert (ROOT / config["file_mounts"]["/home/ubuntu/constraints.txt"]).is_file()
    assert any("--requirement ~/constraints.txt" in command for command in config["setup_commands"])
    # What that file pins is not installed again, possibly for another Python, as Ray's own commands would do.
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    asked = {word for command in config["head_setup_commands"] for word in re.findall(r"[\w-]+(?=[=><])", command)}
    assert not asked & pinned


# The image


def test_the_image_is_of_tracked_folders_only_and_its_user_is_not_root() -> None:
    lines = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    copied = [part for line in lines if line.startswith("COPY ") for part in line.split()[1:-1]]
    assert copied and set(copied) <= {"oneshot", "tune_jobs", "pyproject.toml", "constraints.txt"}
    let_in = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    assert [line[1:] for line in let_in if line.startswith("!")] and "*" in let_in
    assert set(copied) == {line[1:] for line in let_in if line.startswith("!")}
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["1000"]
    assert any("--constraint constraints.txt" in line for line in lines)
    assert f"oneshot:{VERSION}-ray{RAY}" in lines[1]
    # A commit that changes no file of an earlier layer does not rebuild those layers.
    assert "--build-arg COMMIT=" in lines[1] and lines.index("ARG COMMIT") > lines.index("COPY tune_jobs tune_jobs")
    assert "ENV ONESHOT_COMMIT=$COMMIT" in lines


def test_where_the_image_has_its_packages_from_is_asked_of_the_build_and_not_kept_in_its_environment() -> None:
    lines = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    (stage,) = [number for number, line in enumerate(lines) if line.startswith("FROM ")]
    (installs,) = [number for number, line in enumerate(lines) if line.startswith("RUN ") and "pip install" in line]
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        assert stage < lines.index(f"ARG {name}") < installs  # no default value: an empty one would mean no index
    assert not [line for line in lines if line.startswith("ENV ") and "PIP_" in line]


# What is installed


def test_every_dependency_is_pinned_to_one_version_that_is_meant_to_work() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}
    assert len(pins) == len(lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for group in project["optional-dependencies"].values() for line in group]
    for asked in map(Requirement, project["dependencies"] + extras):
        if asked.name == project["name"]:  # one extra names another
            continue
        assert asked.specifier.contains(pins[canonicalize_name(asked.name)]), asked


# What users are told to type

OURS = re.compile(
    r"(?<![\w/-])(?:ray (?:start|job|up|down|dashboard|list|get-auth-token)|python -m oneshot\.\w+) [^\n`|&;)>]+"
)


HERE = ("README.md", "oneshot/README.md")  # pages about this machine
MADE = {"runs/coins", "RUN", "last.toml"}  # runs given for a job, and a job that an earlier line prints


def commands() -> list[tuple[str, str]]:
    """Every command of Ray and of this program in the pages and the files of cluster/, as (file, command)."""
    found = []
    for path in [*(ROOT / page for page in HERE), *sorted(FOLDER.iterdir())]:
        if path.suffix in (".md", ".yaml"):
            text = re.sub(r" *\\\n[# ]*|\n +(?=--)", " ", path.read_text())  # a command may go on in the next line
            found += [(str(path.relative_to(ROOT)), re.split("  | #", match[0])[0]) for match in OURS.finditer(text)]
    return found


@pytest.mark.parametrize(("where", "line"), commands())
def test_the_documents_name_only_commands_and_options_that_exist(where: str, line: str) -> None:
    words = shlex.split(line)
    if words[0] == "ray":
        parse(ray_cli, words[1:])
        words = words[words.index("--") + 1 :] if "--" in words else []
    if words:
        assert words[:2] == ["python", "-m"]
        given = parse(typer.main.get_command(app), [words[2].removeprefix("oneshot."), *words[3:]])
        if given.get("job") and given["job"] not in MADE:
            assert job_file(given["job"]).is_file()
        for place in (given.get("run"), given.get("resume"), given.get("root")):
            # A job's working directory is a copy: what it keeps must be stored elsewhere.
            assert place is None or where in HERE or place.startswith(("/", "$PWD/")) or "://" in place


def parse(command: Any, arguments: list[str]) -> dict[str, Any]:
    """The parameters that a command line gives to its command. Nothing is run; a wrong command line raises."""
    context = command.context_class(command)
    while arguments and (inner := getattr(command, "get_command", lambda *_: None)(context, arguments[0])):
        command, arguments = inner, arguments[1:]
    return command.make_context(command.name, list(arguments)).params
