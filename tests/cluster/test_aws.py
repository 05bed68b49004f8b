"""`cluster/aws.yaml` against a stand-in of EC2's interface: spot workers come when trials wait, and go with the cluster."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from cluster.conftest import SHARED, Hosts
from conftest import ROOT
from faults.conftest import assert_invariants

FILE = "~/aws.yaml"
EC2 = "AWS_ENDPOINT_URL=http://172.31.255.250:5566 AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x AWS_DEFAULT_REGION=us-west-2"
GROUP = """
import boto3
ec2 = boto3.client('ec2')
group = ec2.create_security_group(GroupName='raysweep', Description='raysweep')['GroupId']
ec2.authorize_security_group_ingress(GroupId=group, IpProtocol='tcp', FromPort=22, ToPort=22, CidrIp='10.0.0.1/32')
print(group)
"""
WORLD = """
import boto3
groups = boto3.client('ec2').describe_security_groups()['SecurityGroups']
print([r for g in groups for p in g['IpPermissions'] for r in p['IpRanges']])
"""
STUDY = """\
trainable: mlp
maximize: val_accuracy
algorithm: random
scheduler: none
trials: 6
per_trial: {cpu: 1, gpu: 0.5, accelerator: A10G}
space: {data: digits, epochs: 200, units: 64, lr: {float: [1e-4, 1e-1], log: true}}
"""


def aws(group: str) -> str:
    """The file as it is in the repository, its blanks filled in, for machines that have no way to the internet."""
    text = (ROOT / "cluster" / "aws.yaml").read_text()
    filled = {
        "<YOUR NAME>": "test",
        "<YOUR ADDRESS>": "10.0.0.1",
        "<AMI>": "ami-12c6146b",
        "<EFS>": "fs",
        "<SECURITY GROUP>": group,
        "  cache_stopped_nodes": "  use_internal_ips: true\n  cache_stopped_nodes",
        "  ssh_user: ubuntu": "  ssh_user: root\n  ssh_private_key: ~/.ssh/id_ed25519",
        "      InstanceType: m6i.xlarge": "      InstanceType: m6i.xlarge\n      KeyName: lab",
        ". ~/raysweep/cluster/env.sh;": f". ~/raysweep/cluster/env.sh; export {EC2};",
    }
    for blank, value in filled.items():
        assert blank in text, blank
        text = text.replace(blank, value)
    return text


def instances(hosts: Hosts) -> list[dict[str, str]]:
    query = "Reservations[].Instances[].{id: InstanceId, ip: PrivateIpAddress, state: State.Name, life: InstanceLifecycle}"
    code = (
        "import boto3, json, jmespath; "
        f"print(json.dumps(jmespath.search({query!r}, boto3.client('ec2').describe_instances())))"
    )
    done = hosts.run("cli", f'{EC2} python -c "{code}"')
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


@contextmanager
def bound(hosts: Hosts) -> Iterator[None]:
    """Gives each instance that EC2's stand-in starts a machine: the first free one gets its address."""
    given: dict[str, int] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            for instance in instances(hosts):
                if instance["state"] != "running" or instance["id"] in given:
                    continue
                number = given[instance["id"]] = len(given)
                own = f"10.89.0.{10 + number}/24"
                addresses = f"ip addr del {own} dev eth0; ip addr add {instance['ip']}/16 dev eth0; ip addr add {own} dev eth0"
                hosts.run(f"h{number}", addresses)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.cluster
def test_workers_come_when_trials_wait_and_go_with_the_cluster(hosts: Callable[[int], Hosts]) -> None:
    began = time.monotonic()

    def told(what: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {what}")

    cloud = hosts(4)
    docker = (ROOT / "tests" / "cluster" / "docker.sh").read_text()
    for number in range(4):
        cloud.write(f"h{number}", "/usr/bin/docker", docker)
        cloud.run(f"h{number}", "chmod +x /usr/bin/docker")
    cloud.run("cli", "ip addr add 172.31.255.250/16 dev eth0")
    server = "{ MOTO_IAM_LOAD_MANAGED_POLICIES=true setsid moto_server -H 0.0.0.0 -p 5566 >~/moto.log 2>&1 </dev/null & }"
    cloud.run("cli", server)
    key = f"{EC2} python -c \"import boto3; boto3.client('ec2').create_key_pair(KeyName='lab')\""
    deadline = time.monotonic() + 60
    while cloud.run("cli", key).returncode and time.monotonic() < deadline:
        time.sleep(1.0)
    cloud.write("cli", FILE, aws(cloud.run("cli", f'{EC2} python -c "{GROUP}"').stdout.strip()))
    cloud.write("cli", "~/study/cloud.yaml", STUDY)

    def raysweep(*arguments: str, code: int = 0) -> str:
        done = cloud.run("cli", f"{EC2} raysweep {' '.join(arguments)}", timeout=500)
        assert done.returncode == code, (
            done.stdout + cloud.run("cli", "tail -n 80 ~/.ray/raysweep-*.log").stdout
        )
        return done.stdout

    with bound(cloud):
        said = raysweep("cluster", "up", FILE)
        assert "1 nodes" in said, said
        told("up: the head alone")
        assert cloud.run("cli", f'{EC2} python -c "{WORLD}"').stdout.strip() == "[{'CidrIp': '10.0.0.1/32'}]"
        raysweep("run", "~/study/cloud.yaml", "--cluster", FILE, "--detach")
        told("the study runs as a job, and no node holds its trials")
        said = raysweep("status", "cloud", "--watch", "--cluster", FILE)
        assert "waiting for the autoscaler" in raysweep("logs", "cloud", "--cluster", FILE)
        told("the study is complete, on spot workers")
        up = [i for i in instances(cloud) if i["state"] == "running"]
        assert len(up) > 1 and sum(i["life"] == "spot" for i in up) == len(up) - 1, up
        trials = assert_invariants(SHARED / "studies" / "cloud", interval=200).trials
        assert len(trials) == 6 and all(t.status == "completed" for t in trials)
        assert not any(t.worker.startswith("h0 ") for t in trials)
        raysweep("cluster", "down", FILE)
        assert {i["state"] for i in instances(cloud)} == {"terminated"}
        told(f"down: {len(up)} machines are given back")
