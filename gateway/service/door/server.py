"""``python -m gateway.service.door``: answers machines that join the cluster of this head."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from aiohttp import web

from gateway.service.door.register import Named, Register, Taken
from gateway.service.door.words import (
    HELLO,
    LEAVE,
    LONGEST_BODY_BYTES,
    NONCE_HEADER,
    PROOF_HEADER,
    Hello,
    Refusal,
    Versions,
    Welcome,
    answer_proof,
    request_proof,
    same,
)
from models.cluster import wrong_name

log = logging.getLogger("roundhouse.door")


@dataclass(frozen=True, slots=True)
class Door:
    """``key``: for the door, of the cluster's secret. ``session``, ``simulated``: asked anew each time."""

    key: str
    head: str
    versions: Versions
    register: Register
    session: Callable[[], str | None]
    simulated: Callable[[], bool | None]
    own_redis: bool = False
    url: str | None = None
    clock: Callable[[], float] = time.monotonic

    def app(self) -> web.Application:
        app = web.Application(client_max_size=LONGEST_BODY_BYTES)
        app.router.add_post(HELLO, self._answer)
        app.router.add_post(LEAVE, self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.Response:
        nonce, body = request.headers.get(NONCE_HEADER, ""), await request.read()
        given = request.headers.get(PROOF_HEADER, "")
        if not nonce or not same(given, request_proof(self.key, nonce, request.path, body)):
            log.warning("%s asked without the cluster's secret", request.remote)
            refusal = Refusal(code="wrong_secret", message="this is another cluster's secret", cure="")
            return web.Response(status=403, body=msgspec.json.encode(refusal), content_type="application/json")
        status, answer = self._decide(request.path, body, request.remote or "")
        told = msgspec.json.encode(answer)
        proof = {PROOF_HEADER: answer_proof(self.key, nonce, status, told)}
        return web.Response(status=status, body=told, headers=proof, content_type="application/json")

    def _decide(self, path: str, body: bytes, seen_as: str) -> tuple[int, Welcome | Refusal]:
        try:
            hello = msgspec.json.decode(body, type=Hello)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            return 400, Refusal(code="invalid_request", message=str(problem), cure="")
        known_as = Named(hello.identity, hello.address)
        welcome = Welcome(head=self.head, session=self.session(), seen_as=seen_as)
        if path == LEAVE:
            if self.register.leave(hello.name, known_as):
                log.info("%s at %s has left", hello.name, hello.address)
            return 200, welcome
        refusal = self._refuse(hello)
        if refusal is None:
            try:
                # Who asks before joining may never join: only the node itself takes the name.
                take = self.register.check if hello.joining else self.register.hello
                take(hello.name, known_as, self.clock())
            except Taken as taken:
                refusal = _taken(taken)
        if refusal is not None:
            return 409, refusal
        if hello.joining:
            log.info("%s at %s asks to join", hello.name, hello.address)
            more = {"own_redis": self.own_redis, "simulated": self.simulated(), "url": self.url}
            welcome = msgspec.structs.replace(welcome, **more)
        return 200, welcome

    def _refuse(self, hello: Hello) -> Refusal | None:
        wrong = wrong_name(hello.name)
        if wrong is not None:
            return Refusal(code="invalid_request", message=wrong, cure="choose another with --name")
        return _mismatch(self.versions, hello.versions)


def _mismatch(here: Versions, there: Versions) -> Refusal | None:
    for name, shown in (("roundhouse", "Roundhouse"), ("ray", "Ray"), ("python", "Python")):
        ours, theirs = getattr(here, name), getattr(there, name)
        if ours != theirs:
            return Refusal(
                code="version_mismatch",
                message=f"the head runs {shown} {ours}, this machine {theirs}",
                cure=f"install {shown} {ours} here, or {theirs} on the head: all machines of a cluster run the same",
            )
    return None


def _taken(taken: Taken) -> Refusal:
    return Refusal(
        code="name_taken",
        message=f"another machine, at {taken.address}, goes by the name {taken.name}",
        cure="choose another with --name; a machine that is gone loses its name 15 s after it was last heard of",
    )
