"""The cost of a month, as docs/generate writes it into docs/cost.md and README.md: computed from docs/prices.json, from the
task's size and times in task-def.json, and from the VPC endpoints of infra/cloudformation.yml.
"""
import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLACES = {"ap-northeast-1": "Tokyo", "us-east-1": "N. Virginia"}
MACHINES = {"x86": "X86_64", "arm": "ARM64"}


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def setting(pattern):
    found = re.search(pattern, read("task-def.json"))
    if not found:
        raise SystemExit(f"docs/cost.py: task-def.json has no {pattern}")
    return int(found[1])


class Month:
    """What a month costs. Money is in dollars, time in hours."""

    def __init__(self):
        data = json.loads(read("docs/prices.json"))
        self.known, self.note, self.read_at = data["as_known_on"], data["note"], data["read_at"]
        self.regions, self.month = data["regions"], data["month"]
        self.vcpu = setting(r'"cpu": "(\d+)"') / 1024
        self.gb = setting(r'"memory": "(\d+)"') / 1024
        self.idle_minutes = setting(r"`ECS_TST_IDLE_TIMEOUT` `(\d+)m`")
        self.endpoints = len(re.findall("VpcEndpointType: Interface", read("infra/cloudformation.yml")))
        self.run_minutes, self.days, self.hours = self.month["run_minutes"], self.month["working_days"], self.month["hours"]

    def task_hours(self, runs_a_day):
        """Each run starts a task of its own, which waits for the idle timeout after it; a day has no more than 24 hours."""
        return self.days * min(24, runs_a_day * (self.run_minutes + self.idle_minutes) / 60)

    def task_hour(self, region, machine):
        p = self.regions[region]
        return self.vcpu * p[f"fargate_{machine}_vcpu_hour"] + self.gb * p[f"fargate_{machine}_gb_hour"] + p["ipv4_hour"]

    def log_hour(self, region):
        return self.month["log_lines_an_hour"] * self.month["log_bytes_a_line"] / 1e9 * self.regions[region]["logs_ingest_gb"]

    def fumidai(self, region, machine, runs_a_day):
        return self.task_hours(runs_a_day) * (self.task_hour(region, machine) + self.log_hour(region))

    def always_on(self, region, machine):
        return self.hours * (self.task_hour(region, machine) + self.log_hour(region))

    def instance(self, region):
        p = self.regions[region]
        return self.hours * (p["ec2_t4g_nano_hour"] + p["ipv4_hour"]) + self.month["disk_gb"] * p["ebs_gp3_gb_month"]

    def even(self, region, machine):
        """Task hours from which on the instance is cheaper."""
        return self.instance(region) / (self.task_hour(region, machine) + self.log_hour(region))


def table(head, rows):
    return "\n".join(["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows]]) + "\n"


def dollars(amount):
    return f"${amount:.2f}"


def results(m, machines):
    runs = m.month["runs_a_day"]
    head = ["region, architecture", *(f"fumidai, {n} run{'s' if n > 1 else ''} a day" for n in runs), "the same task, always on",
            "EC2 t4g.nano, always on"]
    return table(head, [[f"{region} ({PLACES[region]}), {MACHINES[machine]}", *(dollars(m.fumidai(region, machine, n)) for n in runs),
                         dollars(m.always_on(region, machine)), dollars(m.instance(region))]
                        for region in m.regions for machine in machines])


def summary():
    """README.md's part."""
    m = Month()
    return results(m, ["x86", "arm"]) + f"""
{m.vcpu:g} vCPU, {m.gb:g} GB, {m.days} working days; each run takes {m.run_minutes} minutes and has a task of its own, which waits \
{m.idle_minutes} more. Public address and log included, NAT gateway and VPC endpoints not. List prices as known on {m.known}; check \
before you rely on them.
"""


def page():
    """docs/cost.md."""
    m = Month()
    first, machine, runs = next(iter(m.regions)), "x86", m.month["runs_a_day"][1]
    p = m.regions[first]
    hours = m.task_hours(runs)
    prices = table(["price", *m.regions, "where AWS publishes it"],
                   [[name, *(f"{r[key]:g}" for r in m.regions.values()), m.read_at[source]] for name, key, source in [
                       ("Fargate, Linux on X86_64, a vCPU-hour", "fargate_x86_vcpu_hour", "fargate"),
                       ("Fargate, Linux on X86_64, a GB-hour", "fargate_x86_gb_hour", "fargate"),
                       ("Fargate, Linux on ARM64, a vCPU-hour", "fargate_arm_vcpu_hour", "fargate"),
                       ("Fargate, Linux on ARM64, a GB-hour", "fargate_arm_gb_hour", "fargate"),
                       ("CloudWatch Logs, a GB taken in", "logs_ingest_gb", "logs"),
                       ("VPC interface endpoint, an hour in one zone", "endpoint_hour", "endpoint"),
                       ("NAT gateway, an hour", "nat_hour", "nat"),
                       ("NAT gateway, a GB through it", "nat_gb", "nat"),
                       ("public IPv4 address, an hour", "ipv4_hour", "ipv4"),
                       ("EC2 t4g.nano, Linux, an hour", "ec2_t4g_nano_hour", "ec2"),
                       ("EBS gp3, a GB-month", "ebs_gp3_gb_month", "ebs")]])
    ways = table(["region", "public address (in the table above)", f"NAT gateway, {m.month['nat_gb']} GB",
                  f"{m.endpoints} interface endpoints, one zone"],
                 [[region, f"{dollars(r['ipv4_hour'] * hours)} for {hours:.1f} h",
                   dollars(m.hours * r["nat_hour"] + m.month["nat_gb"] * r["nat_gb"]), dollars(m.hours * m.endpoints * r["endpoint_hour"])]
                  for region, r in m.regions.items()])
    even = table(["region", *MACHINES.values()], [[region, *(f"{m.even(region, k):.0f} h" for k in MACHINES)] for region in m.regions])
    return f"""# The cost of a month

<!-- Made by docs/generate from docs/prices.json (prices and assumptions), task-def.json and infra/cloudformation.yml. -->

**List prices as known on {m.known}. They were not looked up since, and this project has no bill to compare with: check before you rely on
them.** They are in [prices.json](prices.json), with the assumptions; after a change `docs/generate` computes this page again.

## What is compared

- **fumidai**: the task of [task-def.json](../task-def.json), {m.vcpu:g} vCPU and {m.gb:g} GB. A run is a CI job, or a person, that needs the \
bastion for {m.run_minutes}
  minutes. The task then waits for the idle timeout ({m.idle_minutes} minutes) and ends. {m.days} working days; the runs of a day are so far apart that
  each starts a task of its own. Runs that are closer together share a task and cost less.
- **The same task, always on**: {m.hours} hours.
- **An EC2 instance, always on**: t4g.nano, {m.month['disk_gb']} GB of gp3. You have to patch its operating system.

Each of them has a public IPv4 address while it runs, which is the cheapest route to AWS's endpoints. (It permits no inbound connection:
the template's security group has no inbound rule.)

{results(m, MACHINES)}
## The formula

```
task hours = working days × min(24, runs a day × (minutes a run + idle timeout) / 60)
task hour  = vCPU × price of a vCPU-hour + GB × price of a GB-hour + address
log hour   = lines an hour × bytes a line × price of a GB taken in
fumidai    = task hours × (task hour + log hour)
always on  = {m.hours} × (task hour + log hour)
instance   = {m.hours} × (instance hour + address) + GB of disk × price of a GB-month
```

With {runs} runs a day, in {first}, on {MACHINES[machine]}:

```
task hours = {m.days} × {runs} × ({m.run_minutes} + {m.idle_minutes}) / 60 = {hours:.2f}
task hour  = {m.vcpu:g} × {p[f'fargate_{machine}_vcpu_hour']:g} + {m.gb:g} × {p[f'fargate_{machine}_gb_hour']:g} + {p['ipv4_hour']:g} = \
{m.task_hour(first, machine):.6f}
log hour   = {m.month['log_lines_an_hour']} × {m.month['log_bytes_a_line']} / 1,000,000,000 × {p['logs_ingest_gb']:g} = {m.log_hour(first):.6f}
fumidai    = {hours:.2f} × ({m.task_hour(first, machine):.6f} + {m.log_hour(first):.6f}) = {m.fumidai(first, machine, runs):.2f}
```

The log level is the definition's, `debug`. Nearly all of that log is the line `watching` each second: about 190 bytes as JSON, and 26 that
CloudWatch Logs adds for each line. At level `info` an idle task logs almost nothing.

## When the instance is cheaper

The instance is cheaper from this many task hours a month on (a month has {m.hours}):

{even}
## Reaching AWS's endpoints without a public address

A NAT gateway or interface endpoints cost by the hour, whether a bastion runs or not, and more than any bastion here. If the VPC has one
already, the bastion adds only its traffic. The endpoints are those of
[infra/cloudformation.yml](../infra/cloudformation.yml); the one for S3 is a gateway endpoint, which has no price.

{ways}
## What is not counted

Data that leaves AWS or a zone, data through endpoints, storage of logs and images, the time in which the image is pulled (Fargate charges
from then on), Fargate's minimum charge of one minute per task, tax, discounts. As far as known, AWS does not charge for sessions of Session
Manager.

## The prices

{prices}
US dollars, on demand, without tax, free tier and discounts.
"""
