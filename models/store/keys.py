"""Every Redis key and channel, in one place. ``prefix`` separates installations that share a server.

| key | type | written by | holds |
| --- | --- | --- | --- |
| routes | string | controller | RouteTable (JSON); a change is announced on ``routes_channel`` with the version |
| demand(worker) | string, expires | gateway worker | DemandReport; announced on ``demand_channel`` as well |
| commands | list | admin API | Command, pushed right, popped left by the controller |
| reply(id) | list, expires | controller | one CommandReply |
| fleet | string | controller | FleetRecord |
| catalog | string | controller | list of ModelRecord |
| decisions | stream, capped | controller | field ``d``: DecisionRecord |
| history | string | controller | what it knows of each model's past (``models.control.history``) |
| meters | string, expires | controller | ControlMeters: what it counts, for /metrics |
| snapshot | string, expires | controller | what it decided last and from what, on order |
| recording | stream, capped, expires | controller | ``l``: a line of a recording, ``n``: its number |
| api_keys | hash | CLI, admin API | SHA-256 hex of the key -> KeyRecord; announced on ``api_keys_channel`` |
| controller_epoch | string | controller | the number of the controller in office; each new one takes the next |
| controller_lease | string, expires | controller | the same, while it lives |
| cluster | string | controller | ClusterRecord: whose keys these are |
| commands_taken | list | controller | Commands that are not answered yet: a new controller goes on with them |
| decisions_written | string | controller | "epoch decisions pictures": how many of each it has written |
| set_aside(name) | any | controller | what lay under ``name`` and could not be read |
| kept(kind, owner) | hash | gateway | id -> a KeptResponse, FileRecord or BatchRecord of one API key |
| kept_index(kind, owner) | sorted set | gateway | ids of those, by what orders them |
| kept_bytes(kind, owner) | hash | gateway | id -> bytes it counts for, ``*`` -> all of them |
| kept_due(kind) | sorted set | gateway | ``owner/id`` -> Unix seconds at which it expires |
| response_jobs | sorted set | gateway | ``owner/id`` of background responses -> until when a worker has them |
| response_orders | hash | gateway | ``owner/id`` -> Job: what is to be asked in the background |
| files_due | sorted set | gateway | ``owner/id`` of files -> Unix seconds at which they expire |
| batches_open(place) | sorted set | gateway | ``owner/id`` of batches that have not ended, by creation |
| batch_lease(place) | string, expires | gateway | the worker that runs batches |
| tenants | hash | CLI, admin API | tenant id -> TenantRecord |
| house | string | CLI, admin API | HouseRecord |
| tenancy_version | string | CLI, admin API | one more with each change of those and of keys; on ``tenancy_channel`` |
| audit | stream, capped | CLI, admin API | field ``a``: AuditRecord |
| limit(place, rule) | hash, expires | gateway | what is used, by slots of its window; what workers have in hand |
| limit_notes(worker) | hash, expires | gateway | its counters that may have something reserved -> their rule |
| alerts | stream, capped | gateway, meter | field ``a``: Alert, what webhooks are to be told |
| alert_told(place) | string, expires | gateway | its webhooks were told, and for a while are not again |
| webhooks_read | string | meter | the alert up to which webhooks have their deliveries |
| webhooks_due | sorted set | meter | id of a delivery -> Unix seconds at which it is tried next |
| webhooks_open | hash | meter | id of a delivery -> Delivery (``gateway.billing.deliveries``) |
| webhooks_counts | hash | meter | delivered, failed, given_up -> how many |
| usage_events | stream | meter | field ``e``: UsageEvent, once each; trimmed when settled |
| usage_shipped | hash | meter | spool -> how far it is in ``usage_events`` |
| usage_watermarks | hash | meter | worker -> Watermark |
| usage_remains | hash | meter | worker that has died -> Remains: what its budgets were not told |
| gpu_timeline | stream | controller | field ``g``: GpuPicture; trimmed when settled |
| usage_settling | string | meter | how far the settling is, and what it goes on from |
| usage_lease | string, expires | meter | the process that settles |
| usage_settled | stream, capped | meter | field ``e``: SettledEvent |
| usage_hour(hour), usage_day(day) | hash, expires | meter | dimensions and metric -> sum (``models.store.usage``) |
| usage_sink | string, expires | meter | SinkStatus (``gateway.billing.sink``) |
| usage_anomalies | hash | meter | key id -> the Anomaly that was seen last (``gateway.billing.anomalies``) |
| gpu_seconds | stream, capped | meter | field ``g``: SecondOfGpus (``models.store.usage``) |
| usage_prices | string | meter | the prices over time (``gateway.billing.pricing``) |
| usage_meters | hash | meter | machine -> MeterStatus (``models.store.usage``) |
| gpu_hour(hour), gpu_day(day) | hash, expires | meter | dimensions of GPU time -> nanoseconds |
"""

from __future__ import annotations

from dataclasses import dataclass

DECISIONS_MAX = 10_000
PICTURES_MAX = 1_000_000  # of GPUs that nobody has settled: about 500 MB
RECORDING_BYTES_MAX = 64 << 20
RECORDING_TTL_S = 600
SNAPSHOT_TTL_S = 60
METERS_TTL_S = 60
DEMAND_TTL_S = 3.0
REPLY_TTL_S = 60
BATCH_LEASE_S = 10.0


@dataclass(frozen=True, slots=True)
class Keys:
    prefix: str = "roundhouse"

    @property
    def routes(self) -> str:
        return f"{self.prefix}:routes"

    @property
    def routes_channel(self) -> str:
        return f"{self.prefix}:routes:changed"

    def demand(self, worker: str) -> str:
        return f"{self.prefix}:demand:{worker}"

    @property
    def demand_pattern(self) -> str:
        return f"{self.prefix}:demand:*"

    @property
    def demand_channel(self) -> str:
        return f"{self.prefix}:demand-changed"

    @property
    def commands(self) -> str:
        return f"{self.prefix}:commands"

    def reply(self, command_id: str) -> str:
        return f"{self.prefix}:reply:{command_id}"

    @property
    def fleet(self) -> str:
        return f"{self.prefix}:fleet"

    @property
    def catalog(self) -> str:
        return f"{self.prefix}:catalog"

    @property
    def decisions(self) -> str:
        return f"{self.prefix}:decisions"

    @property
    def history(self) -> str:
        return f"{self.prefix}:history"

    @property
    def meters(self) -> str:
        return f"{self.prefix}:meters"

    @property
    def snapshot(self) -> str:
        return f"{self.prefix}:snapshot"

    @property
    def recording(self) -> str:
        return f"{self.prefix}:recording"

    @property
    def api_keys(self) -> str:
        return f"{self.prefix}:api-keys"

    @property
    def api_keys_channel(self) -> str:
        return f"{self.prefix}:api-keys:changed"

    @property
    def controller_lease(self) -> str:
        return f"{self.prefix}:controller-lease"

    @property
    def controller_epoch(self) -> str:
        return f"{self.prefix}:controller-epoch"

    @property
    def cluster(self) -> str:
        return f"{self.prefix}:cluster"

    @property
    def commands_taken(self) -> str:
        return f"{self.prefix}:commands-taken"

    @property
    def decisions_written(self) -> str:
        return f"{self.prefix}:decisions-written"

    def set_aside(self, key: str) -> str:
        """``key``: one of the others."""
        return f"{self.prefix}:set-aside{key.removeprefix(self.prefix)}"

    def kept(self, kind: str, owner: str) -> str:
        """``kind``: responses, files or batches. Few keys hold many records: some readers here scan all keys."""
        return f"{self.prefix}:kept:{kind}:{owner}"

    def kept_index(self, kind: str, owner: str) -> str:
        return f"{self.prefix}:kept-index:{kind}:{owner}"

    def kept_bytes(self, kind: str, owner: str) -> str:
        return f"{self.prefix}:kept-bytes:{kind}:{owner}"

    def kept_due(self, kind: str) -> str:
        return f"{self.prefix}:kept-due:{kind}"

    @property
    def response_jobs(self) -> str:
        return f"{self.prefix}:response-jobs"

    @property
    def response_orders(self) -> str:
        return f"{self.prefix}:response-orders"

    @property
    def files_due(self) -> str:
        return f"{self.prefix}:files-due"

    def batches_open(self, place: str) -> str:
        """``place``: a disk that has their files; only who sees it can work them off."""
        return f"{self.prefix}:batches-open:{place}"

    def batch_lease(self, place: str) -> str:
        return f"{self.prefix}:batch-lease:{place}"

    @property
    def tenants(self) -> str:
        return f"{self.prefix}:tenants"

    @property
    def house(self) -> str:
        return f"{self.prefix}:house"

    @property
    def tenancy_version(self) -> str:
        return f"{self.prefix}:tenancy-version"

    @property
    def tenancy_channel(self) -> str:
        return f"{self.prefix}:tenancy:changed"

    @property
    def audit(self) -> str:
        return f"{self.prefix}:audit"

    def limit(self, place: str, rule: str) -> str:
        """``place``: key:ID, project:TENANT/NAME, tenant:ID or model:house. ``rule``: its name."""
        return f"{self.prefix}:limit:{place}:{rule}"

    def limit_notes(self, worker: str) -> str:
        return f"{self.prefix}:limit-notes:{worker}"

    @property
    def alerts(self) -> str:
        return f"{self.prefix}:alerts"

    def alert_told(self, place: str) -> str:
        return f"{self.prefix}:alerts:told:{place}"

    @property
    def webhooks_read(self) -> str:
        return f"{self.prefix}:webhooks:read"

    @property
    def webhooks_due(self) -> str:
        return f"{self.prefix}:webhooks:due"

    @property
    def webhooks_open(self) -> str:
        return f"{self.prefix}:webhooks:open"

    @property
    def webhooks_counts(self) -> str:
        return f"{self.prefix}:webhooks:counts"

    @property
    def usage_events(self) -> str:
        return f"{self.prefix}:usage:events"

    @property
    def usage_shipped(self) -> str:
        return f"{self.prefix}:usage:shipped"

    @property
    def usage_watermarks(self) -> str:
        return f"{self.prefix}:usage:watermarks"

    @property
    def usage_remains(self) -> str:
        return f"{self.prefix}:usage:remains"

    @property
    def gpu_timeline(self) -> str:
        return f"{self.prefix}:gpu-timeline"

    @property
    def usage_settling(self) -> str:
        return f"{self.prefix}:usage:settling"

    @property
    def usage_lease(self) -> str:
        return f"{self.prefix}:usage:lease"

    @property
    def usage_settled(self) -> str:
        return f"{self.prefix}:usage:settled"

    @property
    def usage_sink(self) -> str:
        return f"{self.prefix}:usage:sink"

    @property
    def usage_anomalies(self) -> str:
        return f"{self.prefix}:usage:anomalies"

    @property
    def gpu_seconds(self) -> str:
        return f"{self.prefix}:gpu-time:seconds"

    @property
    def usage_prices(self) -> str:
        return f"{self.prefix}:usage:prices"

    @property
    def usage_meters(self) -> str:
        return f"{self.prefix}:usage:meters"

    def usage_hour(self, hour: str) -> str:
        """``hour``: 2026-11-22T08, in UTC."""
        return f"{self.prefix}:usage:hour:{hour}"

    def usage_day(self, day: str) -> str:
        """``day``: 2026-11-22, in UTC."""
        return f"{self.prefix}:usage:day:{day}"

    def gpu_hour(self, hour: str) -> str:
        return f"{self.prefix}:gpu-time:hour:{hour}"

    def gpu_day(self, day: str) -> str:
        return f"{self.prefix}:gpu-time:day:{day}"
