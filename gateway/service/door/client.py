"""How a machine asks at the door of a cluster. Blocks; for commands, and for the process that keeps a node joined."""

from __future__ import annotations

import http.client
import secrets

import msgspec

from gateway.service.door.words import (
    HELLO,
    LEAVE,
    NONCE_HEADER,
    PROOF_HEADER,
    Hello,
    Refusal,
    Welcome,
    answer_proof,
    request_proof,
    same,
)

TIMEOUT_S = 5.0


class DoorError(Exception):
    """``code``: a Refusal's, or unreachable, no_door, wrong_secret. The message says what, ``cure`` what to do."""

    def __init__(self, message: str, *, code: str, cure: str) -> None:
        super().__init__(message)
        self.code = code
        self.cure = cure


class DoorClient:
    def __init__(self, host: str, port: int, key: str, timeout_s: float = TIMEOUT_S) -> None:
        self._host, self._port, self._key, self._timeout_s = host, port, key, timeout_s

    @property
    def at(self) -> str:
        return f"{self._host}:{self._port}"

    def hello(self, hello: Hello) -> Welcome:
        """Raises DoorError."""
        return self._ask(HELLO, hello)

    def leave(self, hello: Hello) -> None:
        """Raises DoorError."""
        self._ask(LEAVE, hello)

    def _ask(self, path: str, hello: Hello) -> Welcome:
        nonce, body = secrets.token_hex(16), msgspec.json.encode(hello)
        headers = {NONCE_HEADER: nonce, PROOF_HEADER: request_proof(self._key, nonce, path, body)}
        status, proof, answer = self._send(path, body, headers)
        if not same(proof, answer_proof(self._key, nonce, status, answer)):
            raise self._strange(status, answer)
        try:
            if status != 200:
                refusal = msgspec.json.decode(answer, type=Refusal)
                raise DoorError(refusal.message, code=refusal.code, cure=refusal.cure)
            return msgspec.json.decode(answer, type=Welcome)
        except msgspec.DecodeError as problem:
            cure = "run the same version on all machines"
            raise DoorError(
                f"the head's answer is none that this version knows: {problem}", code="version_mismatch", cure=cure
            ) from None

    def _send(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers.get(PROOF_HEADER, ""), response.read()
        except http.client.HTTPException:
            raise self._strange(0, b"") from None
        except OSError as problem:
            said = "no answer in time" if isinstance(problem, TimeoutError) else problem.strerror or str(problem)
            cure = "is `roundhouse up --cluster` running there, and may this machine reach its ports? (docs/cluster.md)"
            raise DoorError(f"no head answers at {self.at}: {said}", code="unreachable", cure=cure) from None
        finally:
            connection.close()

    def _strange(self, status: int, answer: bytes) -> DoorError:
        """An answer of somebody who does not know our secret, or does not want to know it."""
        try:
            refused = status == 403 and msgspec.json.decode(answer, type=Refusal).code == "wrong_secret"
        except (msgspec.DecodeError, UnicodeDecodeError):
            refused = False
        if refused:
            cure = "copy the head's once more (`roundhouse cluster secret` shows there where it is): --secret-file FILE"
            return DoorError(f"the head at {self.at} has another secret", code="wrong_secret", cure=cure)
        cure = "name the address and port of `roundhouse up --cluster` on the head"
        return DoorError(f"what answers at {self.at} is no head of this cluster", code="no_door", cure=cure)
