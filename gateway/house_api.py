"""What holds for all over HTTP: the house's rules, prices, blocks, webhooks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import Field

from gateway.documents import Version, answer, shape
from gateway.tenancy_calls import TenancyCalls
from gateway.tenancy_documents import BlockList, HouseView, PriceLists
from gateway.tenancy_fields import BlockFields, Fields, HouseFields, PriceFields, WebhookFields, webhook_of
from gateway.tenancy_views import without_secrets
from models.store import house_edits
from models.store.tenancy import Block, HouseRecord, PriceList
from models.store.tenants import Edit, Tenancy


class PriceListFields(Fields):
    """The first line that fits a model counts."""

    lines: Annotated[tuple[PriceFields, ...], Field(max_length=1000)]


def house_router(calls: TenancyCalls) -> APIRouter:
    router = APIRouter()
    _add_house(router, calls)
    _add_prices(router, calls)
    _add_blocks(router, calls)
    _add_webhooks(router, calls)
    return router


def _add_house(router: APIRouter, calls: TenancyCalls) -> None:
    @router.get("/house", responses=shape(HouseView), operation_id="show_house")
    async def show() -> Response:
        """What holds for all callers; secrets are left out."""
        known = await calls.read()
        return answer(HouseView(version=known.version, house=without_secrets(known.house)))

    @router.patch("/house", responses=shape(HouseRecord), operation_id="set_house")
    async def change(order: HouseFields, version: Version = None, dry_run: bool = False) -> Response:
        """What is left out stays as it is."""
        house = await calls.change(
            lambda known, _: house_edits.setting(known, order.given), version=version, dry_run=dry_run
        )
        return answer(without_secrets(house))


def _add_prices(router: APIRouter, calls: TenancyCalls) -> None:
    @router.get("/prices", responses=shape(PriceLists), operation_id="list_prices")
    async def prices() -> Response:
        """All price lists, and which one counts for tenants that have none of their own."""
        return answer(price_lists((await calls.read()).house))

    @router.put("/prices/{name}", responses=shape(PriceLists), operation_id="set_prices")
    async def put(
        name: str, order: PriceListFields, default: bool = False, version: Version = None, dry_run: bool = False
    ) -> Response:
        """The list of this name is this one from now on. ``default``: it also counts for all who have none."""
        prices = PriceList(name=name, lines=tuple(line.line for line in order.lines))
        house = await calls.change(
            lambda known, _: house_edits.price_setting(known, prices, default=default), version=version, dry_run=dry_run
        )
        return answer(price_lists(house))

    @router.delete("/prices/{name}", responses=shape(PriceLists), operation_id="delete_prices")
    async def delete(name: str, version: Version = None, dry_run: bool = False) -> Response:
        """Refused while anybody's prices are by it."""
        house = await calls.change(
            lambda known, _: house_edits.price_deleting(known, name), version=version, dry_run=dry_run
        )
        return answer(price_lists(house))


def _add_blocks(router: APIRouter, calls: TenancyCalls) -> None:
    @router.get("/blocks", responses=shape(BlockList), operation_id="list_blocks")
    async def blocks() -> Response:
        """Addresses, networks and keys that are refused."""
        return answer(BlockList(data=_in_force((await calls.read()).house, calls.clock.unix())))

    @router.post("/blocks", responses=shape(BlockList, 201), status_code=201, operation_id="add_block")
    async def add(order: BlockFields, dry_run: bool = False) -> Response:
        """It holds everywhere within a second."""
        house = await calls.change(
            lambda known, now_s: house_edits.block_adding(known, order.what, order.reason, now_s, order.until_unix_s),
            dry_run=dry_run,
        )
        return answer(BlockList(data=_in_force(house, calls.clock.unix())), 201)

    @router.delete("/blocks/{what:path}", responses=shape(BlockList), operation_id="remove_block")
    async def remove(what: str, dry_run: bool = False) -> Response:
        house = await calls.change(lambda known, _: house_edits.block_removing(known, what), dry_run=dry_run)
        return answer(BlockList(data=_in_force(house, calls.clock.unix())))


def _add_webhooks(router: APIRouter, calls: TenancyCalls) -> None:
    @router.post("/webhooks", responses=shape(HouseView, 201), status_code=201, operation_id="add_webhook")
    async def add(order: WebhookFields, dry_run: bool = False) -> Response:
        """One for the same URL and tenant is replaced. A secret that was not given is made, and shown this once."""

        def work(known: Tenancy, now_s: float) -> tuple[list[Edit], HouseView]:
            hook, new = webhook_of(known.house, order)
            edits, house = house_edits.webhook_adding(known, hook)
            return list(edits), HouseView(version=known.version, house=without_secrets(house), new_secrets=new)

        return answer(await calls.change(work, dry_run=dry_run), 201)

    @router.delete("/webhooks", responses=shape(HouseRecord), operation_id="remove_webhook")
    async def remove(url: Annotated[str, Query(max_length=2000)], dry_run: bool = False) -> Response:
        house = await calls.change(lambda known, _: house_edits.webhook_removing(known, url), dry_run=dry_run)
        return answer(without_secrets(house))


def price_lists(house: HouseRecord) -> PriceLists:
    return PriceLists(
        version=house.version,
        currency=house.currency,
        default=house.default_price_list,
        data=tuple(house.price_lists[name] for name in sorted(house.price_lists)),
    )


def _in_force(house: HouseRecord, now_unix_s: float) -> tuple[Block, ...]:
    return tuple(block for block in house.blocks if not house_edits.is_over(block, now_unix_s))
