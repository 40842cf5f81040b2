"""``roundhouse prices``: what models cost. Straight on the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.errors import AskedWrongly, CliError
from gateway.cli.key_options import given
from gateway.cli.options import DryRun, HomeFolder, Json
from gateway.cli.output import say, show_json, show_table
from gateway.cli.store_access import changed, known, plain, show_change

if TYPE_CHECKING:
    from decimal import Decimal

    from models.store.tenancy import HouseRecord, PriceLine, PriceList

app = typer.Typer(help="Price lists: by token, request, GPU-second and GiB-second.", rich_markup_mode=None)
UNITS = ("input_token", "cached_token", "output_token", "gpu_second", "gib_second", "request")
ListName = Annotated[str, typer.Argument(metavar="LIST", help="Its name, such as standard", show_default=False)]
ModelPattern = Annotated[
    str, typer.Argument(metavar="MODEL", help="A model's id or a pattern: org/*", show_default=False)
]
_PRICE = "0.0000025, or 2.50/1M of a million"
_TIME = "0.001, or 3.60/1h of an hour"


def _unit(option: str, help_text: str) -> Any:
    return typer.Option(option, metavar="PRICE", help=help_text, show_default=False)


@app.command("set")
def change(
    name: ListName,
    model: ModelPattern,
    input_token: Annotated[str | None, _unit("--input", f"Of a token of the prompt: {_PRICE}")] = None,
    cached_token: Annotated[str | None, _unit("--cached", "Of one that was cached; default: as any")] = None,
    output_token: Annotated[str | None, _unit("--output", "Of a token of the answer")] = None,
    gpu_second: Annotated[str | None, _unit("--gpu-second", f"Of a whole GPU: {_TIME}")] = None,
    gib_second: Annotated[str | None, _unit("--gib-second", "Of GPU memory")] = None,
    request: Annotated[str | None, _unit("--request", "Of a request")] = None,
    default: Annotated[bool, typer.Option("--default", help="It counts for tenants that have no list.")] = False,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Price a model in a list, which is made if there is none of the name; units that are not named stay as they are.
    The first line that fits a model counts; a line goes before those that fit all of its models."""
    from models.store.house_edits import Changed, price_setting
    from models.store.tenants import Tenancy

    prices = _prices(given(
        input_token=input_token, cached_token=cached_token, output_token=output_token, gpu_second=gpu_second,
        gib_second=gib_second, request=request,
    ))  # fmt: skip
    if not prices and not default:
        raise AskedWrongly(
            "no price is given", code="usage", cure=f"roundhouse prices set {name} {model} --input 2.50/1M"
        )

    def work(known: Tenancy, _: float) -> Changed:
        return price_setting(known, with_line(known.house, name, model, prices), default=default)

    house = changed(home, work, dry_run=dry_run)
    found = house.price_lists[name]
    show_change(f"{model} in {name}: {_said(found, model)} {house.currency}", plain(found), json=json, dry_run=dry_run)


@app.command()
def show(
    name: Annotated[str | None, typer.Argument(metavar="LIST", help="Without it: all", show_default=False)] = None,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Price lists, line by line, in the order in which they count."""
    house = known(home).house
    lists = [house.price_lists[each] for each in sorted(house.price_lists) if name in (None, each)]
    if name is not None and not lists:
        raise CliError(f"there is no price list {name!r}", code="price_list_not_found", cure="roundhouse prices list")
    if json:
        show_json(
            {"currency": house.currency, "default": house.default_price_list, "data": [plain(one) for one in lists]}
        )
        return
    rows = (
        (one.name, line.model, *(_cell(getattr(line, unit)) for unit in UNITS)) for one in lists for line in one.lines
    )
    columns = ("LIST", "MODEL", *(unit.replace("_", " ").upper() for unit in UNITS))
    show_table(columns, rows, "There are no prices: what models' cards say counts. Set one: roundhouse prices set")


@app.command("list")
def list_all(home: HomeFolder = None, json: Json = False) -> None:
    """The names of price lists, and who goes by them."""
    found = known(home)
    house = found.house
    rows = []
    for name in sorted(house.price_lists):
        users = [one.tenant_id for one in found.tenants.values() if one.price_list == name]
        rows.append({
            "name": name, "lines": len(house.price_lists[name].lines), "default": name == house.default_price_list,
            "tenants": sorted(users),
        })  # fmt: skip
    if json:
        show_json({"object": "list", "currency": house.currency, "version": house.version, "data": rows})
        return
    shown = ((row["name"], row["lines"], "yes" if row["default"] else "", ", ".join(row["tenants"])) for row in rows)  # type: ignore[arg-type]
    show_table(("LIST", "LINES", "DEFAULT", "TENANTS"), shown, "There are no price lists.")
    if rows:
        say(f"in {house.currency}; version {house.version}")


@app.command()
def delete(
    name: ListName,
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Only this line", show_default=False)] = None,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Delete a price list that nobody goes by, or one of its lines."""
    from models.store.house_edits import Changed, price_deleting, price_setting
    from models.store.tenants import Tenancy

    def work(known: Tenancy, _: float) -> Changed:
        if model is None:
            return price_deleting(known, name)
        return price_setting(known, without_line(known.house, name, model))

    house = changed(home, work, dry_run=dry_run)
    said = f"{name if model is None else f'{model} in {name}'} is deleted"
    show_change(said, {"lists": sorted(house.price_lists)}, json=json, dry_run=dry_run)


def with_line(house: HouseRecord, name: str, model: str, prices: dict[str, Decimal]) -> Any:
    """The list with this line: a new one goes before what fits all of its models, so that it counts."""
    import msgspec

    from models.store.checks import covers, is_pattern
    from models.store.tenancy import PriceLine, PriceList

    found = house.price_lists.get(name, PriceList(name=name))
    lines = list(found.lines)
    at = next((index for index, line in enumerate(lines) if line.model == model), None)
    if at is not None:
        lines[at] = msgspec.structs.replace(lines[at], **prices)
    else:
        new = PriceLine(model=model, **prices)
        wider = (
            index
            for index, line in enumerate(lines)
            if covers(line.model, model) or (is_pattern(line.model) and not is_pattern(model))
        )
        lines.insert(next(wider, len(lines)), new)
    return PriceList(name=name, lines=tuple(lines))


def without_line(house: HouseRecord, name: str, model: str) -> Any:
    """Raises CliError."""
    from models.store.tenancy import PriceList

    found = house.price_lists.get(name, PriceList(name=name))
    lines: tuple[PriceLine, ...] = tuple(line for line in found.lines if line.model != model)
    if len(lines) == len(found.lines):
        raise CliError(
            f"the list {name!r} has no line {model!r}", code="price_not_found", cure="roundhouse prices show"
        )
    return PriceList(name=name, lines=lines)


def _prices(options: dict[str, str]) -> dict[str, Decimal]:
    from models.catalog.errors import WrongValue
    from models.store.price_text import parse_price

    try:
        return {unit: parse_price(text) for unit, text in options.items()}
    except WrongValue as wrong:
        raise AskedWrongly(wrong.message, code="usage", cure=wrong.cure) from None


def _said(prices: PriceList, model: str) -> str:
    line = next(line for line in prices.lines if line.model == model)
    return (
        ", ".join(f"{unit.replace('_', ' ')} {cell}" for unit in UNITS if (cell := _cell(getattr(line, unit))))
        or "free"
    )


def _cell(price: Decimal | None) -> str:
    return format(price, "f") if price else ""
