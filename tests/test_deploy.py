"""The files in deploy/: read as their programs read them, and run as far as one machine can.

No Docker daemon, Kubernetes or Slurm is needed; docs/deploy.md says what was run besides.
"""

import fnmatch
import json
import re
import shlex
import shutil
import subprocess

import jsonschema
import pytest
import yaml
from conftest import ROOT

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd/ist-jax.service"
SBATCH = DEPLOY / "slurm/train.sbatch"
SAVED, MISTAKE = 75, 2


def instructions(path=DEPLOY / "docker/Dockerfile"):
    """(instruction, the rest of its line) of a Dockerfile."""
    text = re.sub(r"(?m)^#.*\n", "", path.read_text()).replace("\\\n", "")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def unit():
    """(section, key) -> values of a systemd unit."""
    found, section = {}, None
    for line in UNIT.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault((section, key), []).append(value)
    return found


def objects():
    """Kubernetes' objects by their kind."""
    return {
        one["kind"]: one for one in yaml.safe_load_all((DEPLOY / "kubernetes/job.yaml").read_text())
    }


def test_no_registry_is_named_and_the_user_is_not_root():
    found = instructions()
    (image,) = [rest for word, rest in found if word == "FROM"]
    assert image == "python:3.11-slim"
    users = [rest for word, rest in found if word == "USER"]
    assert users[-1].isdecimal(), "Kubernetes cannot tell of a name that it is not root"
    assert int(users[-1]) > 0
    for path in DEPLOY.rglob("*"):
        assert not path.is_file() or not re.search(
            r"https?://|[\w-]+\.(io|org|com)/", path.read_text()
        )


def test_the_command_is_process_1_and_gets_sigterm():
    """The form without a shell, which would not pass the signal on."""
    found = dict(instructions())
    assert json.loads(found["ENTRYPOINT"]) == ["ist-jax"]
    assert json.loads(found["CMD"]) == ["train", "--help"]
    assert found["STOPSIGNAL"] == "SIGTERM"


def test_what_is_copied_is_there_and_is_let_through_and_nothing_else():
    lines = (DEPLOY / "docker/Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {name for word, rest in instructions() if word == "COPY" for name in rest.split()[:-1]}
    assert copied == let
    assert all((ROOT / name).exists() for name in copied)
    assert fnmatch.fnmatch("ist_jax/run/__pycache__", f"*{rules[-1].removeprefix('**')}")


STRING, COUNT = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 1}
NAME = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}


def record(required, **more):
    """An object that has these fields, perhaps more of those, and no other."""
    return {
        "type": "object",
        "properties": {**required, **more},
        "required": [*required],
        "additionalProperties": False,
    }


def listed(item):
    return {"type": "array", "items": item, "minItems": 1}


CODES = record({"operator": {"enum": ["In", "NotIn"]}, "values": listed({"type": "integer"})})
CONDITION = record({"type": STRING, "status": {"enum": ["True", "False", "Unknown"]}})
RULE = record(
    {"action": {"enum": ["FailJob", "FailIndex", "Ignore", "Count"]}},
    onExitCodes=CODES,
    onPodConditions=listed(CONDITION),
)
FLAG = {"type": "boolean"}
CONTAINER = record(
    {"name": NAME, "image": STRING},
    args=listed(STRING),
    ports=listed(record({"containerPort": COUNT})),
    resources=record({"requests": record({"cpu": STRING, "memory": STRING})}),
    securityContext=record(
        {}, allowPrivilegeEscalation=FLAG, capabilities=record({"drop": listed(STRING)})
    ),
    volumeMounts=listed(record({"name": NAME, "mountPath": STRING})),
)
POD = record(
    {"containers": listed(CONTAINER), "restartPolicy": {"enum": ["Never", "OnFailure"]}},
    subdomain=NAME,
    terminationGracePeriodSeconds=COUNT,
    automountServiceAccountToken=FLAG,
    securityContext=record({}, runAsNonRoot=FLAG, runAsUser=COUNT, fsGroup=COUNT),
    volumes=listed(record({"name": NAME, "persistentVolumeClaim": record({"claimName": NAME})})),
)
LABELS = record({"app": NAME})
SPECS = {
    ("v1", "Service"): record(
        {"ports": listed(record({"name": NAME, "port": COUNT})), "selector": LABELS},
        clusterIP={"enum": ["None"]},
        publishNotReadyAddresses=FLAG,
    ),
    ("v1", "PersistentVolumeClaim"): record(
        {
            "accessModes": listed({"enum": ["ReadWriteMany"]}),
            "resources": record({"requests": record({"storage": STRING})}),
        }
    ),
    ("batch/v1", "Job"): record(
        {"template": record({"metadata": record({"labels": LABELS}), "spec": POD})},
        completionMode={"enum": ["Indexed", "NonIndexed"]},
        completions=COUNT,
        parallelism=COUNT,
        backoffLimit=COUNT,
        podReplacementPolicy={"enum": ["Failed"]},
        podFailurePolicy=record({"rules": listed(RULE)}),
    ),
}


def test_the_objects_of_kubernetes_have_its_fields_and_types():
    """By the parts of its schemas that they use; and by the whole of them, where they are."""
    assert set(objects()) == {"Service", "PersistentVolumeClaim", "Job"}
    for kind, one in objects().items():
        schema = record(
            {
                "apiVersion": STRING,
                "kind": STRING,
                "metadata": record({"name": NAME}),
                "spec": SPECS[one["apiVersion"], kind],
            }
        )
        jsonschema.validate(one, schema)


def test_all_of_kubernetes_own_schemas():
    validate = pytest.importorskip("kubernetes_validate", reason="108 MB of schemas, in no extra")
    for one in objects().values():
        validate.validate(one, "1.31", strict=True)


def test_processes_of_the_job_meet_at_pod_0_and_share_a_disk():
    service, claim, job = (objects()[k] for k in ("Service", "PersistentVolumeClaim", "Job"))
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    flags = dict(arg.removeprefix("--").partition("=")[::2] for arg in container["args"][1:])
    name, port = job["metadata"]["name"], service["spec"]["ports"][0]["port"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert flags["coordinator"] == f"{name}-0.{pod['subdomain']}:{port}"
    assert container["ports"] == [{"containerPort": port}]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"], "they meet before any of them is ready"
    assert service["spec"]["selector"] == spec["template"]["metadata"]["labels"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(flags["processes"])
    assert flags["process"] == "$(JOB_COMPLETION_INDEX)"
    (volume,), (mount,) = pod["volumes"], container["volumeMounts"]
    assert volume["name"] == mount["name"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert flags["workdir"].startswith(mount["mountPath"])


def test_the_job_goes_on_after_75_and_gives_up_after_2():
    spec = objects()["Job"]["spec"]
    assert spec["template"]["spec"]["restartPolicy"] == "Never", "or there is no failure policy"
    actions = {
        code: rule["action"]
        for rule in spec["podFailurePolicy"]["rules"]
        if rule.get("onExitCodes", {}).get("operator") == "In"
        for code in rule["onExitCodes"]["values"]
    }
    assert actions == {SAVED: "Ignore", MISTAKE: "FailJob"}


def test_the_unit_restarts_after_75_and_not_after_2():
    found = unit()
    assert found["Service", "RestartForceExitStatus"] == [str(SAVED)]
    assert found["Service", "SuccessExitStatus"] == [str(SAVED)]
    assert found["Service", "RestartPreventExitStatus"] == [str(MISTAKE)]
    assert found["Service", "KillSignal"] == ["SIGTERM"]
    assert "--resume" in shlex.split(found["Service", "ExecStart"][0])


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    """Its command is replaced by one that this machine has."""
    command = "/opt/ist-jax/bin/ist-jax"
    text = UNIT.read_text()
    assert command in text

    def verify(text):
        (tmp_path / UNIT.name).write_text(text.replace(command, "/bin/true"))
        verify = ["systemd-analyze", "verify", str(tmp_path / UNIT.name)]
        return subprocess.run(verify, capture_output=True, text=True, timeout=60, check=False)

    good, bad = verify(text), verify(text.replace("KillMode=mixed", "KillMod=mixed"))
    assert (good.returncode, good.stderr) == (0, "")
    assert "KillMod" in bad.stderr, "or it would find nothing at all"


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_the_batch_script_parses_and_its_options_stand_before_any_command():
    subprocess.run(["bash", "-n", str(SBATCH)], check=True, timeout=60)
    before, _, after = SBATCH.read_text().partition("\nset ")
    assert "#SBATCH --signal=TERM@120" in before, "to the processes, not to the script (B:)"
    assert "#SBATCH --requeue" in before
    assert "#SBATCH" not in after, "Slurm reads them up to the first command"
