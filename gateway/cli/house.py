"""``roundhouse house``: what holds for all callers. Straight on the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.errors import AskedWrongly
from gateway.cli.house_webhooks import app as webhooks_app
from gateway.cli.key_options import expires_unix_s, given, nothing_named, seconds, with_limits
from gateway.cli.options import DryRun, HomeFolder, Json
from gateway.cli.output import show_json, show_text
from gateway.cli.store_access import changed, known, plain, show_change

if TYPE_CHECKING:
    from models.store.tenancy import CoolDown, HouseRecord

app = typer.Typer(help="What holds for all: limits, prices by default, blocks, webhooks.", rich_markup_mode=None)
app.add_typer(webhooks_app, name="webhooks")
Limits = Annotated[
    list[str] | None, typer.Option("--key-limit", metavar="LIMIT", help="Of each key by itself", show_default=False)
]
NoLimits = Annotated[list[str] | None, typer.Option("--no-key-limit", metavar="NAME", show_default=False)]
ModelLimits = Annotated[
    list[str] | None,
    typer.Option(
        "--model-limit", metavar="LIMIT", help="Of all callers together: 'concurrent=64 for org/*'", show_default=False
    ),
]
NoModelLimits = Annotated[list[str] | None, typer.Option("--no-model-limit", metavar="NAME", show_default=False)]
Proxies = Annotated[
    list[str] | None,
    typer.Option(
        "--trusted-proxy", metavar="NETWORK", help="Whose x-forwarded-for counts: 10.0.0.0/8; none", show_default=False
    ),
]
Starts = Annotated[
    str | None, typer.Option("--starts", metavar="WHO", help="Bears starts: caller, owner or pool", show_default=False)
]
Idle = Annotated[
    str | None, typer.Option("--idle", metavar="WHO", help="Bears idle time: owner or pool", show_default=False)
]
Cooling = Annotated[
    str | None,
    typer.Option(
        "--cool-down",
        metavar="N/TIME:TIME",
        help="A key with N failures in TIME is refused for TIME: 100/10s:30s; off",
        show_default=False,
    ),
]


@app.command()
def show(home: HomeFolder = None, json: Json = False) -> None:
    """The house's rules; secrets of webhooks are left out."""
    from gateway.tenancy_views import without_secrets

    house = without_secrets(known(home).house)
    if json:
        show_json(plain(house))
    else:
        show_text("\n".join(_lines(house, time.time())))


@app.command("set")
def change(
    currency: Annotated[str | None, typer.Option("--currency", help="Such as USD", show_default=False)] = None,
    prices: Annotated[
        str | None, typer.Option("--prices", metavar="LIST", help="Counts for tenants without one", show_default=False)
    ] = None,
    key_limit: Limits = None,
    no_key_limit: NoLimits = None,
    model_limit: ModelLimits = None,
    no_model_limit: NoModelLimits = None,
    trusted_proxy: Proxies = None,
    starts: Starts = None,
    idle: Idle = None,
    cool_down: Cooling = None,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Change what holds for all; what is not named stays. Gateways go by it within a second."""
    from gateway.tenancy_views import without_secrets
    from models.store.house_edits import Changed, setting
    from models.store.tenants import Tenancy

    fields = given(currency=currency, default_price_list=prices)
    fields |= {} if starts is None else {"starts_charged_to": _bearer(starts, "--starts")}
    fields |= {} if idle is None else {"idle_charged_to": _bearer(idle, "--idle")}
    fields |= {} if cool_down is None else {"cool_down": parse_cool_down(cool_down)}
    if trusted_proxy is not None:
        fields["trusted_proxies"] = () if "none" in trusted_proxy else tuple(trusted_proxy)
    if not fields and key_limit is no_key_limit is model_limit is no_model_limit is None:
        raise nothing_named("house set")

    def work(known: Tenancy, _: float) -> Changed:
        limits = {}
        if key_limit is not None or no_key_limit is not None:
            limits["key_limits"] = with_limits(known.house.key_limits, key_limit, no_key_limit)
        if model_limit is not None or no_model_limit is not None:
            limits["model_limits"] = with_limits(known.house.model_limits, model_limit, no_model_limit)
        return setting(known, {**fields, **limits})

    house = without_secrets(changed(home, work, dry_run=dry_run))
    show_change("the house's rules are changed", plain(house), json=json, dry_run=dry_run)


@app.command()
def block(
    what: Annotated[str, typer.Argument(help="An address, a network (CIDR), or the id of a key", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", help="For those who find it later", show_default=False)],
    until: Annotated[
        str, typer.Option("--for", metavar="TIME", help="1h, 7d, 2026-12-31 or never", show_default=False)
    ] = "never",
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Refuse an address, a network or a key, everywhere within a second."""
    from models.store.house_edits import block_adding

    until_s = expires_unix_s(until)
    house = changed(home, lambda known, now_s: block_adding(known, what, reason, now_s, until_s), dry_run=dry_run)
    document = {"object": "list", "data": [plain(one) for one in house.blocks]}
    show_change(f"{what} is blocked: {reason}", document, json=json, dry_run=dry_run)


@app.command()
def unblock(
    what: Annotated[str, typer.Argument(help="As `house show` lists it", show_default=False)],
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Let an address, a network or a key in again."""
    from models.store.house_edits import block_removing

    house = changed(home, lambda known, _: block_removing(known, what), dry_run=dry_run)
    document = {"object": "list", "data": [plain(one) for one in house.blocks]}
    show_change(f"{what} is not blocked any more", document, json=json, dry_run=dry_run)


def parse_cool_down(text: str) -> CoolDown:
    """Raises AskedWrongly."""
    from models.store.tenancy import CoolDown

    stripped = text.strip()
    if stripped == "off":
        return CoolDown(failures=0)
    count, slash, times = stripped.partition("/")
    within, colon, refused = times.partition(":")
    if not (slash and colon and count.isdecimal()):
        raise AskedWrongly(
            f"--cool-down: {text[:40]!r} is none", code="usage", cure="write 100/10s:30s, 100 failures in 10s, or off"
        )
    within_s, for_s = seconds(within, "--cool-down"), seconds(refused, "--cool-down")
    return CoolDown(failures=int(count), within_s=within_s, for_s=for_s)


def _bearer(text: str, option: str) -> Any:
    from models.store.tenancy import Bearer

    try:
        return Bearer(text)
    except ValueError:
        cure = f"choose from {', '.join(Bearer)}"
        raise AskedWrongly(f"{option}: {text[:40]!r} bears nothing", code="usage", cure=cure) from None


def _lines(house: HouseRecord, now_unix_s: float) -> list[str]:
    from models.catalog.units import format_seconds
    from models.store.house_edits import is_over
    from models.store.limit_text import limit_text

    cool = house.cool_down
    times = f"{format_seconds(cool.within_s)}:{format_seconds(cool.for_s)}"
    facts = {
        "currency": house.currency,
        "prices": house.default_price_list or "those of models' cards",
        "limits of a key": ", ".join(map(limit_text, house.key_limits)) or "none",
        "limits of models": ", ".join(map(limit_text, house.model_limits)) or "none",
        "starts borne by": str(house.starts_charged_to),
        "idle borne by": str(house.idle_charged_to),
        "cool-down": f"{cool.failures}/{times}" if cool.failures else "off",
        "trusted proxies": ", ".join(house.trusted_proxies) or "none",
    }
    lines = [f"{name:<17} {value}" for name, value in facts.items()]
    for hook in house.webhooks:
        whose = f" of {hook.tenant}" if hook.tenant else ""
        lines.append(f"{'webhook':<17} {hook.url}{whose}: {', '.join(hook.events)}")
    for one in house.blocks:
        if not is_over(one, now_unix_s):
            lines.append(f"{'blocked':<17} {one.what}{_until(one.until_unix_s)}: {one.reason}")
    return lines


def _until(unix_s: float | None) -> str:
    return "" if unix_s is None else time.strftime(" until %Y-%m-%d %H:%M", time.localtime(unix_s))
