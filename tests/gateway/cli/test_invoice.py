"""``roundhouse invoice``: on the screen, as CSV, as a page, as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import usage_documents as shapes
from tests.gateway.cli.conftest import Cli
from tests.gateway.cli.fake_admin import FakeAdmin

PATH = "invoices/acme/2026-11"
CSV = b"invoice,tenant\r\n2026-11-acme,acme\r\n"
PAGE = "<!doctype html>\n<title>Invoice – ä</title>\n".encode()


@pytest.fixture
def billed(admin: FakeAdmin) -> FakeAdmin:
    def line(model: str, amount: str) -> shapes.InvoiceLineView:
        return shapes.InvoiceLineView(
            project="web", model=model, requests=1234, input_tokens=10, cached_tokens=4, output_tokens=20,
            gpu_seconds="1.5", start_gpu_seconds="0", gib_seconds="3", amount=amount,
        )  # fmt: skip

    admin.documents[PATH] = shapes.InvoiceView(
        number="2026-11-acme", tenant="acme", name="Acme Rail", month="2026-11", final=False, currency="EUR",
        amount_due="1.50", total="1.505", lines=(line("m", "1.5"), line("n", "0.005")), keys=(), days=(),
    )  # fmt: skip
    admin.texts[PATH] = {"csv": CSV, "html": PAGE}
    return admin


def test_on_the_screen(cli: Cli, billed: FakeAdmin) -> None:
    shown = cli("invoice", "acme", "2026-11")
    lines = shown.out.splitlines()
    assert lines[0] == "Acme Rail (acme), 2026-11: 1.50 EUR"
    assert lines[2].split() == ["web", "m", "1,234", "10", "4", "20", "1.5", "0", "3", "1.5"]
    assert (lines[-1].split()[0], lines[-1].split()[-1]) == ("total", "1.505")
    assert "not final" in shown.err


def test_as_json_and_csv_as_the_service_said(cli: Cli, billed: FakeAdmin) -> None:
    assert cli("invoice", "acme", "2026-11", "--json").json["total"] == "1.505"
    assert cli("invoice", "acme", "2026-11", "--csv").out.encode() == CSV


def test_as_a_page_in_a_file(cli: Cli, billed: FakeAdmin, tmp_path: Path) -> None:
    to = tmp_path / "invoice.html"
    assert cli("invoice", "acme", "2026-11", "--html", str(to)).out == f"{to}\n"
    assert to.read_bytes() == PAGE
    assert list(tmp_path.glob("*.part")) == []


def test_a_file_that_cannot_be_written(cli: Cli, billed: FakeAdmin, tmp_path: Path) -> None:
    said = cli("invoice", "acme", "2026-11", "--html", str(tmp_path / "none" / "x.html"))
    assert said.status == 1
    assert "cannot be written: No such file or directory" in said.err


def test_one_form_at_a_time(cli: Cli, billed: FakeAdmin) -> None:
    assert cli("invoice", "acme", "2026-11", "--csv", "--json").error["code"] == "usage"
    assert billed.asked == []


def test_odd_ids_stay_within_their_place_of_the_path(cli: Cli, billed: FakeAdmin) -> None:
    billed.refuse["/admin/v1/invoices/a/b/../2026-11"] = (404, "There is no tenant 'a/b'.", "tenant_not_found")
    said = cli("invoice", "a/b", "../2026-11", "--json")
    assert said.error["code"] == "tenant_not_found"
